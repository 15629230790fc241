// Attention of one token, as decoding needs it: the query heads of a key/value head over rows of
// keys and values, which are read once, in the dtype of the cache, at the speed of the memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "math/attention/key_value_rows.hpp"

namespace powerprefill {

// scores[h ld + t] = scale query[h] . keys[t], for queries (heads, D) of f32. The value of a score
// depends on its own operands only.
void score_rows(const HeadRows& keys, const float* query, std::int64_t heads, std::int64_t head_dim,
                float scale, float* scores, std::int64_t ld);

// out[h] += sum over t of weights[h ld + t] values[t], in the order of t; out (heads, D) of f32.
void add_weighted_rows(const HeadRows& values, const float* weights, std::int64_t ld,
                       std::int64_t heads, std::int64_t head_dim, float* out);

// The softmax states of one query after each of several runs of keys, `stride` apart, as
// merge_softmax_row() leaves them: out (D) becomes the attention over all of them.
struct RunStates {
  const float* maximum;
  const float* sum;
  const float* result;  // (D)
  std::int64_t stride;
  std::int64_t count;
};
void combine_states(const RunStates& runs, std::int64_t head_dim, float* out);

}  // namespace powerprefill
