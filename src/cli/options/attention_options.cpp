#include "cli/options/attention_options.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/shortened.hpp"
#include "cli/options/choice_option.hpp"
#include "cli/options/number_option.hpp"
#include "cli/options/token_file.hpp"
#include "json/json.hpp"
#include "json/json_integer.hpp"
#include "pattern/registry.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill::cli {

namespace {

constexpr const char* kMaskPrefix = "mask:";

}  // namespace

std::string mask_file_of(const std::string& name) {
  const std::string prefix = kMaskPrefix;
  return name.starts_with(prefix) ? name.substr(prefix.size()) : "";
}

namespace {

// The checkpoint's own choice: {"pattern": "power", "block": 256, "window": 5, "sink": 1,
// "full_layers": [0, 7]}; what it leaves out is the paper's.
struct OwnAttention {
  PatternSpec spec;
  std::int64_t block;
  std::vector<std::int64_t> full_layers;
};

std::int64_t own_number(const nlohmann::json& value, const char* key, std::int64_t lowest,
                        std::int64_t highest) {
  const std::optional<std::int64_t> number = integer_of(value);
  if (number && *number >= lowest && *number <= highest) return *number;
  throw Error(ErrorCode::input, fmt::format("key `{}` has {}, no whole number from {} to {}", key,
                                            quoted(value), lowest, highest));
}

OwnAttention read_own_attention(const ModelSummary& model, std::int64_t default_block) {
  const std::string& text = model.power_attention;
  try {
    const nlohmann::json json = parse_json(text);
    for (const char* key : {"window", "sink", "stride"}) {
      if (json.contains(key)) own_number(json[key], key, 0, kLargestDistance);
    }
    OwnAttention own = {spec_of(json), default_block, {}};
    if (json.contains("block")) own.block = own_number(json["block"], "block", 1, kLargestBlock);
    const nlohmann::json full = json.value("full_layers", nlohmann::json::array());
    if (!full.is_array()) throw Error(ErrorCode::input, "key `full_layers` is not a list");
    for (const nlohmann::json& layer : full) {
      own.full_layers.push_back(own_number(layer, "full_layers", 0, model.layers - 1));
    }
    return own;
  } catch (const std::exception& error) {
    throw Error(ErrorCode::input,
                fmt::format("config.json: power_attention '{}' cannot be used: {}",
                            shortened(text, 200), error.what()));
  }
}

// "2/7" -> the first 2 of every 7 layers.
std::vector<std::int64_t> layers_per(const std::string& text, std::int64_t layers) {
  std::int64_t count = -1;
  std::int64_t period = -1;
  const char* end = text.data() + text.size();
  const char* slash = std::from_chars(text.data(), end, count).ptr;
  const bool is_pair = slash != end && *slash == '/' &&
                       std::from_chars(slash + 1, end, period).ptr == end && period >= 1;
  if (!is_pair || count < 0 || count > period) {
    throw Error(
        ErrorCode::usage,
        fmt::format("--full-per '{}' is not of the form 2/7 (2 full layers in every 7)", text));
  }
  std::vector<std::int64_t> full;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    if (layer % period < count) full.push_back(layer);
  }
  return full;
}

PatternSpec mask_spec(const std::vector<std::int32_t>& distances) {
  PatternSpec spec = default_spec("mask");
  spec.distances.assign(distances.begin(), distances.end());
  make_pattern(spec);  // refuses distances that do not ascend from 0
  return spec;
}

PatternSpec named_spec(const std::string& name) {
  if (name == "mask") {
    throw Error(ErrorCode::usage, "--attention mask needs a list of distances: mask:FILE");
  }
  if (!name.starts_with(kMaskPrefix)) return default_spec(name);
  return mask_spec(read_token_file(mask_file_of(name)));
}

}  // namespace

void PatternArguments::share_mask(const mpi::Communicator& world) {
  if (!name.starts_with(kMaskPrefix)) return;
  const std::string file = mask_file_of(name);
  distances_ = share_ids(world, [&] { return read_token_file(file); });
}

