// The tasks of a gated layer, whatever the form of its weights.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

#include "base/aligned_buffer.hpp"
#include "base/checked.hpp"
#include "base/thread_pool.hpp"
#include "math/linear/weight_form.hpp"
#include "math/rows/row_ops.hpp"

namespace powerprefill {

// The products of one task of a gated layer: outputs [first, first + count) of kTileTokens rows.
struct GatedPart {
  std::int64_t first;
  std::int64_t count;
  float* gate;  // (kTileTokens, count)
  float* up;    // likewise
};

// Tasks over (panel, tile), tiles of a panel one after another: multiply(part, panel, first row).
template <typename Multiply>
void run_gated(ThreadPool& pool, const GatedLinear& linear, std::int64_t tiles,
               std::int64_t panel_outputs, void* y, const std::function<void()>& between,
               const Multiply& multiply) {
  const Compute compute = linear.gate.form->operands();
  pool.run(
      tiles * ceil_div(linear.outputs, panel_outputs),
      [&](std::int64_t task, int) {
        thread_local AlignedBuffer<float> room;
        const std::int64_t needed = 2 * kTileTokens * panel_outputs;
        if (std::cmp_less(room.size(), needed)) room = AlignedBuffer<float>(needed);
        const std::int64_t panel = task / tiles;
        const std::int64_t row = task % tiles * kTileTokens;
        const std::int64_t first = panel * panel_outputs;
        const std::int64_t count = std::min(panel_outputs, linear.outputs - first);
        const GatedPart part = {first, count, room.data(), room.data() + kTileTokens * count};
        multiply(part, panel, row);
        for (std::int64_t r = 0; r < kTileTokens; ++r) {
          float* gate = part.gate + r * count;
          activate_multiply(linear.activation, gate, part.up + r * count, count);
          store_operands(compute, gate, count,
                         static_cast<std::byte*>(y) +
                             ((row + r) * linear.outputs + first) * operand_bytes(compute));
        }
      },
      between);
}

}  // namespace powerprefill
