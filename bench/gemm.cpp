// Rates of the matrix products that prefill is made of, for each of so many busy threads: sgemm on
// large matrices (the measured limit), sgemm in the tiles of the linear layers, and the packed bf16
// product. All threads do the same product at the same time.
// Usage: bench_gemm [SECONDS PER CASE AND ROUND [THREADS]]
#include "math/linear/gemm.hpp"

#include <barrier>
#include <cmath>
#include <optional>
#include <thread>

#include "harness.hpp"
#include "math/linear/bf16_matmul.hpp"
#include "math/linear/compute.hpp"
#include "math/linear/linear.hpp"
#include "support/weight_matrix.hpp"

namespace powerprefill::bench {
namespace {

constexpr int kRounds = 7;

struct Shape {
  const char* name;
  std::int64_t inputs;
  std::int64_t outputs;
};

constexpr Shape kShapes[] = {
    {"qwen2-0.5b gate", 896, 1024}, {"qwen2-0.5b down", 4864, 896}, {"qwen2-7b gate", 3584, 1024}};

// Operands and results of one thread, and what it times with them.
class Products {
 public:
  Products() {
    add_large();
    for (std::size_t i = 0; i < std::size(kShapes); ++i) add_shape(kShapes[i], data_[i]);
  }
  const std::vector<Candidate>& candidates() const { return candidates_; }

 private:
  struct Data {
    std::vector<float> x, w, y, dense;
    std::vector<std::uint16_t> x16;
    std::optional<Matrix> packed;
  };

  void add_large() {
    constexpr std::int64_t n = 1024;
    Data& d = large_;
    d.x = random_values(n * n, 1);
    d.w = random_values(n * n, 2);
    d.y.resize(d.x.size());
    candidates_.push_back(
        {"sgemm 1024^3", 2.0 * n * n * n, 0, [&d] {
           gemm_nt(n, n, n, {d.x.data(), n}, {d.w.data(), n}, 0.0F, {d.y.data(), n});
         }});
  }

  void add_shape(const Shape& named, Data& d) {
    const auto [name, inputs, outputs] = named;
    d.x = random_values(kTileTokens * inputs, 3);
    d.w = random_values(outputs * inputs, 4);
    d.y.resize(static_cast<std::size_t>(kTileTokens * outputs));
    const double flops = 2.0 * static_cast<double>(kTileTokens * inputs * outputs);
    candidates_.push_back({fmt::format("f32 tile {}", name), flops, 0, [&d, inputs, outputs] {
                             gemm_nt(kTileTokens, outputs, inputs, {d.x.data(), inputs},
                                     {d.w.data(), inputs}, 0.0F, {d.y.data(), outputs});
                           }});
    candidates_.back().run();
    validate(d, inputs, outputs, 1e-4, "sgemm tile");
    if (bf16_isa() == Bf16Isa::none) return;
    const PackedShape shape(inputs, outputs);
    d.x16 = operands(d.x);
    d.packed.emplace(Compute::bf16, inputs, outputs, d.w);
    d.dense.resize(static_cast<std::size_t>(kTileTokens * kBf16Panel));
    candidates_.push_back({fmt::format("bf16 oneDNN panel {}", name),
                           2.0 * static_cast<double>(kTileTokens * inputs * kBf16Panel), 0,
                           [&d, shape] {
                             multiply_panel(shape, 0, kTileTokens, d.x16.data(),
                                            d.packed->packed.data(), d.dense.data());
                           }});
    candidates_.push_back(
        {fmt::format("bf16 tile {}", name), flops, 0, [this, &d, inputs, outputs] {
           apply_linear(pool_, {d.packed->weight, {}, inputs, outputs}, 1, {d.x16.data(), inputs},
                        {d.y.data(), outputs}, false);
         }});
    candidates_.back().run();
    validate(d, inputs, outputs, 0.05, "bf16 tile");
  }

  static void validate(const Data& d, std::int64_t inputs, std::int64_t outputs, double tolerance,
                       const char* what) {
    for (std::int64_t o = 0; o < outputs; o += 97) {
      double sum = 0;
      for (std::int64_t i = 0; i < inputs; ++i) {
        sum += double{d.x[static_cast<std::size_t>(i)]} *
               double{d.w[static_cast<std::size_t>(o * inputs + i)]};
      }
      require(std::abs(sum - double{d.y[static_cast<std::size_t>(o)]}) <
                  tolerance * std::sqrt(static_cast<double>(inputs)),
              what);
    }
  }

  ThreadPool pool_{1};
  Data large_;
  Data data_[std::size(kShapes)];
  std::vector<Candidate> candidates_;
};

void run(double seconds, int threads) {
  require(threads >= 1, "the number of threads");
  use_one_blas_thread();
  std::barrier meeting(threads);
  std::vector<std::map<std::string, Timing>> timings(static_cast<std::size_t>(threads));
  std::vector<std::thread> others;
  const auto measure = [&](int thread, const Products& products) {
    timings[static_cast<std::size_t>(thread)] =
        time_in_turns(products.candidates(), kRounds, seconds, [&] { meeting.arrive_and_wait(); });
  };
  for (int thread = 1; thread < threads; ++thread) {
    others.emplace_back([&measure, thread] { measure(thread, Products()); });
  }
  const Products mine;
  measure(0, mine);
  for (std::thread& other : others) other.join();
  for (const Candidate& candidate : mine.candidates()) {
    double rate = 0;
    for (const auto& of_thread : timings) {
      rate += candidate.flops / of_thread.at(candidate.name).median / 1e9 / threads;
    }
    csv("gemm", candidate.name, "rate", rate, "GFLOP/s");
  }
  fmt::print(stderr, "{} {}, {} with {}\n", blas_version(), blas_core(), matmul_library(),
             bf16_isa() != Bf16Isa::none ? matmul_kernel(kTileTokens, 896, kBf16Panel) +
                                               ", one row: " + matmul_kernel(1, 896, kBf16Panel)
                                         : "no bf16 on this CPU");
}

}  // namespace
}  // namespace powerprefill::bench

int main(int argc, char** argv) {
  powerprefill::bench::run(argc > 1 ? std::atof(argv[1]) : 0.2, argc > 2 ? std::atoi(argv[2]) : 1);
}
