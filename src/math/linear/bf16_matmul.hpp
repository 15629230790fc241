// Matrix products with bf16 weights that are packed once for this CPU, through oneDNN.
//
// A weight matrix (outputs, inputs) is cut into panels of kBf16Panel outputs, the last one shorter;
// each is stored in oneDNN's own layout. All calls run on the calling thread alone, and any thread
// may call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace powerprefill {

inline constexpr std::int64_t kBf16Panel = 256;

// Where the panels of a matrix lie in its packed form.
class PackedShape {
 public:
  PackedShape(std::int64_t inputs, std::int64_t outputs);
  std::int64_t panels() const { return (outputs_ + kBf16Panel - 1) / kBf16Panel; }
  std::int64_t first_output(std::int64_t panel) const { return panel * kBf16Panel; }
  std::int64_t outputs_of(std::int64_t panel) const;
  std::int64_t inputs() const { return inputs_; }
  std::int64_t offset(std::int64_t panel) const { return panel * panel_bytes_; }  // bytes
  std::int64_t bytes() const { return panels() * panel_bytes_; }

 private:
  std::int64_t inputs_;
  std::int64_t outputs_;
  std::int64_t panel_bytes_;  // of a whole one, a multiple of 64
};

// Packs one panel from its rows, (outputs_of(panel), inputs), row-major.
void pack_panel(const PackedShape& shape, std::int64_t panel, const std::uint16_t* rows,
                std::byte* packed);

// y (rows, outputs of the panel) = x W^T. Both are dense: oneDNN 2 has fast kernels for nothing
// else. The bits of a row depend on `rows` only through the kernels that oneDNN picks for that
// number.
void multiply_panel(const PackedShape& shape, std::int64_t panel, std::int64_t rows,
                    const std::uint16_t* x, const std::byte* packed, float* y);

// Whether oneDNN takes bf16 products on this CPU: its own limit of instruction sets
// (DNNL_MAX_CPU_ISA, ONEDNN_MAX_CPU_ISA) may be below what the CPU has.
bool has_bf16_matmul();

// "oneDNN 2.6.3", and the implementation that it picks for a product, e.g. "brg:avx512_core_amx".
std::string matmul_library();
std::string matmul_kernel(std::int64_t rows, std::int64_t inputs, std::int64_t outputs);

}  // namespace powerprefill
