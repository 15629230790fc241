#include "math/attention/row_attention.hpp"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "math/rows/convert.hpp"
#include "math/rows/simd.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "math/attention/row_attention.cpp"
// The order matters.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace powerprefill {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

const hn::ScalableTag<float> kFloats;
using Vector = hn::Vec<decltype(kFloats)>;

constexpr std::int64_t kHeads = 4;  // at most, that share what was read
constexpr std::int64_t kValueRows = 4;
constexpr std::int64_t kKeyRows =
    hn::MaxLanes(kFloats) >= 16 ? 4 : 2;  // one register per row and head

template <DType kType>
inline Vector Load(const std::byte* row, std::int64_t i) {
  if constexpr (kType == DType::f32) {
    return hn::LoadU(kFloats, reinterpret_cast<const float*>(row) + i);
  } else if constexpr (kType == DType::bf16) {
    const hn::Rebind<std::uint16_t, decltype(kFloats)> halves;
    const hn::RebindToUnsigned<decltype(kFloats)> words;
    const auto bits = hn::LoadU(halves, reinterpret_cast<const std::uint16_t*>(row) + i);
    return hn::BitCast(kFloats, hn::ShiftLeft<16>(hn::PromoteTo(words, bits)));
  } else {
    const hn::Rebind<hwy::float16_t, decltype(kFloats)> halves;
    return hn::PromoteTo(kFloats,
                         hn::LoadU(halves, reinterpret_cast<const hwy::float16_t*>(row) + i));
  }
}

inline float LoadOne(DType dtype, const std::byte* row, std::int64_t i) {
  float value = 0;
  widen(dtype, row + i * static_cast<std::int64_t>(bytes_of(dtype)), {&value, 1});
  return value;
}

// One sum per row and head, whatever is computed beside it.
template <DType kType, std::int64_t kHeadCount, std::int64_t kRowCount>
void ScoreTile(const HeadRows& keys, std::int64_t first, const float* query, std::int64_t d,
               float scale, float* scores, std::int64_t ld) {
  const auto step = static_cast<std::int64_t>(hn::Lanes(kFloats));
  const std::byte* row = keys.data + first * keys.stride;
  Vector sums[kRowCount][kHeadCount];
  for (auto& of_row : sums) {
    for (Vector& sum : of_row) sum = hn::Zero(kFloats);
  }
  std::int64_t i = 0;
  for (; i + step <= d; i += step) {
    Vector key[kRowCount];
    for (std::int64_t r = 0; r < kRowCount; ++r) key[r] = Load<kType>(row + r * keys.stride, i);
    for (std::int64_t h = 0; h < kHeadCount; ++h) {
      const Vector q = hn::LoadU(kFloats, query + h * d + i);
      for (std::int64_t r = 0; r < kRowCount; ++r) sums[r][h] = hn::MulAdd(q, key[r], sums[r][h]);
    }
  }
  for (std::int64_t r = 0; r < kRowCount; ++r) {
    for (std::int64_t h = 0; h < kHeadCount; ++h) {
      float sum = hn::GetLane(hn::SumOfLanes(kFloats, sums[r][h]));
      for (std::int64_t j = i; j < d; ++j)
        sum += query[h * d + j] * LoadOne(kType, row + r * keys.stride, j);
      scores[h * ld + first + r] = scale * sum;
    }
  }
}

template <DType kType, std::int64_t kHeadCount>
void ScoreHeads(const HeadRows& keys, const float* query, std::int64_t d, float scale,
                float* scores, std::int64_t ld) {
  std::int64_t t = 0;
  for (; t + kKeyRows <= keys.rows; t += kKeyRows) {
    ScoreTile<kType, kHeadCount, kKeyRows>(keys, t, query, d, scale, scores, ld);
  }
  for (; t < keys.rows; ++t) ScoreTile<kType, kHeadCount, 1>(keys, t, query, d, scale, scores, ld);
}

