#include "cli/attention_options.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "pattern/registry.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill::cli {

namespace {

// The checkpoint's own pattern: {"pattern": "power", "block": 256, "window": 5, "sink": 1}; what it
// leaves out is the paper's.
void read_own_pattern(const std::string& text, PatternSpec& spec, std::int64_t& block) {
  try {
    const auto json = nlohmann::json::parse(text);
    spec.name = json.at("pattern").get<std::string>();
    spec.window = json.value("window", spec.window);
    spec.sink = json.value("sink", spec.sink);
    block = json.value("block", block);
    make_pattern(spec);
  } catch (const std::exception& error) {
    throw Error(ErrorCode::input, fmt::format("config.json: power_attention '{}' cannot be used: {}",
                                              text.substr(0, 200), error.what()));
  }
}

std::string describe(const Schedule& schedule) {
  const PatternSpec& spec = schedule.layers.front();
  const PatternKind* kind = find_pattern_kind(spec.name);
  std::string text = fmt::format("{} (block {}", spec.name, schedule.block);
  if (kind->has_window) text += fmt::format(", window {}", spec.window);
  if (kind->has_sink) text += fmt::format(", sink {}", spec.sink);
  return text + ")";
}

}  // namespace

void AttentionArguments::add_to(CLI::App& app) {
  app.add_option("--attention", pattern,
                 "Pattern of every layer (default: the checkpoint's own, else full)")
      ->check(CLI::IsMember(pattern_names()));
  app.add_option("--block", block, "Tokens per block (default 256)");
  app.add_option("--window", window, "Blocks of the local window (default 5)");
  app.add_option("--sink", sink, "Blocks at the start that all attend to (default 1)");
}

AttentionArguments::Choice AttentionArguments::resolve(const ModelSummary& model) const {
  PatternSpec spec;
  Choice choice;
  if (!pattern.empty()) {
    spec.name = pattern;
    if (spec.name != "full" && model.power_attention.empty()) {
      choice.remark = "this checkpoint does not say that it was trained under a sparse pattern; "
                      "expect worse answers than with --attention full";
    }
  } else if (!model.power_attention.empty()) {
    read_own_pattern(model.power_attention, spec, choice.schedule.block);
  } else {
    choice.remark = "no --attention given and none in config.json: full attention";
  }
  if (window) spec.window = *window;
  if (sink) spec.sink = *sink;
  if (block) choice.schedule.block = *block;
  make_pattern(spec);  // refuses parameters out of range
  choice.schedule.layers.assign(static_cast<std::size_t>(model.layers), spec);
  choice.description = describe(choice.schedule);
  return choice;
}

}  // namespace powerprefill::cli
