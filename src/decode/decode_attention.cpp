// Attention of one decoded token in one layer.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/checked.hpp"
#include "decode/decoder_state.hpp"
#include "math/attention/row_attention.hpp"
#include "math/rows/row_ops.hpp"

namespace powerprefill {

namespace {

// A task merges so many tokens, or one block: enough tasks for all threads whatever the number of
// heads, and the same ones for any number of threads.
constexpr std::int64_t kTaskTokens = 1024;

// Softmax states of the query heads of one key/value head.
struct GroupStates {
  float* maximum;  // (heads)
  float* sum;      // (heads)
  float* result;   // (heads, D)

  static std::int64_t floats(std::int64_t heads, std::int64_t head_dim) {
    return heads * (2 + head_dim);
  }
  GroupStates(float* room, std::int64_t heads)
      : maximum(room), sum(room + heads), result(room + 2 * heads) {}
};

// Merges key blocks into the states, from nothing.
class GroupAttention {
 public:
  GroupAttention(const PastBlocks& past, std::int64_t layer, std::int64_t kv_head,
                 std::int64_t tokens, const float* query, std::int64_t heads,
                 const GroupStates& states)
      : past_(past),
        layer_(layer),
        kv_head_(kv_head),
        tokens_(tokens),
        query_(query),
        heads_(heads),
        states_(states),
        scores_(static_cast<std::size_t>(heads * past.shape().block)) {
    std::fill_n(states_.maximum, heads, -std::numeric_limits<float>::infinity());
    std::fill_n(states_.sum, heads, 0.0F);
    std::fill_n(states_.result, heads * past.shape().head_dim, 0.0F);
  }

  void merge(std::int64_t block) {
    const std::int64_t first = block * past_.shape().block;
    const std::int64_t count = std::min(past_.shape().block, tokens_ + 1 - first);
    const std::int64_t in_file = std::clamp<std::int64_t>(past_.file_tokens() - first, 0, count);
    if (in_file > 0) merge_rows(past_.file_rows(layer_, block, kv_head_));
    if (in_file < count) {
      merge_rows(
          past_.new_rows(layer_, first + in_file - past_.file_tokens(), count - in_file, kv_head_));
    }
  }

 private:
  void merge_rows(const HeadKeysValues& rows) {
    const std::int64_t d = past_.shape().head_dim;
    const std::int64_t ld = past_.shape().block;
    const std::int64_t count = rows.key.rows;
    score_rows(rows.key, query_, heads_, d, 1.0F / std::sqrt(static_cast<float>(d)), scores_.data(),
               ld);
    for (std::int64_t h = 0; h < heads_; ++h) {
      merge_softmax_row(scores_.data() + h * ld, count, count, states_.maximum[h], states_.sum[h],
                        states_.result + h * d, d);
    }
    add_weighted_rows(rows.value, scores_.data(), ld, heads_, d, states_.result);
  }

  const PastBlocks& past_;
  std::int64_t layer_;
  std::int64_t kv_head_;
  std::int64_t tokens_;
  const float* query_;
  std::int64_t heads_;
  GroupStates states_;
  std::vector<float> scores_;  // (heads, B)
};

}  // namespace

// The key blocks are cut into runs, whose states are combined in their order.
void Decoder::State::attend(std::int64_t layer, const OutputRange& kv_heads) {
  const ModelConfig& c = model.config;
  const std::int64_t block = past->shape().block;
  const std::int64_t group = c.heads / c.kv_heads;
  const std::int64_t d = c.head_dim;
  const std::vector<std::int64_t> blocks =
      patterns[static_cast<std::size_t>(layer)]->key_blocks(tokens / block);
  past->begin_layer();
  past->load(*model.pool, layer, blocks);
  const auto run = std::max<std::int64_t>(1, kTaskTokens / block);
  const std::int64_t runs = ceil_div(static_cast<std::int64_t>(blocks.size()), run);
  const std::int64_t stride = GroupStates::floats(group, d);
  const std::int64_t tasks = (kv_heads.end - kv_heads.begin) * runs;
  partial.resize(static_cast<std::size_t>(tasks * stride));
  model.pool->run(tasks, [&](std::int64_t task, int) {
    const std::int64_t kv_head = kv_heads.begin + task / runs;
    GroupAttention attention(*past, layer, kv_head, tokens, projected.data() + kv_head * group * d,
                             group, {partial.data() + task * stride, group});
    const std::int64_t first = task % runs * run;
    const std::int64_t end = std::min(first + run, static_cast<std::int64_t>(blocks.size()));
    for (std::int64_t i = first; i < end; ++i) attention.merge(blocks[static_cast<std::size_t>(i)]);
  });
  for (std::int64_t kv_head = kv_heads.begin; kv_head < kv_heads.end; ++kv_head) {
    const GroupStates states(partial.data() + (kv_head - kv_heads.begin) * runs * stride, group);
    for (std::int64_t h = 0; h < group; ++h) {
      combine_states({states.maximum + h, states.sum + h, states.result + h * d, stride, runs}, d,
                     attended.data() + (kv_head * group + h) * d);
    }
  }
}

}  // namespace powerprefill
