#include "decode/cached_attention.hpp"

#include <algorithm>
#include <limits>

#include "base/checked.hpp"
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
                 std::int64_t position, const float* query, const LayerRecipe& recipe,
                 const GroupStates& states)
      : past_(past),
        layer_(layer),
        kv_head_(kv_head),
        position_(position),
        query_(query),
        heads_(recipe.group()),
        scale_(recipe.score_scale),
        states_(states),
        scores_(static_cast<std::size_t>(heads_ * past.shape().block)) {
    std::fill_n(states_.maximum, heads_, -std::numeric_limits<float>::infinity());
    std::fill_n(states_.sum, heads_, 0.0F);
    std::fill_n(states_.result, heads_ * past.shape().head_dim, 0.0F);
  }

  void merge(std::int64_t block) {
    const std::int64_t first = block * past_.shape().block;
    const std::int64_t count = std::min(past_.shape().block, position_ + 1 - first);
    const std::int64_t in_file = std::clamp<std::int64_t>(past_.file_tokens() - first, 0, count);
    if (in_file > 0) merge_rows(past_.file_rows(layer_, block, kv_head_));
    if (in_file < count) {
      merge_rows(
          past_.new_rows(layer_, first + in_file - past_.file_tokens(), count - in_file, kv_head_));
    }
  }

 private:
  void merge_rows(const KeyValueRows& rows) {
    const std::int64_t d = past_.shape().head_dim;
    const std::int64_t ld = past_.shape().block;
    const std::int64_t count = rows.key.rows;
    score_rows(rows.key, query_, heads_, d, scale_, scores_.data(), ld);
    for (std::int64_t h = 0; h < heads_; ++h) {
      merge_softmax_row(scores_.data() + h * ld, count, count, states_.maximum[h], states_.sum[h],
                        states_.result + h * d, d);
    }
    add_weighted_rows(rows.value, scores_.data(), ld, heads_, d, states_.result);
  }

  const PastBlocks& past_;
  std::int64_t layer_;
  std::int64_t kv_head_;
  std::int64_t position_;
  const float* query_;
  std::int64_t heads_;
  float scale_;
  GroupStates states_;
  std::vector<float> scores_;  // (heads, B)
};

}  // namespace

CachedAttention::CachedAttention(const ModelRecipe& recipe, PastBlocks& past, ThreadPool& pool,
                                 const Part& heads,
                                 const std::vector<std::shared_ptr<const Pattern>>& patterns)
    : recipe_(recipe),
      past_(past),
      pool_(pool),
      heads_(heads),
      patterns_(patterns),
      key_(static_cast<std::size_t>(past.shape().row_bytes())),
      value_(key_.size()) {}

void CachedAttention::take_keys(std::int64_t layer, const std::function<void()>& fill) {
  const LayerRecipe& recipe = recipe_.layers[static_cast<std::size_t>(layer)];
  query_.resize(static_cast<std::size_t>(recipe.heads * recipe.head_dim));
  result_.resize(query_.size());
  fill();
  past_.append(layer, key_, value_);
}

KvSpan CachedAttention::key_value(const Row& row) {
  position_ = row.position;
  return {key_, value_};
}

void CachedAttention::set_query(std::int64_t head, const Row&, const float* query) {
  std::copy_n(query, past_.shape().head_dim, query_.data() + head * past_.shape().head_dim);
}

// The key blocks are cut into runs, whose states are combined in their order.
void CachedAttention::attend(std::int64_t layer) {
  const LayerRecipe& recipe = recipe_.layers[static_cast<std::size_t>(layer)];
  const std::int64_t block = past_.shape().block;
  const std::int64_t group = recipe.group();
  const std::int64_t d = recipe.head_dim;
  const std::vector<std::int64_t> blocks =
      patterns_[static_cast<std::size_t>(layer)]->key_blocks(position_ / block);
  past_.begin_layer();
  past_.load(pool_, layer, blocks);
  const auto run = std::max<std::int64_t>(1, kTaskTokens / block);
  const std::int64_t runs = ceil_div(static_cast<std::int64_t>(blocks.size()), run);
  const std::int64_t stride = GroupStates::floats(group, d);
  const std::int64_t tasks = heads_.count() * runs;
  partial_.resize(static_cast<std::size_t>(tasks * stride));
  pool_.run(tasks, [&](std::int64_t task, int) {
    const std::int64_t kv_head = heads_.begin + task / runs;
    GroupAttention attention(past_, layer, kv_head, position_, query_.data() + kv_head * group * d,
                             recipe, {partial_.data() + task * stride, group});
    const std::int64_t first = task % runs * run;
    const std::int64_t end = std::min(first + run, static_cast<std::int64_t>(blocks.size()));
    for (std::int64_t i = first; i < end; ++i) attention.merge(blocks[static_cast<std::size_t>(i)]);
  });
  for (std::int64_t kv_head = heads_.begin; kv_head < heads_.end; ++kv_head) {
    const GroupStates states(partial_.data() + (kv_head - heads_.begin) * runs * stride, group);
    for (std::int64_t h = 0; h < group; ++h) {
      combine_states({states.maximum + h, states.sum + h, states.result + h * d, stride, runs}, d,
                     result_.data() + (kv_head * group + h) * d);
    }
  }
}

void CachedAttention::read_result(std::int64_t head, const Row&, float* out) const {
  const std::int64_t d = past_.shape().head_dim;
  std::copy_n(result_.data() + head * d, d, out);
}

}  // namespace powerprefill
