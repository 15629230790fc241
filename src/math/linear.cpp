#include "math/linear.hpp"

#include <algorithm>

#include "base/checked.hpp"
#include "math/row_ops.hpp"

namespace powerprefill {

namespace {
constexpr std::int64_t kRowOutputs = 64;  // outputs per task of a single-row product
}

void apply_linear(ThreadPool& pool, const Linear& linear, std::int64_t tiles, MatrixView x,
                  MatrixSpan y, bool accumulate, const std::function<void()>& between) {
  const std::int64_t panels = ceil_div(linear.outputs, kPanelOutputs);
  pool.run(
      tiles * panels,
      [&](std::int64_t task, int) {
        const std::int64_t row = task / panels * kTileTokens;
        const std::int64_t first = task % panels * kPanelOutputs;
        const std::int64_t count = std::min(kPanelOutputs, linear.outputs - first);
        float* out = y.data + row * y.ld + first;
        gemm_nt(kTileTokens, count, linear.inputs, 1.0F, {x.data + row * x.ld, x.ld},
                {linear.weight.data() + first * linear.inputs, linear.inputs},
                accumulate ? 1.0F : 0.0F, {out, y.ld});
        if (linear.bias.empty()) return;
        for (std::int64_t r = 0; r < kTileTokens; ++r) {
          add(out + r * y.ld, linear.bias.data() + first, count);
        }
      },
      between);
}

void apply_linear_row(ThreadPool& pool, const Linear& linear, const float* x, std::int64_t begin,
                      std::int64_t end, float* y) {
  pool.run(ceil_div(end - begin, kRowOutputs), [&](std::int64_t task, int) {
    const std::int64_t first = begin + task * kRowOutputs;
    for (std::int64_t o = first; o < std::min(end, first + kRowOutputs); ++o) {
      const float value = dot(linear.weight.data() + o * linear.inputs, x, linear.inputs);
      y[o] = linear.bias.empty() ? value : value + linear.bias[static_cast<std::size_t>(o)];
    }
  });
}

}  // namespace powerprefill
