// What a pattern sees and costs, next to the others; no model and no ranks are needed.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.hpp"
#include "cli/options/attention_options.hpp"
#include "cli/options/command_files.hpp"
#include "cli/options/number_option.hpp"
#include "files/output_file.hpp"
#include "partition/balance.hpp"
#include "pattern/receptive_field.hpp"
#include "pattern/registry.hpp"
#include "report/pattern_svg.hpp"

namespace powerprefill::cli {

namespace {

constexpr std::int64_t kMostBlocks = 8192;  // full attention then has 34 million pairs
constexpr std::int64_t kMostLayers = 1024;
constexpr int kMostRanks = 256;

struct PatternCommandArguments {
  PatternArguments pattern;
  std::int64_t blocks = 128;
  std::int64_t layers = 6;
  int ranks = 8;
  bool json = false;
  std::string svg;
  std::string coverage_svg;
};

// What is known about one pattern.
struct Facts {
  PatternSpec spec;
  bool chosen = false;
  std::shared_ptr<const Pattern> pattern;
  PairCount pairs = {};
  ReceptiveField field = {};  // at any depth
  Balance contiguous = {};
  std::optional<Balance> zigzag = {};  // for full attention, whose partition it is

  std::size_t last_keys() const { return pattern->key_blocks(pairs.blocks - 1).size(); }
};

Facts facts_of(const PatternSpec& spec, bool chosen, const PatternCommandArguments& arguments) {
  Facts facts = {.spec = spec, .chosen = chosen, .pattern = make_pattern(spec)};
  const Pattern& pattern = *facts.pattern;
  facts.pairs = count_pairs(pattern, arguments.blocks);
  facts.field = receptive_field(pattern, arguments.blocks - 1);
  facts.contiguous =
      balance_of(pattern, Partition::contiguous(arguments.blocks, 1, arguments.ranks, 1));
  if (spec.name == "full") {
    facts.zigzag = balance_of(pattern, Partition::zigzag(arguments.blocks, 1, arguments.ranks, 1));
  }
  return facts;
}

// The chosen pattern first, then all others as the paper sets them; a mask has no such setting.
std::vector<Facts> compare(const PatternSpec& chosen, const PatternCommandArguments& arguments) {
  std::vector<Facts> all = {facts_of(chosen, true, arguments)};
  for (const PatternKind& kind : pattern_kinds()) {
    const PatternSpec spec = kind.defaults();
    if (kind.has.distances || to_json(spec) == to_json(chosen)) continue;
    all.push_back(facts_of(spec, false, arguments));
  }
  return all;
}

nlohmann::ordered_json to_json(const Balance& balance) {
  return {{"pairs", balance.pairs},
          {"max_over_mean", balance.max_over_mean()},
          {"received_blocks", balance.received},
          {"received_blocks_max", balance.max_received()},
          {"received_blocks_total", balance.total_received()},
          {"partners_max", balance.max_partners()}};
}

nlohmann::ordered_json to_json(const Facts& facts, std::int64_t layers) {
  nlohmann::ordered_json json = nlohmann::ordered_json::parse(to_json(facts.spec));
  std::vector<double> covered;
  for (std::int64_t layer = 1; layer <= layers; ++layer) {
    covered.push_back(facts.field.covered(layer));
  }
  const std::int64_t depth = facts.field.layers_to_cover();
  json["chosen"] = facts.chosen;
  json["keys_of_last_block"] = facts.last_keys();
  json["pairs"] = facts.pairs.pairs;
  json["pairs_per_block"] = facts.pairs.per_block();
  json["density"] = facts.pairs.density();
  json["sparsity"] = 1 - facts.pairs.density();
  json["covered"] = covered;
  json["layers_to_cover"] = depth < 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(depth);
  json["unreachable"] = facts.field.unreached();
  json["contiguous"] = to_json(facts.contiguous);
  if (facts.zigzag) json["zigzag"] = to_json(*facts.zigzag);
  return json;
}

template <typename Cell>
void print_row(const std::string& label, const std::vector<Facts>& all, const Cell& cell) {
  std::string line = fmt::format("{:<28}", label);
  for (const Facts& facts : all) line += fmt::format("{:>10}", cell(facts));
  fmt::print("{}\n", line);
}

std::string percent(double share) {
  // Not quite all is not 100%.
  return fmt::format("{:.1f}%", share < 1 ? std::min(share * 100, 99.9) : 100.0);
}

std::string parameter(bool has, std::int64_t value) {
  return has ? fmt::format("{}", value) : "-";
}

void print_balance(const std::vector<Facts>& all,
                   const std::function<const Balance*(const Facts&)>& balance) {
  const auto cell = [&](const char* format, const auto& value) {
    return [&balance, format, value](const Facts& facts) {
      const Balance* of = balance(facts);
      return of == nullptr ? "-" : fmt::format(fmt::runtime(format), value(*of));
    };
  };
  print_row("  blocks received, most", all, cell("{}", std::mem_fn(&Balance::max_received)));
  print_row("  blocks received, all", all, cell("{}", std::mem_fn(&Balance::total_received)));
  print_row("  partners, most", all, cell("{}", std::mem_fn(&Balance::max_partners)));
  print_row("  work, max / mean", all, cell("{:.3f}", std::mem_fn(&Balance::max_over_mean)));
}

void print_table(const std::vector<Facts>& all, const PatternCommandArguments& arguments) {
  fmt::print("{} blocks, {} layers, {} ranks; * is the chosen pattern\n\n", arguments.blocks,
             arguments.layers, arguments.ranks);
  const auto has = [](const Facts& f) { return find_pattern_kind(f.spec.name)->has; };
  print_row("", all, [](const Facts& f) { return f.spec.name + (f.chosen ? "*" : ""); });
  print_row("window", all, [&](const Facts& f) { return parameter(has(f).window, f.spec.window); });
  print_row("sink", all, [&](const Facts& f) { return parameter(has(f).sink, f.spec.sink); });
  print_row("stride", all, [&](const Facts& f) { return parameter(has(f).stride, f.spec.stride); });
  print_row("keys of the last block", all, std::mem_fn(&Facts::last_keys));
  print_row("pairs per block", all,
            [](const Facts& f) { return fmt::format("{:.1f}", f.pairs.per_block()); });
  print_row("sparsity", all, [](const Facts& f) { return percent(1 - f.pairs.density()); });
  fmt::print("\nearlier blocks seen by the last block\n");
  for (std::int64_t layer = 1; layer <= arguments.layers; ++layer) {
    print_row(fmt::format("  after {} layer{}", layer, layer == 1 ? "" : "s"), all,
              [&](const Facts& f) { return percent(f.field.covered(layer)); });
  }
  print_row("  layers to see all", all, [](const Facts& f) {
    const std::int64_t depth = f.field.layers_to_cover();
    return depth < 0 ? "never" : fmt::format("{}", depth);
  });
  print_row("  holes: never seen", all, [](const Facts& f) { return f.field.unreached().size(); });
  fmt::print("\nranks, contiguous shares\n");
  print_balance(all, [](const Facts& f) { return &f.contiguous; });
  fmt::print("\nranks, zigzag shares\n");
  print_balance(all, [](const Facts& f) { return f.zigzag ? &*f.zigzag : nullptr; });
}

void print_json(const std::vector<Facts>& all, const PatternCommandArguments& arguments) {
  nlohmann::ordered_json json = {{"blocks", arguments.blocks},
                                 {"layers", arguments.layers},
                                 {"ranks", arguments.ranks},
                                 {"causal_pairs", all.front().pairs.causal()},
                                 {"patterns", nlohmann::ordered_json::array()}};
  for (const Facts& facts : all) json["patterns"].push_back(to_json(facts, arguments.layers));
  fmt::print("{}\n", json.dump(2));
}

std::vector<CoverageCurve> curves_of(const std::vector<Facts>& all, std::int64_t layers) {
  std::vector<CoverageCurve> curves;
  for (const Facts& facts : all) {
    const bool twice = facts.chosen && std::count_if(all.begin(), all.end(), [&](const Facts& f) {
                                         return f.spec.name == facts.spec.name;
                                       }) > 1;
    CoverageCurve curve = {.name = facts.spec.name + (twice ? "*" : ""),
                           .keys = static_cast<std::int64_t>(facts.last_keys()),
                           .chosen = facts.chosen};
    for (std::int64_t layer = 0; layer <= layers; ++layer) {
      curve.covered.push_back(facts.field.covered(layer));
    }
    curves.push_back(std::move(curve));
  }
  return curves;
}

OutputFile open_output(const std::string& path) {
  return path.empty() ? OutputFile() : OutputFile(path);
}

void run(const PatternCommandArguments& arguments) {
  const PatternSpec chosen = arguments.pattern.resolve(default_spec("power"));
  CommandFiles()
      .reads_mask(arguments.pattern.name)
      .writes("--svg", arguments.svg)
      .writes("--coverage-svg", arguments.coverage_svg)
      .check();
  OutputFile svg = open_output(arguments.svg);
  OutputFile coverage = open_output(arguments.coverage_svg);
  const std::vector<Facts> all = compare(chosen, arguments);
  const std::vector<CoverageCurve> curves = curves_of(all, arguments.layers);
  if (svg) {
    const PatternPicture picture = {.name = to_text(chosen),
                                    .blocks = arguments.blocks,
                                    .layers = arguments.layers,
                                    .layers_to = all.front().field.layers_to};
    svg.write(pattern_svg(*all.front().pattern, picture, curves));
  }
  if (coverage) coverage.write(coverage_svg(arguments.blocks, curves));
  for (OutputFile* file : {&svg, &coverage}) {
    if (*file) file->commit();
  }
  arguments.json ? print_json(all, arguments) : print_table(all, arguments);
}

}  // namespace

Command add_pattern(CLI::App& app) {
  auto arguments = std::make_shared<PatternCommandArguments>();
  CLI::App* sub = app.add_subcommand(
      "pattern", "Compare attention patterns: what the last block sees, work, exchange");
  arguments->pattern.add_to(*sub, "The pattern to look at (default: power)");
  sub->add_option("--blocks", arguments->blocks, "Blocks of the prompt")
      ->transform(whole_number(1, kMostBlocks))
      ->capture_default_str();
  sub->add_option("--layers", arguments->layers, "Layers of the model")
      ->transform(whole_number(1, kMostLayers))
      ->capture_default_str();
  sub->add_option("--ranks", arguments->ranks, "Ranks that share the prompt")
      ->transform(whole_number(1, kMostRanks))
      ->capture_default_str();
  sub->add_flag("--json", arguments->json, "As JSON, with the blocks that are never seen");
  sub->add_option(
      "--svg", arguments->svg,
      "Draw the mask, what the last block sees, and all patterns' coverage to this file");
  sub->add_option("--coverage-svg", arguments->coverage_svg,
                  "Draw the coverage of all patterns alone to this file");
  return {sub, Runs::alone, [arguments](const Job*) { run(*arguments); }};
}

}  // namespace powerprefill::cli
