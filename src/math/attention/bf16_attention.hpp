// Block attention on bf16 operands with the CPU's own bf16 instructions: AMX tiles, or AVX-512.
//
// The same recurrence as attention.hpp. Scores, softmax statistics and results are f32; the
// probabilities are rounded to bf16 before they meet the values. A tile of keys and values is
// packed once and used by all query rows of the stack.
#pragma once

#include <cstdint>

#include "base/aligned_buffer.hpp"
#include "base/dtype.hpp"
#include "math/attention/attention.hpp"
#include "math/attention/key_value_rows.hpp"
#include "math/linear/compute.hpp"

namespace powerprefill {

// Rows and columns of the stacks in memory: zero-padded to what the kernels take at once.
inline constexpr std::int64_t kBf16Rows = 32;
inline constexpr std::int64_t kBf16Columns = 32;
inline constexpr std::int64_t kBf16KeyTile = 256;  // keys in one product

// Thread-local working memory.
class Bf16Scratch {
 public:
  explicit Bf16Scratch(const AttentionShape& shape);
  std::int64_t bytes() const {
    return static_cast<std::int64_t>(key.bytes() + value.bytes() + scores.bytes() +
                                     probabilities.bytes());
  }

  AlignedBuffer<std::uint16_t> key;            // (D/2, keys, 2)
  AlignedBuffer<std::uint16_t> value;          // (keys/2, D, 2)
  AlignedBuffer<float> scores;                 // (kBf16Rows, keys)
  AlignedBuffer<std::uint16_t> probabilities;  // (kBf16Rows, keys)
};

struct Bf16State {
  const std::uint16_t* query;  // (padded rows, padded D), after RoPE
  float* maximum;              // (padded rows)
  float* sum;                  // (padded rows)
  float* out;                  // (padded rows, padded D)
};

// Like merge_key_block(), for the keys that are present. @pre isa is not none
void merge_key_block_bf16(Bf16Isa isa, const AttentionShape& shape, const Bf16State& state,
                          const KeyValueRows& rows, bool diagonal, Bf16Scratch& scratch);

}  // namespace powerprefill
