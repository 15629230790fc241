#include "math/numerics.hpp"

#include <gnu/libc-version.h>

#include <fmt/format.h>

#include "math/attention.hpp"
#include "math/gemm.hpp"
#include "math/linear.hpp"
#include "math/row_ops.hpp"

namespace powerprefill {

std::string numerics_id() {
  // libm's cosine and sine make the RoPE tables.
  return fmt::format("f32; {} {}; Highway {}; glibc {}; tiles {}x{} {}x{}", blas_version(),
                     blas_core(), simd_target(), gnu_get_libc_version(), kTileTokens, kPanelOutputs,
                     kQueryTile, kKeyTile);
}

}  // namespace powerprefill
