#include "math/linear/compute.hpp"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "math/linear/bf16_matmul.hpp"
#include "math/rows/row_ops.hpp"

namespace powerprefill {

namespace {

// AMX state is large: Linux hands it out on request, once per process.
bool may_use_tiles() {
  constexpr long request_permission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long tile_data = 18;
  return ::syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

Bf16Isa detect() {
  if (!__builtin_cpu_supports("avx512bf16") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512vl")) {
    return Bf16Isa::none;
  }
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  constexpr unsigned amx_bf16 = 1U << 22;
  constexpr unsigned amx_tile = 1U << 24;
  const bool has_tiles =
      __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & amx_bf16) != 0 && (d & amx_tile) != 0;
  // The linear layers go through oneDNN: what it refuses to compute the CPU might as well not have.
  if (!has_bf16_matmul()) return Bf16Isa::none;
  return has_tiles && may_use_tiles() ? Bf16Isa::amx : Bf16Isa::avx512;
}

}  // namespace

Bf16Isa bf16_isa() {
  static const Bf16Isa isa = detect();
  return isa;
}

Compute compute_for(ComputeType type) {
  const bool native = bf16_isa() != Bf16Isa::none;
  if (type == ComputeType::f32) return Compute::f32;
  if (type == ComputeType::automatic && !native) return Compute::f32;
  return native ? Compute::bf16 : Compute::bf16_emulated;
}

void store_operands(Compute compute, const float* x, std::int64_t n, void* out) {
  switch (compute) {
    case Compute::f32:
      if (x != out) std::memcpy(out, x, static_cast<std::size_t>(n) * sizeof(float));
      return;
    case Compute::bf16:
      round_to_bf16(x, n, static_cast<std::uint16_t*>(out));
      return;
    case Compute::bf16_emulated:
      round_to_bf16_in_f32(x, n, static_cast<float*>(out));
      return;
  }
}

}  // namespace powerprefill
