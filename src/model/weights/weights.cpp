#include "model/weights/weights.hpp"

#include <algorithm>
#include <array>
#include <memory>

#include "math/linear/weight_form.hpp"
#include "model/sources/tensor_source.hpp"
#include "model/weights/weight_layout.hpp"
#include "model/weights/weight_loader.hpp"

namespace powerprefill {

namespace {

// The tables at both ends of the model; no output head when the embedding is it.
struct Tables {
  NamedTensor embedding;
  TensorParts output_head;
};

// As in transformers, tied embeddings are one table under either name, but two where the checkpoint
// holds two that differ.
Tables find_tables(TensorSource& source, const ModelTensors& tensors, const mpi::Communicator& node,
                   ThreadPool& pool) {
  const NamedTensor& embedding = tensors.embedding;
  const NamedTensor& head = tensors.output_head;
  if (!tensors.tied) return {embedding, {head}};
  if (!source.contains(head.name)) return {embedding, {}};
  if (!source.contains(embedding.name)) return {head, {}};
  std::array<SourceTensor, 2> both;
  node.agree([&] {
    both = {source.find(embedding.name, embedding.shape), source.find(head.name, head.shape)};
  });
  if (are_equal(both[0], both[1], node, pool)) return {embedding, {}};
  return {embedding, {head}};
}

// visit(tensors, weights) for every vector and matrix of a layer that the model has, in the order
// in which they lie in memory.
template <typename Visit>
void for_each_of_layer(const LayerTensors& tensors, LayerWeights& layer, const Visit& visit) {
  const auto visit_if = [&](const TensorParts& parts, auto& weights) {
    if (!parts.empty()) visit(parts, weights);
  };
  visit_if(tensors.input_norm, layer.input_norm);
  visit_if(tensors.query, layer.query);
  visit_if(tensors.key_value, layer.key_value);
  visit_if(tensors.query_bias, layer.query_bias);
  visit_if(tensors.key_value_bias, layer.key_value_bias);
  visit_if(tensors.q_norm, layer.q_norm);
  visit_if(tensors.k_norm, layer.k_norm);
  visit_if(tensors.attention_out, layer.attention_out);
  visit_if(tensors.post_norm, layer.post_norm);
  visit_if(tensors.gate, layer.gate);
  visit_if(tensors.up, layer.up);
  visit_if(tensors.down, layer.down);
}

// Matrices take the form of the compute type; vectors are f32, as are the tables at both ends.
const WeightForm& form_of(const WeightMatrix&, Compute compute) {
  return weight_form(compute);
}
const WeightForm& form_of(std::span<const float>, Compute) {
  return f32_weights();
}

void set_view(const PlacedWeights& placed, std::span<const std::byte> bytes, WeightMatrix& matrix) {
  matrix = {*placed.form, bytes};
}
void set_view(const PlacedWeights&, std::span<const std::byte> bytes,
              std::span<const float>& vector) {
  vector = {reinterpret_cast<const float*>(bytes.data()), bytes.size() / sizeof(float)};
}

}  // namespace

// visit(tensors, weights) for all that the model has, in the order in which it lies in memory.
template <typename Visit>
void Weights::for_each(const ModelTensors& tensors, const TensorParts& embedding,
                       const TensorParts& output_head, const Visit& visit) {
  visit(embedding, embedding_);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    for_each_of_layer(tensors.layers[i], layers_[i], visit);
  }
  visit(tensors.final_norm, final_norm_);
  if (!output_head.empty()) visit(output_head, output_head_);
}

Weights Weights::load(const std::filesystem::path& folder, const ModelConfig& config,
                      Compute compute, const mpi::Communicator& node, ThreadPool& pool,
                      const Placement& placement) {
  Weights weights;
  weights.hidden_ = config.hidden;
  weights.vocabulary_ = config.vocabulary;
  weights.layers_.resize(static_cast<std::size_t>(config.layers));
  std::unique_ptr<TensorSource> source;
  node.agree([&] { source = open_tensors(folder); });
  const Tables tables = find_tables(*source, config.tensors, node, pool);

  WeightLayout layout;
  node.agree([&] {
    weights.for_each(config.tensors, {tables.embedding}, tables.output_head,
                     [&](const TensorParts& parts, const auto& target) {
                       layout.add(*source, parts, form_of(target, compute));
                     });
    refuse_ignored_tensors(*source, layout, config);
  });
  weights.memory_ =
      mpi::SharedMemory::make(node, layout.bytes, placement.store, placement.scratch_folder);
  const std::span<const std::byte> memory = weights.memory_.bytes();
  auto placed = layout.weights.begin();
  weights.for_each(config.tensors, {tables.embedding}, tables.output_head,
                   [&](const TensorParts&, auto& target) {
                     set_view(*placed,
                              memory.subspan(static_cast<std::size_t>(placed->offset),
                                             static_cast<std::size_t>(placed->bytes)),
                              target);
                     ++placed;
                   });
  if (tables.output_head.empty()) weights.output_head_ = weights.embedding_;

  const std::string_view unchecked =
      tables.output_head.empty() ? std::string_view() : tables.embedding.name;
  weights.fingerprint_ = load_tensors(layout, {unchecked, config.tensors.layer_prefix},
                                      weights.memory_.bytes().data(), node, pool);
  node.agree([&] { source->require_unchanged(); });
  node.barrier();
  return weights;
}

}  // namespace powerprefill
