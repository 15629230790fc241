// Choices that options name.
#pragma once

namespace powerprefill {

// Operands of the linear layers and of attention; sums are f32 in any case.
enum class ComputeType {
  automatic,  // bf16 where the CPUs of all ranks have it, else f32
  f32,
  bf16,  // by the CPU's own instructions where it has them, else emulated, which is slow
};

// Which rank owns which blocks; results do not depend on it. `automatic` takes zigzag, which
// balances full attention, when the schedule has a full layer.
enum class BlockPartition { automatic, contiguous, zigzag };

// The type of keys and values, in the cache and while attending; `automatic`: that of the compute
// type.
enum class KvType { automatic, f32, bf16, f16 };

}  // namespace powerprefill
