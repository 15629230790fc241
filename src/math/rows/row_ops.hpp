// Operations on rows of f32, vectorised for the CPU at hand. Pointers need no alignment.
#pragma once

#include <cstdint>
#include <string>

namespace powerprefill {

// out[i] = weight[i] (x[i] / sqrt(mean(x^2) + epsilon)), i in [0, n). `out` may be `x`.
void rms_norm(const float* x, const float* weight, float epsilon, std::int64_t n, float* out);

// gate[i] = silu(gate[i]) up[i], silu(v) = v / (1 + exp(-v)).
void silu_multiply(float* gate, const float* up, std::int64_t n);

// What a gated feed-forward layer makes of its gate.
enum class Activation { silu };
// gate[i] = activation(gate[i]) up[i]
inline void activate_multiply(Activation activation, float* gate, const float* up, std::int64_t n) {
  switch (activation) {
    case Activation::silu:
      silu_multiply(gate, up, n);
  }
}

// y[i] += x[i]
void add(float* y, const float* x, std::int64_t n);

// Rotary embedding of one head: pairs (x[i], x[i + D/2]) turn by the angle with the given cosine
// and sine, (D/2) each. `out` may be `x`. Source: RoFormer (arXiv 2104.09864), half-split as in
// Llama.
void rotate_pairs(const float* x, const float* cosine, const float* sine, std::int64_t head_dim,
                  float* out);

// Inner product in f32 with a fixed order of additions.
float dot(const float* a, const float* b, std::int64_t n);

// One row of an online softmax: merges `count` new scores into the state (maximum, sum).
// scores[i] becomes exp(scores[i] - new maximum) for i < count and 0 for count <= i < width; the
// row of results so far, out (out_size), is scaled to the new maximum. count >= 1. Source: arXiv
// 1805.02867.
void merge_softmax_row(float* scores, std::int64_t count, std::int64_t width, float& maximum,
                       float& sum, float* out, std::int64_t out_size);

// Rounds to bf16: to nearest, ties to even; a NaN stays one. `out` may begin where `x` begins.
void round_to_bf16(const float* x, std::int64_t n, std::uint16_t* out);
// The same values, as f32. `out` may be `x`.
void round_to_bf16_in_f32(const float* x, std::int64_t n, float* out);

// The instruction set in use, e.g. "AVX2".
std::string simd_target();

}  // namespace powerprefill
