#include "math/linear/gemm.hpp"

#include <cblas.h>

#include "base/checked.hpp"

namespace powerprefill {

void gemm_nt(std::int64_t m, std::int64_t n, std::int64_t k, MatrixView a, MatrixView b, float beta,
             MatrixSpan c) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, checked_cast<int>(m), checked_cast<int>(n),
              checked_cast<int>(k), 1.0F, a.data, checked_cast<int>(a.ld), b.data,
              checked_cast<int>(b.ld), beta, c.data, checked_cast<int>(c.ld));
}

void use_one_blas_thread() {
  openblas_set_num_threads(1);
}

std::string blas_core() {
  return openblas_get_corename();
}

std::string blas_version() {
  const std::string config = openblas_get_config();  // "OpenBLAS 0.3.21 NO_LAPACKE ..."
  return config.substr(0, config.find(' ', config.find(' ') + 1));
}

}  // namespace powerprefill
