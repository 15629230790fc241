#include "model/families/read_rope.hpp"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/shortened.hpp"
#include "json/json.hpp"

namespace powerprefill {

using nlohmann::json;

namespace {

constexpr std::int64_t kMostPositions = std::int64_t{1} << 40;

double positive(const JsonFields& fields, const std::string& key, double value) {
  if (!(value > 0)) fields.fail(key, fmt::format("is {}, not above zero", value));
  return value;
}

std::optional<double> positive(const JsonFields& fields, const std::string& key) {
  const std::optional<double> value = fields.number(key);
  if (value) positive(fields, key, *value);
  return value;
}

// transformers takes a zero like an absent key here.
std::optional<double> non_zero(const JsonFields& fields, const std::string& key) {
  const std::optional<double> value = fields.number(key);
  return value && *value != 0 ? value : std::nullopt;
}

void refuse_partial_rotation(const JsonFields& fields) {
  const std::optional<double> part = fields.number("partial_rotary_factor");
  if (part && *part != 1.0) {
    fields.fail("partial_rotary_factor",
                fmt::format("is {}: rotation of a part of each head is not supported", *part));
  }
}

// The object that describes the rotation. As in transformers, `rope_scaling` counts when both are
// there, and an empty object is as good as none.
std::optional<JsonFields> rope_object(const JsonFields& config) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    std::optional<JsonFields> fields = config.fields(key);
    if (fields && !config.find(key)->empty()) return fields;
  }
  return std::nullopt;
}

void read_yarn(const JsonFields& fields, std::int64_t max_positions, RopeParameters& rope) {
  // Without a factor transformers takes the growth of the context.
  rope.factor = positive(fields, "factor")
                    .value_or(static_cast<double>(max_positions) /
                              static_cast<double>(rope.original_max_positions));
  rope.beta_fast = non_zero(fields, "beta_fast").value_or(32.0);
  rope.beta_slow = non_zero(fields, "beta_slow").value_or(1.0);
  positive(fields, "beta_fast", rope.beta_fast);
  positive(fields, "beta_slow", rope.beta_slow);
  rope.attention_factor = positive(fields, "attention_factor");
  rope.mscale = non_zero(fields, "mscale");
  rope.mscale_all_dim = non_zero(fields, "mscale_all_dim");
  rope.truncate = fields.boolean("truncate").value_or(true);
}

void read_llama3(const JsonFields& fields, RopeParameters& rope) {
  rope.factor = fields.need("factor", positive(fields, "factor"));
  rope.low_freq_factor = fields.need("low_freq_factor", positive(fields, "low_freq_factor"));
  rope.high_freq_factor = fields.need("high_freq_factor", positive(fields, "high_freq_factor"));
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    fields.fail("high_freq_factor", fmt::format("is {}, not above low_freq_factor {}",
                                                rope.high_freq_factor, rope.low_freq_factor));
  }
}

// Without a type transformers takes no other key into account, which no one who wrote a factor can
// have meant.
void refuse_missing_type(const JsonFields& fields) {
  const std::optional<double> factor = fields.number("factor");
  if (!factor || *factor == 1.0) return;
  fields.fail("factor",
              fmt::format("is {}, but there is no `rope_type`; add one: linear, llama3 or yarn, or "
                          "default, under which the factor has no effect",
                          *factor));
}

// The types there are, each with the keys of its own.
const std::map<std::string, std::set<std::string>>& keys_by_type() {
  static const std::map<std::string, std::set<std::string>> keys = {
      {"default", {}},
      {"linear", {"factor"}},
      {"llama3", {"factor", "low_freq_factor", "high_freq_factor"}},
      {"yarn",
       {"factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim",
        "truncate"}}};
  return keys;
}

// What a type does not use is said: other programs may.
void note_unused(const JsonFields& fields, const std::string& type, std::vector<ModelNote>& notes) {
  static const std::set<std::string> common = {"rope_type",
                                               "type",
                                               "rope_theta",
                                               "partial_rotary_factor",
                                               "original_max_position_embeddings",
                                               "finetuned"};
  for (const auto& [key, value] : fields.object().items()) {
    const bool neutral = value.is_null() || (key.ends_with("factor") && value == 1.0);
    if (neutral || common.contains(key) || keys_by_type().at(type).contains(key)) continue;
    notes.push_back(
        {fmt::format("{}: key `{}` is {}, which the rope type {} does not use; as in "
                     "transformers, it has no effect",
                     fields.where(), shortened(key), quoted(value), type)});
  }
}

}  // namespace

RopeParameters read_rope(const JsonFields& config, std::int64_t max_positions,
                         std::vector<ModelNote>& notes) {
  RopeParameters rope;
  refuse_partial_rotation(config);
  const std::optional<JsonFields> object = rope_object(config);
  const JsonFields fields = object.value_or(config);
  if (object) {
    for (const char* key : {"full_attention", "sliding_attention"}) {
      if (fields.mentions(key)) {
        fields.fail(key, "gives a layer type its own rotation, which is not supported");
      }
    }
    refuse_partial_rotation(fields);
    const std::optional<std::string> old_name = fields.text("type");
    const std::optional<std::string> type = fields.text("rope_type");
    if (!type && !old_name) refuse_missing_type(fields);
    rope.type = type.value_or(old_name.value_or("default"));
  }
  rope.theta = fields.number("rope_theta")
                   .value_or(config.number("rope_theta").value_or(RopeParameters{}.theta));
  if (!(rope.theta > 1.0)) fields.fail("rope_theta", fmt::format("is {}, not above 1", rope.theta));
  if (!keys_by_type().contains(rope.type)) {
    fields.fail("rope_type", fmt::format("`{}` is not supported; supported are default, linear, "
                                         "llama3 and yarn",
                                         shortened(rope.type)));
  }
  if (object) note_unused(fields, rope.type, notes);
  if (rope.type == "default") return rope;
  if (rope.type == "linear") {
    rope.factor = fields.need("factor", positive(fields, "factor"));
    return rope;
  }
  // A length beside the object goes before the one in it, as in transformers.
  const std::string key = "original_max_position_embeddings";
  const std::optional<std::int64_t> inside = fields.integer(key, 1, kMostPositions);
  rope.original_max_positions =
      config.integer(key, 1, kMostPositions).value_or(inside.value_or(max_positions));
  if (rope.type == "yarn") read_yarn(fields, max_positions, rope);
  if (rope.type == "llama3") read_llama3(fields, rope);
  return rope;
}

}  // namespace powerprefill
