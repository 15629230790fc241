#include <nlohmann/json.hpp>

#include "pattern/registry.hpp"

namespace powerprefill {

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
    schedule.block = json.at("block").get<std::int64_t>();
    if (schedule.block < 1) throw Error(ErrorCode::cache, "block is not positive");
    for (const auto& layer : json.at("layers")) {
      PatternSpec spec;
      spec.name = layer.at("pattern").get<std::string>();
      spec.window = layer.value("window", spec.window);
      spec.sink = layer.value("sink", spec.sink);
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
