// How weight matrices are kept in memory and multiplied: one file per form.
//
// A form knows its layout in memory, how to make it from the elements of a checkpoint, and the
// three products that a transformer needs. A new form (int8, say) is a file that defines another
// one, and a line in weight_form(); nothing else asks how weights are stored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/dtype.hpp"
#include "base/thread_pool.hpp"
#include "math/linear/compute.hpp"
#include "math/linear/linear.hpp"

namespace powerprefill {

struct MatrixShape {
  std::int64_t outputs;
  std::int64_t inputs;
};

class WeightForm {
 public:
  virtual ~WeightForm() = default;

  // The operands that are multiplied with such weights.
  virtual Compute operands() const = 0;
  // Of a whole matrix.
  virtual std::int64_t bytes(const MatrixShape& shape) const = 0;

  // Making. Elements of a checkpoint become elements of the form, of so many bytes each...
  virtual std::int64_t element_bytes() const = 0;
  virtual void convert(DType from, std::span<const std::byte> elements, std::byte* to) const = 0;
  // ...which are the matrix, row after row, where this is 0. Else so many outputs (the last time
  // fewer) are packed together: panel p of a matrix at `matrix` from its converted rows.
  virtual std::int64_t panel_outputs() const { return 0; }
  virtual void pack(const MatrixShape& shape, std::int64_t panel, const std::byte* rows,
                    std::byte* matrix) const;

  // Outputs [first, first + count) as a matrix of their own. @pre `first` begins a panel.
  virtual WeightMatrix part(const WeightMatrix& matrix, std::int64_t inputs, std::int64_t first,
                            std::int64_t count) const = 0;

  // The products, see linear.hpp.
  using Between = std::function<void()>;
  virtual void apply(ThreadPool& pool, const Linear& linear, std::int64_t tiles, OperandView x,
                     MatrixSpan y, bool accumulate, const Between& between) const = 0;
  virtual void apply_gated(ThreadPool& pool, const GatedLinear& linear, std::int64_t tiles,
                           OperandView x, void* y, const Between& between) const = 0;
  virtual void apply_row(ThreadPool& pool, const Linear& linear, const float* x, std::int64_t begin,
                         std::int64_t end, float* y) const = 0;
};

// The form in which weights meet operands of this type.
const WeightForm& weight_form(Compute compute);

// The forms.
const WeightForm& f32_weights();          // f32_weights.cpp
const WeightForm& rounded_weights();      // f32_weights.cpp: bf16 values in f32
const WeightForm& packed_bf16_weights();  // bf16_weights.cpp

}  // namespace powerprefill
