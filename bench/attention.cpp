// The attention kernels alone, on one thread, beside the rate of sgemm (the limit of f32): one
// query block merges its own block and 10 others, as under the power pattern. Usage:
// bench_attention [SECONDS PER CASE AND ROUND]
#include "math/attention/attention.hpp"

#include <cmath>
#include <cstring>

#include "base/aligned_buffer.hpp"
#include "base/checked.hpp"
#include "harness.hpp"
#include "math/attention/bf16_attention.hpp"
#include "math/linear/gemm.hpp"
#include "math/rows/row_ops.hpp"
#include "support/attention_reference.hpp"

namespace powerprefill::bench {
namespace {

constexpr std::int64_t kBlock = 256;
constexpr std::int64_t kBlocks = 11;

// Queries of the last block of kBlocks, and keys and values of all of them, (tokens, D).
struct Problem {
  Problem(std::int64_t group, std::int64_t d)
      : shape{group, kBlock, d},
        query(random_values(shape.rows() * d, 1)),
        key(random_values(kBlocks * kBlock * d, 2)),
        value(random_values(kBlocks * kBlock * d, 3)),
        out(static_cast<std::size_t>(shape.rows() * d)),
        maximum(static_cast<std::size_t>(shape.rows())),
        sum(maximum.size()),
        scratch(shape),
        columns(round_up(d, kBf16Columns)),
        query16(round_up(shape.rows(), kBf16Rows) * columns),
        out16(round_up(shape.rows(), kBf16Rows) * columns),
        key16(key.size()),
        value16(value.size()),
        scratch16(shape) {
    for (std::int64_t r = 0; r < shape.rows(); ++r) {
      round_to_bf16(query.data() + r * d, d, query16.data() + r * columns);
    }
    round_to_bf16(key.data(), std::ssize(key), key16.data());
    round_to_bf16(value.data(), std::ssize(value), value16.data());
  }

  // Of useful pairs, as in reports: the diagonal counts half.
  double flops() const {
    const double pairs = (kBlocks - 1) * kBlock * kBlock + kBlock * (kBlock + 1) / 2.0;
    return 4.0 * pairs * static_cast<double>(shape.group_heads * shape.head_dim);
  }
  void begin() {
    std::fill(maximum.begin(), maximum.end(), -std::numeric_limits<float>::infinity());
    std::fill(sum.begin(), sum.end(), 0.0F);
  }
  void run_f32() {
    begin();
    std::fill(out.begin(), out.end(), 0.0F);
    const std::int64_t d = shape.head_dim;
    for (std::int64_t b = kBlocks - 1; b >= 0; --b) {
      merge_key_block(shape, {query.data(), maximum.data(), sum.data(), out.data()},
                      {key.data() + b * kBlock * d, d}, {value.data() + b * kBlock * d, d}, kBlock,
                      b == kBlocks - 1, scratch);
    }
  }
  void run_bf16(Bf16Isa isa) {
    begin();
    std::memset(out16.data(), 0, out16.bytes());
    const std::int64_t d = shape.head_dim;
    for (std::int64_t b = kBlocks - 1; b >= 0; --b) {
      const auto rows = [&](const std::vector<std::uint16_t>& values) {
        return HeadRows{DType::bf16,
                        reinterpret_cast<const std::byte*>(values.data() + b * kBlock * d), d * 2,
                        kBlock};
      };
      merge_key_block_bf16(isa, shape, {query16.data(), maximum.data(), sum.data(), out16.data()},
                           {rows(key16), rows(value16)}, b == kBlocks - 1, scratch16);
    }
  }

  // Against double precision, for the first head of the group.
  void validate(const float* result, std::int64_t ld, double tolerance, const char* what) const {
    const std::int64_t d = shape.head_dim;
    const std::int64_t tokens = kBlocks * kBlock;
    std::vector<float> queries(static_cast<std::size_t>(tokens * d));
    std::copy_n(query.begin(), kBlock * d, queries.end() - kBlock * d);
    const ReferenceResult right =
        attention_reference({tokens, 1, 1, d, kBlock}, queries, key, value,
                            [](std::int64_t, std::int64_t) { return true; });
    double difference = 0;
    for (std::int64_t t = 0; t < kBlock; ++t) {
      for (std::int64_t i = 0; i < d; ++i) {
        const double found = result[t * ld + i] / sum[static_cast<std::size_t>(t)];
        const auto at = static_cast<std::size_t>((tokens - kBlock + t) * d + i);
        difference += std::abs(found - right.out[at]);
      }
    }
    require(difference / static_cast<double>(kBlock * d) < tolerance, what);
  }

  AttentionShape shape;
  std::vector<float> query, key, value, out, maximum, sum;
  AttentionScratch scratch;
  std::int64_t columns;
  AlignedBuffer<std::uint16_t> query16;
  AlignedBuffer<float> out16;
  std::vector<std::uint16_t> key16, value16;
  Bf16Scratch scratch16;
};

void run(double seconds) {
  use_one_blas_thread();
  constexpr std::int64_t large = 1024;
  const std::vector<float> a = random_values(large * large, 4);
  std::vector<float> c(a.size());
  for (const auto& [group, d] : {std::pair<std::int64_t, std::int64_t>{7, 64}, {4, 128}}) {
    Problem p(group, d);
    std::vector<Candidate> candidates = {{"sgemm", 2.0 * large * large * large, 0,
                                          [&] {
                                            gemm_nt(large, large, large, {a.data(), large},
                                                    {a.data(), large}, 0.0F, {c.data(), large});
                                          }},
                                         {"f32", p.flops(), 0, [&] { p.run_f32(); }}};
    p.run_f32();
    p.validate(p.out.data(), d, 1e-6, "f32 attention");
    const auto add = [&](const char* name, Bf16Isa isa) {
      candidates.push_back({name, p.flops(), 0, [&p, isa] { p.run_bf16(isa); }});
      p.run_bf16(isa);
      p.validate(p.out16.data(), p.columns, 2e-3, name);
    };
    if (bf16_isa() != Bf16Isa::none) add("bf16 AVX-512", Bf16Isa::avx512);
    if (bf16_isa() == Bf16Isa::amx) add("bf16 AMX", Bf16Isa::amx);
    const auto timings = time_in_turns(candidates, 7, seconds);
    const auto rate = [&](const Candidate& candidate) {
      return candidate.flops / timings.at(candidate.name).median / 1e9;
    };
    for (const Candidate& candidate : candidates) {
      const std::string name = fmt::format("D {} group {} {}", d, group, candidate.name);
      csv("attention", name, "rate", rate(candidate), "GFLOP/s");
      csv("attention", name, "of sgemm", rate(candidate) / rate(candidates[0]), "ratio");
    }
  }
}

}  // namespace
}  // namespace powerprefill::bench

int main(int argc, char** argv) {
  powerprefill::bench::run(argc > 1 ? std::atof(argv[1]) : 0.2);
}
