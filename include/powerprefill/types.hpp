// Choices that options name.
#pragma once

#include <string_view>

namespace powerprefill {

// Operands of the linear layers and of attention; sums are f32 in any case.
enum class ComputeType {
  automatic,  // bf16 where the CPUs of all ranks have it, else f32
  f32,        // the reference
  bf16,       // by the CPU's own instructions where it has them, else emulated, which is slow
};

// Which rank owns which blocks; results do not depend on it. `automatic` takes zigzag, which
// balances full attention, when the schedule has a full layer.
enum class BlockPartition {
  automatic,
  contiguous,  // a run of blocks each
  zigzag,      // an early and a late run each
};

// The type of keys and values, in the cache and while attending; `automatic`: that of the compute
// type.
enum class KvType {
  automatic,
  f32,
  bf16,  // the range of f32, 8 bits of precision
  f16,   // up to 65504, 11 bits of precision
};

// As the command line spells them: "auto", "f32", "bf16", "f16".
constexpr std::string_view name_of(ComputeType type) {
  return type == ComputeType::automatic ? "auto" : type == ComputeType::f32 ? "f32" : "bf16";
}
constexpr std::string_view name_of(KvType type) {
  switch (type) {
    case KvType::f32:
      return "f32";
    case KvType::bf16:
      return "bf16";
    case KvType::f16:
      return "f16";
    case KvType::automatic:
      break;
  }
  return "auto";
}

}  // namespace powerprefill
