// Attention in double precision over a whole prompt, as plain as it can be. Tests and benches
// compare the block kernels with it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace powerprefill {

struct ReferenceShape {
  std::int64_t tokens;    // T
  std::int64_t heads;     // H
  std::int64_t kv_heads;  // G, divides H; query head h uses key/value head h / (H / G)
  std::int64_t head_dim;  // D
  std::int64_t block;     // B, for the mask and the bound
};

// Whether query block i attends to key block j. Asked for j <= i only; causality of tokens holds in
// any case.
using BlockMask = std::function<bool(std::int64_t query_block, std::int64_t key_block)>;

struct ReferenceResult {
  // softmax(q k / sqrt(D)) v, (T, H, D); zero for a token that sees nothing.
  std::vector<double> out;

  // How far an f32 kernel that merges key tiles into an online softmax may be from `out`, (T, H,
  // D).
  //
  // With u = 2^-24, S = max_j |q| |k_j| / sqrt(D), n keys seen, m merges, first order in u:
  //   score             (D + 2) u S         gamma_D of the inner product, the scale, its rounding
  //   score - maximum   2 S u               absolute, so relative after exp
  //   exp               2 u                 one unit in the last place
  //   each merge        (2 S + 4) u         exp of the change of maximum, and two products
  //   sums over keys    n u
  // All of it may occur in the numerator and in the denominator: out differs by at most twice the
  // sum of these, times sum_j p_j |v_j|, plus the division's u. A tenth is added for higher orders.
  std::vector<double> bound;
};

// q is (T, H, D), k and v are (T, G, D), after any position embedding. `largest_tile`: keys that
// one merge takes at most; it only enters the bound.
ReferenceResult attention_reference(const ReferenceShape& shape, std::span<const float> q,
                                    std::span<const float> k, std::span<const float> v,
                                    const BlockMask& attends, std::int64_t largest_tile = 256);

}  // namespace powerprefill
