#include "model/weights/weight_layout.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "base/checked.hpp"

namespace powerprefill {

namespace {

constexpr std::int64_t kAlignment = 64;  // bytes

// What older versions saved beside the parameters: tables of RoPE, and causal masks.
bool is_buffer(std::string_view name) {
  constexpr std::array<std::string_view, 3> endings = {".masked_bias", ".attn.bias",
                                                       ".position_ids"};
  return name.find(".rotary_emb.") != std::string_view::npos ||
         std::ranges::any_of(endings, [&](std::string_view end) { return name.ends_with(end); });
}

}  // namespace

void WeightLayout::add(TensorSource& source, const TensorParts& parts, const WeightForm& form) {
  PlacedWeights placed = {.form = &form, .first = tensors.size(), .offset = bytes};
  for (const NamedTensor& part : parts) {
    const SourceTensor stored = source.find(part.name, part.shape);
    tensors.push_back({part, stored, &form, placed.offset + placed.bytes});
    placed.bytes += checked_mul(stored.elements, form.element_bytes());
    placed.shape.inputs = part.shape.size() > 1 ? part.shape.back() : 1;
    placed.shape.outputs += part.shape.front();
  }
  if (placed.is_packed()) placed.bytes = form.bytes(placed.shape);
  bytes = round_up(placed.offset + placed.bytes, kAlignment);
  weights.push_back(placed);
}

std::int64_t layer_of(std::string_view name, std::string_view prefix) {
  std::int64_t layer = -1;
  if (!name.starts_with(prefix)) return layer;
  std::from_chars(name.data() + prefix.size(), name.data() + name.size(), layer);
  return layer;
}

void refuse_ignored_tensors(const TensorSource& source, const WeightLayout& layout,
                            const ModelConfig& config) {
  const ModelTensors& known = config.tensors;
  std::set<std::string_view> used;
  if (known.tied) used = {known.embedding.name, known.output_head.name};  // one may be a copy
  for (const PlacedTensor& tensor : layout.tensors) used.insert(tensor.named.name);
  for (const std::string& name : source.names()) {
    const bool in_model = name.starts_with("model.") || name.starts_with("lm_head.");
    if (!in_model || used.contains(name) || is_buffer(name) ||
        layer_of(name, known.layer_prefix) >= config.layers) {
      continue;
    }
    throw Error(ErrorCode::input,
                fmt::format("{} has the tensor {}, which a model of the kind that config.json "
                            "describes ({}) does not have; the two do not belong together",
                            source.file_of(name).string(), name, config.family));
  }
}

}  // namespace powerprefill
