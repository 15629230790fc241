// Rates of the matrix products that prefill is made of, on one thread: sgemm on large matrices (the
// measured limit), sgemm in the tiles of the linear layers, and the packed bf16 product.
// Usage: bench_gemm [SECONDS PER CASE AND ROUND]
#include "math/gemm.hpp"

#include <cmath>

#include "base/aligned_buffer.hpp"
#include "harness.hpp"
#include "math/bf16_matmul.hpp"
#include "math/compute.hpp"
#include "math/linear.hpp"
#include "math/row_ops.hpp"

namespace powerprefill::bench {
namespace {

void validate(const std::vector<float>& x, const std::vector<float>& w, const float* y,
              std::int64_t inputs, std::int64_t outputs, double tolerance, const char* what) {
  for (std::int64_t o = 0; o < outputs; o += 97) {
    double sum = 0;
    for (std::int64_t i = 0; i < inputs; ++i) {
      sum += double{x[static_cast<std::size_t>(i)]} *
             double{w[static_cast<std::size_t>(o * inputs + i)]};
    }
    require(std::abs(sum - double{y[o]}) < tolerance * std::sqrt(static_cast<double>(inputs)),
            what);
  }
}

void run(double seconds) {
  use_one_blas_thread();
  constexpr std::int64_t large = 1024;
  struct Shape {
    const char* name;
    std::int64_t inputs;
    std::int64_t outputs;
  };
  const Shape shapes[] = {{"qwen2-0.5b gate", 896, 1024},
                          {"qwen2-0.5b down", 4864, 896},
                          {"qwen2-7b gate", 3584, 1024}};
  std::vector<Candidate> candidates;
  const std::vector<float> a = random_values(large * large, 1);
  const std::vector<float> b = random_values(large * large, 2);
  std::vector<float> c(a.size());
  candidates.push_back({"sgemm 1024^3", 2.0 * large * large * large, 0, [&] {
                          gemm_nt(large, large, large, {a.data(), large}, {b.data(), large}, 0.0F,
                                  {c.data(), large});
                        }});
  struct Data {
    std::vector<float> x, w, y, dense;
    std::vector<std::uint16_t> x16, w16;
    AlignedBuffer<std::byte> packed;
  };
  std::vector<Data> data(std::size(shapes));
  ThreadPool pool(1);
  const bool bf16 = bf16_isa() != Bf16Isa::none;
  for (std::size_t i = 0; i < data.size(); ++i) {
    const auto [name, inputs, outputs] = shapes[i];
    Data& d = data[i];
    d.x = random_values(kTileTokens * inputs, 3);
    d.w = random_values(outputs * inputs, 4);
    d.y.resize(static_cast<std::size_t>(kTileTokens * outputs));
    const double flops = 2.0 * static_cast<double>(kTileTokens * inputs * outputs);
    candidates.push_back({fmt::format("f32 tile {}", name), flops, 0, [&d, inputs, outputs] {
                            gemm_nt(kTileTokens, outputs, inputs, {d.x.data(), inputs},
                                    {d.w.data(), inputs}, 0.0F, {d.y.data(), outputs});
                          }});
    candidates.back().run();
    validate(d.x, d.w, d.y.data(), inputs, outputs, 1e-4, "sgemm tile");
    if (!bf16) continue;
    const PackedShape shape(inputs, outputs);
    d.x16.resize(d.x.size());
    d.w16.resize(d.w.size());
    round_to_bf16(d.x.data(), std::ssize(d.x), d.x16.data());
    round_to_bf16(d.w.data(), std::ssize(d.w), d.w16.data());
    d.packed = AlignedBuffer<std::byte>(shape.bytes());
    for (std::int64_t p = 0; p < shape.panels(); ++p) {
      pack_panel(shape, p, d.w16.data() + shape.first_output(p) * inputs,
                 d.packed.data() + shape.offset(p));
    }
    ThreadPool& one = pool;
    candidates.push_back({fmt::format("bf16 tile {}", name), flops, 0, [&d, &one, inputs, outputs] {
                            WeightMatrix weight;
                            weight.compute = Compute::bf16;
                            weight.packed = d.packed.span();
                            apply_linear(one, {weight, {}, inputs, outputs}, 1,
                                         {d.x16.data(), inputs}, {d.y.data(), outputs}, false);
                          }});
    d.dense.resize(static_cast<std::size_t>(kTileTokens * kBf16Panel));
    candidates.push_back(
        {fmt::format("bf16 oneDNN panel {}", name),
         2.0 * static_cast<double>(kTileTokens * inputs * kBf16Panel), 0, [&d, shape] {
           multiply_panel(shape, 0, kTileTokens, d.x16.data(), d.packed.data(), d.dense.data());
         }});
    std::swap(candidates[candidates.size() - 1], candidates[candidates.size() - 2]);
    candidates.back().run();
    validate(d.x, d.w, d.y.data(), inputs, outputs, 0.05, "bf16 tile");
  }
  const auto timings = time_in_turns(candidates, 7, seconds);
  for (const Candidate& candidate : candidates) {
    const double rate = candidate.flops / timings.at(candidate.name).median / 1e9;
    csv("gemm", candidate.name, "rate", rate, "GFLOP/s");
  }
  fmt::print(stderr, "{} {}, {} with {}\n", blas_version(), blas_core(), matmul_library(),
             bf16 ? matmul_kernel(kTileTokens, 896, kBf16Panel) +
                        ", one row: " + matmul_kernel(1, 896, kBf16Panel)
                  : "no bf16 on this CPU");
}

}  // namespace
}  // namespace powerprefill::bench

int main(int argc, char** argv) {
  powerprefill::bench::run(argc > 1 ? std::atof(argv[1]) : 0.2);
}
