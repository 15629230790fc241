// Which bits the kernels written here compute. The versions of libraries do not tell: two builds of
// this program may differ in nothing else.
#pragma once

#include <string>

namespace powerprefill {

// Raise a number whenever its family computes other bits on any CPU, with the hashes that
// tests/unit/kernel_bits_test.cpp has recorded: that test fails when bits change and the number
// does not. The numbers are part of the numerics id, so that caches and ranks of other bits are
// told.
inline constexpr int kRowsRevision = 1;    // row_ops, rope: norms, activation, rotation, rounding
inline constexpr int kLinearRevision = 1;  // linear: order of panels and biases, single rows
inline constexpr int kAttentionRevision = 1;      // packed_product, attention: f32
inline constexpr int kBf16AttentionRevision = 1;  // bf16_tiles, bf16_attention
inline constexpr int kRowAttentionRevision = 1;   // row_attention: decoding

// "rows 1, linear 1, attention 1, bf16 attention 1, row attention 1"
std::string kernel_revisions();

}  // namespace powerprefill
