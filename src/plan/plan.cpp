#include "powerprefill/plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/checked.hpp"
#include "cache/format/layout.hpp"
#include "math/linear/compute.hpp"
#include "math/linear/weight_form.hpp"
#include "model/families/load_config.hpp"
#include "partition/balance.hpp"
#include "partition/partition.hpp"
#include "plan/chunks.hpp"
#include "plan/memory_plan.hpp"

namespace powerprefill {

namespace {

// Of a vector, or of a matrix whose tensors follow each other.
std::int64_t elements_of(const TensorParts& parts) {
  std::int64_t all = 0;
  for (const NamedTensor& part : parts) {
    std::int64_t elements = 1;
    for (const std::int64_t size : part.shape) elements = checked_mul(elements, size);
    all += elements;
  }
  return all;
}

// As Weights places them: matrices in the form of the compute type, all else in f32.
void count_weights(const ModelConfig& c, Compute compute, Plan& plan) {
  constexpr std::int64_t f32 = sizeof(float);
  const std::int64_t tables = c.vocabulary * c.hidden * (c.tied_embeddings ? 1 : 2) + c.hidden;
  plan.parameters = tables;
  plan.weights_bytes = tables * f32;
  for (const LayerTensors& layer : c.tensors.layers) {
    for (const TensorParts* vector : {&layer.input_norm, &layer.query_bias, &layer.key_value_bias,
                                      &layer.q_norm, &layer.k_norm, &layer.post_norm}) {
      plan.parameters += elements_of(*vector);
      plan.weights_bytes += elements_of(*vector) * f32;
    }
    for (const TensorParts* matrix : {&layer.query, &layer.key_value, &layer.attention_out,
                                      &layer.gate, &layer.up, &layer.down}) {
      const std::int64_t elements = elements_of(*matrix);
      const std::int64_t inputs = matrix->front().shape.back();
      plan.parameters += elements;
      plan.weights_bytes += weight_form(compute).bytes({elements / inputs, inputs});
    }
  }
}

void count_cache(const ModelConfig& c, const PlanOptions& options, DType dtype, Plan& plan) {
  CacheHeader header;
  header.block_tokens = options.run.schedule.block;
  header.capacity = round_up(options.tokens, header.block_tokens) +
                    round_up(options.reserve, header.block_tokens);
  header.num_layers = c.layers;
  header.num_kv_heads = c.kv_heads;
  header.head_dim = c.head_dim;
  header.hidden = c.hidden;
  header.vocabulary = c.vocabulary;
  header.dtype = dtype;
  header.saves_hidden = options.save_hidden;
  for (const hdf5::DatasetSpec& spec : datasets_of(header)) plan.cache_bytes += spec.bytes();
}

// Of one chunk that is the whole prompt; what is past does not travel.
void count_work(const ModelConfig& c, const PlanOptions& options, const KvShape& kv, bool zigzag,
                Plan& plan) {
  plan.linear_flops = linear_flops(c, options.tokens);
  const Partition partition = chunk_partition(options.tokens, kv.block, options.ranks, zigzag);
  std::vector<double> pairs(static_cast<std::size_t>(options.ranks));
  std::vector<std::int64_t> received(pairs.size());
  std::vector<std::pair<PatternSpec, Balance>> known;
  for (const PatternSpec& spec : options.run.schedule.layers) {
    auto found = std::find_if(known.begin(), known.end(),
                              [&](const auto& entry) { return entry.first == spec; });
    if (found == known.end()) {
      known.emplace_back(spec, balance_of(*make_pattern(spec), partition));
      found = known.end() - 1;
    }
    for (std::size_t r = 0; r < pairs.size(); ++r) {
      pairs[r] += static_cast<double>(found->second.pairs[r]);
      received[r] += found->second.received[r] * 2 * kv.block_bytes();
    }
  }
  double all = 0;
  for (const double of_rank : pairs) all += of_rank;
  const double pair_flops =
      4.0 * static_cast<double>(kv.block * kv.block) * static_cast<double>(c.heads * c.head_dim);
  plan.attention_flops = all * pair_flops;
  plan.balance = *std::max_element(pairs.begin(), pairs.end()) * options.ranks / all;
  plan.received_bytes = *std::max_element(received.begin(), received.end());
}

}  // namespace

Plan plan(const PlanOptions& options) {
  const ModelConfig config = load_config(options.model);
  if (options.tokens < 1 || options.ranks < 1 || options.nodes < 1 || options.threads < 1 ||
      options.nodes > options.ranks) {
    throw Error(
        ErrorCode::usage,
        fmt::format("a plan for {} tokens on {} ranks of {} threads on {} nodes; at least 1 "
                    "of each, and a rank for every node",
                    options.tokens, options.ranks, options.threads, options.nodes));
  }
  check_schedule(options.run.schedule);
  if (static_cast<std::int64_t>(options.run.schedule.layers.size()) != config.layers) {
    throw Error(ErrorCode::usage, fmt::format("the schedule has {} layers, the model {}",
                                              options.run.schedule.layers.size(), config.layers));
  }
  Plan plan;
  const Compute compute = compute_for(options.compute);
  const KvShape kv = kv_shape_of(config, options.run, compute);
  plan.compute = type_of(compute);
  plan.kv_type = kv_type_of(kv.dtype);
  ChunkShape chunk = {.tokens = options.tokens,
                      .prompt = options.tokens,
                      .ranks = options.ranks,
                      .threads = options.threads,
                      .zigzag = takes_zigzag(options.run.partition, options.run.schedule),
                      .saves_hidden = options.save_hidden,
                      .operand_bytes = operand_bytes(compute)};
  plan.chunk_tokens =
      options.chunk_tokens > 0
          ? round_up(options.chunk_tokens, kv.block)
          : default_chunk(config, kv, chunk, std::numeric_limits<std::int64_t>::max());
  plan.chunks = ceil_div(options.tokens, plan.chunk_tokens);
  chunk.tokens = std::min(options.tokens, plan.chunk_tokens);
  const RankMemory memory = rank_memory(config, kv, chunk);
  plan.activation_bytes = memory.activations;
  plan.attention_bytes = memory.attention;
  plan.key_value_bytes = memory.keys_values;
  plan.exchange_bytes = memory.exchange;
  plan.past_bytes = memory.past;
  plan.rank_bytes = memory.total();
  count_weights(config, compute, plan);
  plan.node_bytes = plan.weights_bytes + plan.rank_bytes * ceil_div(options.ranks, options.nodes);
  count_cache(config, options, kv.dtype, plan);
  count_work(config, options, kv, chunk.zigzag, plan);
  return plan;
}

}  // namespace powerprefill
