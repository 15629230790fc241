#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "json/json.hpp"
#include "json/json_integer.hpp"
#include "pattern/registry.hpp"

namespace powerprefill {

namespace {

using OrderedJson = nlohmann::ordered_json;
using Json = nlohmann::json;

// Of all layers together: a short text may name a long pattern many times.
constexpr std::size_t kMostDistances = std::size_t{1} << 22;

std::int64_t whole_number(const Json& value, const char* name) {
  const std::optional<std::int64_t> number = integer_of(value);
  if (!number) {
    throw Error(ErrorCode::cache,
                fmt::format("{} is {}, no whole number in range", name, quoted(value)));
  }
  return *number;
}

OrderedJson json_of(const PatternSpec& spec) {
  const PatternKind* kind = find_pattern_kind(spec.name);
  const PatternParameters has = kind != nullptr ? kind->has : PatternParameters{};
  OrderedJson json = {{"pattern", spec.name}};
  if (has.window) json["window"] = spec.window;
  if (has.sink) json["sink"] = spec.sink;
  if (has.stride) json["stride"] = spec.stride;
  if (has.distances) json["distances"] = spec.distances;
  return json;
}

// What `read` returns; every failure becomes an Error(cache) that shows the text.
template <typename Read>
auto read_json(const std::string& what, const std::string& text, const Read& read) {
  try {
    return read(parse_json(text));
  } catch (const std::exception& error) {
    throw Error(ErrorCode::cache, fmt::format("the attention {} {} cannot be used: {}", what,
                                              quoted(Json(text)), error.what()));
  }
}

}  // namespace

PatternSpec spec_of(const Json& text) {
  PatternSpec spec = default_spec(text.at("pattern").get<std::string>());
  if (text.contains("window")) spec.window = whole_number(text["window"], "window");
  if (text.contains("sink")) spec.sink = whole_number(text["sink"], "sink");
  if (text.contains("stride")) spec.stride = whole_number(text["stride"], "stride");
  if (text.contains("distances")) {
    spec.distances.clear();
    for (const Json& d : text["distances"]) spec.distances.push_back(whole_number(d, "a distance"));
  }
  make_pattern(spec);  // refuses what cannot be computed
  return spec;
}

std::string to_json(const PatternSpec& spec) {
  return json_of(spec).dump();
}

PatternSpec spec_from_json(const std::string& text) {
  return read_json("pattern", text, spec_of);
}

std::string to_json(const Schedule& schedule) {
  std::vector<OrderedJson> patterns;
  OrderedJson full = OrderedJson::array();
  OrderedJson places = OrderedJson::array();
  for (const PatternSpec& spec : schedule.layers) {
    full.push_back(json_of(spec));
    const auto known = std::find(patterns.begin(), patterns.end(), full.back());
    places.push_back(known - patterns.begin());
    if (known == patterns.end()) patterns.push_back(full.back());
  }
  std::string text = OrderedJson{{"block", schedule.block}, {"layers", full}}.dump();
  if (text.size() <= kLongestSchedule) return text;
  return OrderedJson{{"block", schedule.block}, {"patterns", patterns}, {"layers", places}}.dump();
}

Schedule schedule_from_json(const std::string& text) {
  return read_json("schedule", text, [](const Json& found) {
    Schedule schedule;
    schedule.block = whole_number(found.at("block"), "block");
    if (schedule.block < 1) throw Error(ErrorCode::cache, "block is not positive");
    const Json& layers = found.at("layers");
    if (!layers.is_array()) throw Error(ErrorCode::cache, "layers is no list");
    if (std::cmp_greater(layers.size(), kMostCacheLayers))
      throw Error(ErrorCode::cache, "it has too many layers");
    std::vector<PatternSpec> patterns;
    if (found.contains("patterns")) {
      for (const Json& pattern : found["patterns"]) patterns.push_back(spec_of(pattern));
    }
    std::size_t distances = 0;
    for (const Json& layer : layers) {
      if (!layer.is_number()) {
        schedule.layers.push_back(spec_of(layer));
        continue;
      }
      const std::int64_t place = whole_number(layer, "a layer's pattern");
      if (place < 0 || std::cmp_greater_equal(place, patterns.size())) {
        throw Error(ErrorCode::cache,
                    fmt::format("a layer has pattern {} of {}", place, patterns.size()));
      }
      schedule.layers.push_back(patterns[static_cast<std::size_t>(place)]);
      distances += schedule.layers.back().distances.size();
      if (distances > kMostDistances) throw Error(ErrorCode::cache, "it has too many distances");
    }
    return schedule;
  });
}

void check_schedule(const Schedule& schedule) {
  if (schedule.block < 1 || schedule.block > kLargestBlock) {
    throw Error(ErrorCode::usage,
                fmt::format("a block of {} tokens; choose 1 to {}", schedule.block, kLargestBlock));
  }
  for (const PatternSpec& spec : schedule.layers) {
    make_pattern(spec);
    const std::int64_t last = spec.distances.empty() ? 0 : spec.distances.back();
    const std::int64_t largest = std::max({spec.window, spec.sink, spec.stride, last});
    if (largest <= kLargestDistance) continue;
    throw Error(ErrorCode::usage, fmt::format("the attention pattern {} reaches {} blocks; at most "
                                              "{} are possible",
                                              spec.name, largest, kLargestDistance));
  }
  const std::size_t bytes = to_json(schedule).size();
  if (bytes > kLongestSchedule) {
    throw Error(ErrorCode::usage,
                fmt::format("the attention patterns take {} bytes, a cache file has room for {}; "
                            "use fewer distances",
                            bytes, kLongestSchedule));
  }
}

}  // namespace powerprefill
