// The inner steps of bf16 attention, for 32 query rows and up to 256 keys, in the instruction sets
// that have them.
#pragma once

#include <cstdint>

#include "math/linear/compute.hpp"

namespace powerprefill {

struct Bf16Tile {
  const std::uint16_t* query;    // (32, columns)
  const std::uint16_t* key;      // (columns/2, keys, 2)
  const std::uint16_t* value;    // (keys/2, columns, 2)
  float* scores;                 // (32, keys)
  std::uint16_t* probabilities;  // (32, keys)
  float* maximum;                // (32)
  float* sum;                    // (32)
  float* out;                    // (32, columns)
  const std::int32_t* visible;   // (32), keys that the row sees
  std::int64_t keys;             // of the packed tile, a multiple of 32
  std::int64_t used_keys;        // that any row sees, rounded up to 32
  std::int64_t columns;          // D, a multiple of 32
  float scale;
};

struct Bf16Kernels {
  void (*begin)();                   // before the steps of a call
  void (*end)();                     // after them
  void (*scores)(const Bf16Tile&);   // scores = query key^T
  void (*softmax)(const Bf16Tile&);  // merges the scaled scores into maximum and sum, scales out
  void (*values)(const Bf16Tile&);   // out += probabilities value
};

// @pre isa is not none
const Bf16Kernels& bf16_kernels(Bf16Isa isa);

}  // namespace powerprefill
