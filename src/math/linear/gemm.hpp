// Single-threaded matrix products in f32.
#pragma once

#include <cstdint>
#include <string>

namespace powerprefill {

// Row-major matrices; ld is the distance of rows in elements.
struct MatrixView {
  const float* data;
  std::int64_t ld;
};
struct MatrixSpan {
  float* data;
  std::int64_t ld;
};

// c (m, n) = a (m, k) b (n, k)^T + beta c
void gemm_nt(std::int64_t m, std::int64_t n, std::int64_t k, MatrixView a, MatrixView b, float beta,
             MatrixSpan c);

// Makes the BLAS library run each call on the calling thread alone. Call once before the products.
void use_one_blas_thread();

// Name of the kernels that the BLAS library chose for this CPU, e.g. "Haswell".
std::string blas_core();
// Name and version of the BLAS library, e.g. "OpenBLAS 0.3.21".
std::string blas_version();

}  // namespace powerprefill
