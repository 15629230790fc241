#include "math/numerics.hpp"

#include <fmt/format.h>
#include <gnu/libc-version.h>

#include "math/attention/attention.hpp"
#include "math/kernel_revisions.hpp"
#include "math/linear/bf16_matmul.hpp"
#include "math/linear/gemm.hpp"
#include "math/linear/linear.hpp"
#include "math/rows/row_ops.hpp"

namespace powerprefill {

namespace {

// What computes the products.
std::string products(Compute compute) {
  // The second one is that of a gated layer's two products.
  const std::string blas =
      fmt::format("{} {}; tiles {}x{} {}x2x{} {}x{}", blas_version(), blas_core(), kTileTokens,
                  kPanelOutputs, kTileTokens, kPanelOutputs, kQueryTile, kKeyTile);
  switch (compute) {
    case Compute::f32:
      return "f32; " + blas;
    case Compute::bf16_emulated:
      return "bf16 emulated; " + blas;
    case Compute::bf16:
      break;
  }
  return fmt::format("bf16; {} {} {}; tiles {}x{} {}x2x{}", matmul_library(),
                     matmul_kernel(kTileTokens, kBf16Panel, kBf16Panel),
                     bf16_isa() == Bf16Isa::amx ? "AMX" : "AVX512_BF16", kTileTokens, kBf16Panel,
                     kTileTokens, kBf16Panel);
}

}  // namespace

std::string numerics_id(Compute compute) {
  // libm's cosine and sine make the RoPE tables.
  return fmt::format("{}; kernels {}; Highway {}; glibc {}", products(compute), kernel_revisions(),
                     simd_target(), gnu_get_libc_version());
}

std::string kernel_revisions() {
  return fmt::format("rows {}, linear {}, attention {}, bf16 attention {}, row attention {}",
                     kRowsRevision, kLinearRevision, kAttentionRevision, kBf16AttentionRevision,
                     kRowAttentionRevision);
}

}  // namespace powerprefill