// Every element of `out` adds its rows one after another, whatever is computed beside it.
template <DType kType, std::int64_t kHeadCount, std::int64_t kRowCount>
void AddTile(const HeadRows& values, std::int64_t first, const float* weights, std::int64_t ld,
             std::int64_t d, float* out) {
  const auto step = static_cast<std::int64_t>(hn::Lanes(kFloats));
  const std::byte* row = values.data + first * values.stride;
  std::int64_t i = 0;
  for (; i + step <= d; i += step) {
    Vector value[kRowCount];
    for (std::int64_t r = 0; r < kRowCount; ++r) value[r] = Load<kType>(row + r * values.stride, i);
    for (std::int64_t h = 0; h < kHeadCount; ++h) {
      Vector sum = hn::LoadU(kFloats, out + h * d + i);
      for (std::int64_t r = 0; r < kRowCount; ++r) {
        sum = hn::MulAdd(hn::Set(kFloats, weights[h * ld + first + r]), value[r], sum);
      }
      hn::StoreU(sum, kFloats, out + h * d + i);
    }
  }
  for (; i < d; ++i) {
    for (std::int64_t h = 0; h < kHeadCount; ++h) {
      for (std::int64_t r = 0; r < kRowCount; ++r) {
        out[h * d + i] += weights[h * ld + first + r] * LoadOne(kType, row + r * values.stride, i);
      }
    }
  }
}

template <DType kType, std::int64_t kHeadCount>
void AddHeads(const HeadRows& values, const float* weights, std::int64_t ld, std::int64_t d,
              float* out) {
  std::int64_t t = 0;
  for (; t + kValueRows <= values.rows; t += kValueRows) {
    AddTile<kType, kHeadCount, kValueRows>(values, t, weights, ld, d, out);
  }
  for (; t < values.rows; ++t) AddTile<kType, kHeadCount, 1>(values, t, weights, ld, d, out);
}

// Calls use(first head, constant number of heads) for all heads.
template <typename Use>
inline void ForHeads(std::int64_t heads, const Use& use) {
  std::int64_t h = 0;
  for (; h + kHeads <= heads; h += kHeads) use(h, std::integral_constant<std::int64_t, kHeads>());
  switch (heads - h) {
    case 3:
      return use(h, std::integral_constant<std::int64_t, 3>());
    case 2:
      return use(h, std::integral_constant<std::int64_t, 2>());
    case 1:
      return use(h, std::integral_constant<std::int64_t, 1>());
    default:
      return;
  }
}

// Calls use(constant dtype).
template <typename Use>
inline void WithType(DType dtype, const Use& use) {
  switch (dtype) {
    case DType::f32:
      return use(std::integral_constant<DType, DType::f32>());
    case DType::bf16:
      return use(std::integral_constant<DType, DType::bf16>());
    case DType::f16:
      return use(std::integral_constant<DType, DType::f16>());
  }
}

void ScoreRows(const HeadRows& keys, const float* query, std::int64_t heads, std::int64_t d,
               float scale, float* scores, std::int64_t ld) {
  WithType(keys.dtype, [&](auto type) {
    constexpr DType kType = type();
    ForHeads(heads, [&](std::int64_t h, auto count) {
      ScoreHeads<kType, count()>(keys, query + h * d, d, scale, scores + h * ld, ld);
    });
  });
}

void AddWeightedRows(const HeadRows& values, const float* weights, std::int64_t ld,
                     std::int64_t heads, std::int64_t d, float* out) {
  WithType(values.dtype, [&](auto type) {
    constexpr DType kType = type();
    ForHeads(heads, [&](std::int64_t h, auto count) {
      AddHeads<kType, count()>(values, weights + h * ld, ld, d, out + h * d);
    });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace powerprefill
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace powerprefill {

HWY_EXPORT(ScoreRows);
HWY_EXPORT(AddWeightedRows);

void score_rows(const HeadRows& keys, const float* query, std::int64_t heads, std::int64_t head_dim,
                float scale, float* scores, std::int64_t ld) {
  HWY_DYNAMIC_DISPATCH(ScoreRows)(keys, query, heads, head_dim, scale, scores, ld);
}

void add_weighted_rows(const HeadRows& values, const float* weights, std::int64_t ld,
                       std::int64_t heads, std::int64_t head_dim, float* out) {
  HWY_DYNAMIC_DISPATCH(AddWeightedRows)(values, weights, ld, heads, head_dim, out);
}

void combine_states(const RunStates& runs, std::int64_t head_dim, float* out) {
  float maximum = runs.maximum[0];
  for (std::int64_t p = 1; p < runs.count; ++p) {
    maximum = std::max(maximum, runs.maximum[p * runs.stride]);
  }
  float sum = 0;
  std::fill_n(out, head_dim, 0.0F);
  for (std::int64_t p = 0; p < runs.count; ++p) {
    const float share = std::exp(runs.maximum[p * runs.stride] - maximum);
    sum += share * runs.sum[p * runs.stride];
    const float* result = runs.result + p * runs.stride;
    for (std::int64_t i = 0; i < head_dim; ++i) out[i] += share * result[i];
  }
  for (std::int64_t i = 0; i < head_dim; ++i) out[i] /= sum;
}

}  // namespace powerprefill
#endif
