#include <nlohmann/json.hpp>

#include "pattern/registry.hpp"

namespace powerprefill {

namespace {

std::int64_t whole_number(const nlohmann::json& object, const char* key) {
  if (!object.at(key).is_number_integer()) {
    throw Error(ErrorCode::cache, std::string(key) + " is no whole number");
  }
  return object.at(key).get<std::int64_t>();
}

}  // namespace

std::string to_json(const Schedule& schedule) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const PatternSpec& spec : schedule.layers) {
    const PatternKind* kind = find_pattern_kind(spec.name);
    nlohmann::ordered_json layer = {{"pattern", spec.name}};
    if (kind != nullptr && kind->has_window) layer["window"] = spec.window;
    if (kind != nullptr && kind->has_sink) layer["sink"] = spec.sink;
    layers.push_back(layer);
  }
  return nlohmann::ordered_json{{"block", schedule.block}, {"layers", layers}}.dump();
}

Schedule schedule_from_json(const std::string& text) {
  try {
    const auto json = nlohmann::json::parse(text);
    Schedule schedule;
    schedule.block = whole_number(json, "block");
    if (schedule.block < 1) throw Error(ErrorCode::cache, "block is not positive");
    if (!json.at("layers").is_array()) throw Error(ErrorCode::cache, "layers is no list");
    for (const auto& layer : json.at("layers")) {
      PatternSpec spec;
      spec.name = layer.at("pattern").get<std::string>();
      if (layer.contains("window")) spec.window = whole_number(layer, "window");
      if (layer.contains("sink")) spec.sink = whole_number(layer, "sink");
      make_pattern(spec);  // refuses what this build cannot compute
      schedule.layers.push_back(spec);
    }
    return schedule;
  } catch (const std::exception& error) {
    throw Error(ErrorCode::cache, "the attention schedule '" + text.substr(0, 200) +
                                      "' cannot be used: " + error.what());
  }
}

}  // namespace powerprefill
