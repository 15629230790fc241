#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "base/json.hpp"
#include "base/json_integer.hpp"
#include "pattern/registry.hpp"

namespace powerprefill {

namespace {

using Json = nlohmann::ordered_json;

std::int64_t whole_number(const Json& value, const char* name) {
  const std::optional<std::int64_t> number = integer_of(value);
  if (!number) {
    throw Error(ErrorCode::cache,
                fmt::format("{} is {}, no whole number below 2^63", name, shortened(value.dump())));
  }
  return *number;
}

Json json_of(const PatternSpec& spec) {
  const PatternKind* kind = find_pattern_kind(spec.name);
  const PatternParameters has = kind != nullptr ? kind->has : PatternParameters{};
  Json json = {{"pattern", spec.name}};
  if (has.window) json["window"] = spec.window;
  if (has.sink) json["sink"] = spec.sink;
  if (has.stride) json["stride"] = spec.stride;
  if (has.distances) json["distances"] = spec.distances;
  return json;
}

PatternSpec spec_of(const Json& json) {
  PatternSpec spec = default_spec(json.at("pattern").get<std::string>());
  if (json.contains("window")) spec.window = whole_number(json["window"], "window");
  if (json.contains("sink")) spec.sink = whole_number(json["sink"], "sink");
  if (json.contains("stride")) spec.stride = whole_number(json["stride"], "stride");
  if (json.contains("distances")) {
    spec.distances.clear();
    for (const Json& d : json["distances"]) spec.distances.push_back(whole_number(d, "a distance"));
  }
  make_pattern(spec);  // refuses what cannot be computed
  return spec;
}

// What `read` returns; every failure becomes an Error(cache) that shows the text.
template <typename Read>
auto read_json(const std::string& what, const std::string& text, const Read& read) {
  try {
    return read(Json::parse(text));
  } catch (const std::exception& error) {
    throw Error(ErrorCode::cache, "the attention " + what + " '" + text.substr(0, 200) +
                                      "' cannot be used: " + error.what());
  }
}

}  // namespace

std::string to_json(const PatternSpec& spec) {
  return json_of(spec).dump();
}

PatternSpec spec_from_json(const std::string& text) {
  return read_json("pattern", text, spec_of);
}

std::string to_json(const Schedule& schedule) {
  Json layers = Json::array();
  for (const PatternSpec& spec : schedule.layers) layers.push_back(json_of(spec));
  return Json{{"block", schedule.block}, {"layers", layers}}.dump();
}

Schedule schedule_from_json(const std::string& text) {
  return read_json("schedule", text, [](const Json& json) {
    Schedule schedule;
    schedule.block = whole_number(json.at("block"), "block");
    if (schedule.block < 1) throw Error(ErrorCode::cache, "block is not positive");
    if (!json.at("layers").is_array()) throw Error(ErrorCode::cache, "layers is no list");
    for (const Json& layer : json["layers"]) schedule.layers.push_back(spec_of(layer));
    return schedule;
  });
}

}  // namespace powerprefill