void PatternArguments::add_to(CLI::App& app, const std::string& what) {
  app.add_option("--attention", name,
                 fmt::format("{}: {}; or mask:FILE with a list of block distances", what,
                             fmt::join(pattern_names(), ", ")));
  app.add_option("--window", window,
                 "Blocks of the local window (power 5, sliding 9, stride 6, dilated 20)")
      ->transform(whole_number(1, kLargestDistance));
  app.add_option("--sink", sink, "Blocks at the start that all attend to (default 1)")
      ->transform(whole_number(0, kLargestDistance));
  app.add_option("--stride", stride, "Of the stride pattern, in blocks (default 32)")
      ->transform(whole_number(1, kLargestDistance));
}

PatternSpec PatternArguments::resolve(PatternSpec base) const {
  PatternSpec spec = std::move(base);
  if (!name.empty()) spec = distances_ ? mask_spec(*distances_) : named_spec(name);
  if (window) spec.window = *window;
  if (sink) spec.sink = *sink;
  if (stride) spec.stride = *stride;
  make_pattern(spec);  // refuses parameters out of range
  return spec;
}

void AttentionArguments::add_to(CLI::App& app) {
  pattern.add_to(app, "Pattern of every layer (default: the checkpoint's own, else full)");
  app.add_option("--block", block, "Tokens per block (default 256)")
      ->transform(whole_number(1, kLargestBlock));
  auto* layers =
      app.add_option("--full-layers", full_layers, "Layers with full attention, e.g. 0,1,7,8")
          ->delimiter(',')
          ->transform(whole_number(0, kMostCacheLayers - 1));
  app.add_option("--full-per", full_per, "Full attention in the first 2 of every 7 layers: 2/7")
      ->excludes(layers);
}

AttentionArguments::Choice AttentionArguments::resolve(const ModelSummary& model) const {
  Choice choice;
  PatternSpec base = default_spec("full");
  std::vector<std::int64_t> full = full_layers;
  if (pattern.name.empty() && !model.power_attention.empty()) {
    OwnAttention own = read_own_attention(model, choice.schedule.block);
    base = own.spec;
    choice.schedule.block = own.block;
    if (full.empty()) full = own.full_layers;
  } else if (pattern.name.empty()) {
    choice.remark = "no --attention given and none in config.json: full attention";
  }
  const PatternSpec spec = pattern.resolve(base);
  if (spec.name != "full" && model.power_attention.empty()) {
    choice.remark =
        "this checkpoint does not say that it was trained under a sparse pattern; "
        "expect worse answers than with --attention full";
  }
  if (block) choice.schedule.block = *block;
  if (!full_per.empty()) full = layers_per(full_per, model.layers);
  std::sort(full.begin(), full.end());
  full.erase(std::unique(full.begin(), full.end()), full.end());
  choice.schedule.layers.assign(static_cast<std::size_t>(model.layers), spec);
  for (const std::int64_t layer : full) {
    if (layer < 0 || layer >= model.layers) {
      throw Error(ErrorCode::usage, fmt::format("full layer {}: the model has layers 0 to {}",
                                                layer, model.layers - 1));
    }
    choice.schedule.layers[static_cast<std::size_t>(layer)] = default_spec("full");
  }
  choice.description = fmt::format("{}, block {}", to_text(spec), choice.schedule.block);
  if (!full.empty()) choice.description += fmt::format(", full layers {}", fmt::join(full, ", "));
  return choice;
}

void add_layout_options(CLI::App& app, RunOptions& run) {
  add_choice(app, "--partition", run.partition,
             {{"auto", BlockPartition::automatic},
              {"contiguous", BlockPartition::contiguous},
              {"zigzag", BlockPartition::zigzag}},
             "Which rank owns which blocks; auto: zigzag when there are full layers");
  add_choice(app, "--kv-dtype", run.kv_type,
             {{"auto", KvType::automatic},
              {"f32", KvType::f32},
              {"bf16", KvType::bf16},
              {"f16", KvType::f16}},
             "Type of the cached keys and values; auto: that of --compute");
}

}  // namespace powerprefill::cli
