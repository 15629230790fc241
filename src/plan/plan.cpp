#include "powerprefill/plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/checked.hpp"
#include "cache/format/layout.hpp"
#include "layers/chunk.hpp"
#include "math/compute.hpp"
#include "math/linear/bf16_matmul.hpp"
#include "partition/balance.hpp"
#include "partition/partition.hpp"
#include "plan/memory_plan.hpp"

namespace powerprefill {

namespace {

struct Matrix {
  std::int64_t inputs;
  std::int64_t outputs;
};

std::vector<Matrix> matrices_of(const ModelConfig& c) {
  const std::int64_t queries = c.heads * c.head_dim;
  return {{c.hidden, queries},
          {c.hidden, 2 * c.kv_heads * c.head_dim},
          {queries, c.hidden},
          {c.hidden, 2 * c.feed_forward},
          {c.feed_forward, c.hidden}};
}

// Vectors of a layer: norms and biases.
std::int64_t vector_elements(const ModelConfig& c) {
  return 2 * c.hidden + (c.qkv_bias ? (c.heads + 2 * c.kv_heads) * c.head_dim : 0) +
         (c.qk_norm ? 2 * c.head_dim : 0);
}

void count_weights(const ModelConfig& c, Compute compute, Plan& plan) {
  constexpr std::int64_t f32 = sizeof(float);
  const std::int64_t tables = c.vocabulary * c.hidden * (c.tied_embeddings ? 1 : 2) + c.hidden;
  std::int64_t layer_bytes = vector_elements(c) * f32;
  plan.parameters = tables + c.layers * vector_elements(c);
  for (const Matrix& m : matrices_of(c)) {
    const std::int64_t elements = checked_mul(m.inputs, m.outputs);
    plan.parameters += c.layers * elements;
    layer_bytes +=
        compute == Compute::bf16 ? PackedShape(m.inputs, m.outputs).bytes() : elements * f32;
  }
  plan.weights_bytes = tables * f32 + c.layers * layer_bytes;
}

void count_cache(const ModelConfig& c, const PlanOptions& options, DType dtype, Plan& plan) {
  CacheHeader header;
  header.block_tokens = options.schedule.block;
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
  for (const PatternSpec& spec : options.schedule.layers) {
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
  check_schedule(options.schedule);
  if (static_cast<std::int64_t>(options.schedule.layers.size()) != config.layers) {
    throw Error(ErrorCode::usage, fmt::format("the schedule has {} layers, the model {}",
                                              options.schedule.layers.size(), config.layers));
  }
  Plan plan;
  const Compute compute = compute_from_name(options.compute);
  plan.compute = name_of(compute);
  plan.kv_dtype = options.kv_dtype == "auto" ? plan.compute : options.kv_dtype;
  const std::optional<DType> dtype = dtype_from_name(plan.kv_dtype);
  if (!dtype) {
    throw Error(ErrorCode::usage,
                fmt::format("unknown dtype '{}'; choose auto, f32, bf16 or f16", options.kv_dtype));
  }
  const KvShape kv = {options.schedule.block, config.kv_heads, config.head_dim, *dtype};
  ChunkShape chunk = {.tokens = options.tokens,
                      .prompt = options.tokens,
                      .ranks = options.ranks,
                      .threads = options.threads,
                      .zigzag = takes_zigzag(options.partition, options.schedule),
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
  count_cache(config, options, *dtype, plan);
  count_work(config, options, kv, chunk.zigzag, plan);
  return plan;
}

}  // namespace powerprefill
