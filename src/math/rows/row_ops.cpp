#include "math/rows/row_ops.hpp"

#include <cmath>
#include <limits>

#include "math/rows/simd.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "math/rows/row_ops.cpp"
// The order matters.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include <hwy/contrib/math/math-inl.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace powerprefill {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

const hn::ScalableTag<float> kFloats;
using Vector = hn::Vec<decltype(kFloats)>;

// The number of lanes is fixed per target, so all reductions here add in a fixed order.
inline std::int64_t lanes() {
  return static_cast<std::int64_t>(hn::Lanes(kFloats));
}

inline float total(Vector v) {
  return hn::GetLane(hn::SumOfLanes(kFloats, v));
}

inline Vector exponential(Vector v) {
  return hn::Exp(kFloats, v);
}

float Dot(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, std::int64_t n) {
  const std::int64_t step = lanes();
  Vector s0 = hn::Zero(kFloats);
  Vector s1 = s0;
  Vector s2 = s0;
  Vector s3 = s0;
  std::int64_t i = 0;
  for (; i + 4 * step <= n; i += 4 * step) {
    s0 = hn::MulAdd(hn::LoadU(kFloats, a + i), hn::LoadU(kFloats, b + i), s0);
    s1 = hn::MulAdd(hn::LoadU(kFloats, a + i + step), hn::LoadU(kFloats, b + i + step), s1);
    s2 = hn::MulAdd(hn::LoadU(kFloats, a + i + 2 * step), hn::LoadU(kFloats, b + i + 2 * step), s2);
    s3 = hn::MulAdd(hn::LoadU(kFloats, a + i + 3 * step), hn::LoadU(kFloats, b + i + 3 * step), s3);
  }
  for (; i + step <= n; i += step) {
    s0 = hn::MulAdd(hn::LoadU(kFloats, a + i), hn::LoadU(kFloats, b + i), s0);
  }
  float sum = total(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void RmsNorm(const float* x, const float* weight, float epsilon, std::int64_t n, float* out) {
  const float mean = Dot(x, x, n) / static_cast<float>(n);
  const float scale = 1.0F / std::sqrt(mean + epsilon);
  const std::int64_t step = lanes();
  const Vector s = hn::Set(kFloats, scale);
  std::int64_t i = 0;
  for (; i + step <= n; i += step) {
    const Vector scaled = hn::Mul(hn::LoadU(kFloats, x + i), s);
    hn::StoreU(hn::Mul(hn::LoadU(kFloats, weight + i), scaled), kFloats, out + i);
  }
  for (; i < n; ++i) out[i] = weight[i] * (x[i] * scale);
}

inline Vector Silu(Vector v) {
  const Vector one = hn::Set(kFloats, 1.0F);
  // 104 is the largest input that Highway's exponential allows; the result is infinite there, and
  // the quotient 0, which it is to f32 from 89 on.
  const Vector e = exponential(hn::Min(hn::Neg(v), hn::Set(kFloats, 104.0F)));
  return hn::Div(v, hn::Add(one, e));
}

void SiluMultiply(float* gate, const float* up, std::int64_t n) {
  const std::int64_t step = lanes();
  std::int64_t i = 0;
  for (; i + step <= n; i += step) {
    const Vector g = hn::LoadU(kFloats, gate + i);
    hn::StoreU(hn::Mul(Silu(g), hn::LoadU(kFloats, up + i)), kFloats, gate + i);
  }
  for (; i < n; ++i) {
    gate[i] = hn::GetLane(Silu(hn::Set(kFloats, gate[i]))) * up[i];
  }
}

void Add(float* y, const float* x, std::int64_t n) {
  const std::int64_t step = lanes();
  std::int64_t i = 0;
  for (; i + step <= n; i += step) {
    hn::StoreU(hn::Add(hn::LoadU(kFloats, y + i), hn::LoadU(kFloats, x + i)), kFloats, y + i);
  }
  for (; i < n; ++i) y[i] += x[i];
}

void RotatePairs(const float* x, const float* cosine, const float* sine, std::int64_t head_dim,
                 float* out) {
  const std::int64_t half = head_dim / 2;
  const std::int64_t step = lanes();
  std::int64_t i = 0;
  for (; i + step <= half; i += step) {
    const Vector a = hn::LoadU(kFloats, x + i);
    const Vector b = hn::LoadU(kFloats, x + half + i);
    const Vector c = hn::LoadU(kFloats, cosine + i);
    const Vector s = hn::LoadU(kFloats, sine + i);
    hn::StoreU(hn::Sub(hn::Mul(a, c), hn::Mul(b, s)), kFloats, out + i);
    hn::StoreU(hn::Add(hn::Mul(b, c), hn::Mul(a, s)), kFloats, out + half + i);
  }
  for (; i < half; ++i) {
    const float a = x[i];
    const float b = x[half + i];
    out[i] = a * cosine[i] - b * sine[i];
    out[half + i] = b * cosine[i] + a * sine[i];
  }
}

// exp(x) for x <= 0 with a relative error of about 2e-7; 1 at 0, and 0 below -87. x = n ln 2 + r,
// with ln 2 in two parts, and a polynomial in r that is minimax for the relative error.
inline Vector FallingExponential(Vector x) {
  const hn::RebindToSigned<decltype(kFloats)> integers;
  const auto constant = [](float value) { return hn::Set(kFloats, value); };
  const Vector magic = constant(12582912.0F);  // 1.5 2^23: a sum with it has an integer's bits
  const auto is_small = hn::Lt(x, constant(-87.0F));
  // On x86 the second one when either is no number: what is no number stays so.
  x = hn::Max(constant(-87.0F), x);
  const Vector shifted = hn::MulAdd(x, constant(1.44269504F), magic);
  const Vector n = hn::Sub(shifted, magic);
  Vector r = hn::NegMulAdd(n, constant(0.693359375F), x);
  r = hn::NegMulAdd(n, constant(-2.12194440e-4F), r);
  Vector p = hn::MulAdd(constant(8.29028767e-3F), r, constant(4.18980727e-2F));
  p = hn::MulAdd(p, r, constant(0.166676374F));
  p = hn::MulAdd(p, r, constant(0.499991485F));
  p = hn::MulAdd(p, r, constant(0.999999707F));
  p = hn::MulAdd(p, r, constant(1.0F));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(integers, shifted));
  const auto power = hn::Add(hn::BitCast(integers, p), exponent);
  return hn::IfThenZeroElse(is_small, hn::BitCast(kFloats, power));
}

inline void Scale(float* y, float scale, std::int64_t n) {
  const std::int64_t step = lanes();
  const Vector s = hn::Set(kFloats, scale);
  std::int64_t i = 0;
  for (; i + step <= n; i += step) {
    hn::StoreU(hn::Mul(s, hn::LoadU(kFloats, y + i)), kFloats, y + i);
  }
  for (; i < n; ++i) y[i] *= scale;
}

inline float Largest(const float* x, std::int64_t n) {
  const std::int64_t step = lanes();
  float largest = x[0];
  std::int64_t i = 0;
  if (n >= 2 * step) {
    Vector even = hn::LoadU(kFloats, x);
    Vector odd = hn::LoadU(kFloats, x + step);
    for (i = 2 * step; i + 2 * step <= n; i += 2 * step) {
      even = hn::Max(even, hn::LoadU(kFloats, x + i));
      odd = hn::Max(odd, hn::LoadU(kFloats, x + i + step));
    }
    largest = hn::GetLane(hn::MaxOfLanes(kFloats, hn::Max(even, odd)));
  }
  for (; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

void MergeSoftmaxRow(float* scores, std::int64_t count, std::int64_t width, float& maximum,
                     float& sum, float* out, std::int64_t out_size) {
  const float largest = Largest(scores, count);
  const std::int64_t step = lanes();
  if (largest > maximum) {
    // exp(-inf) = 0 for the first merge: the state starts at maximum -inf, sum 0, out 0.
    const float shrink = maximum == -std::numeric_limits<float>::infinity()
                             ? 0.0F
                             : hn::GetLane(exponential(hn::Set(kFloats, maximum - largest)));
    maximum = largest;
    sum *= shrink;
    Scale(out, shrink, out_size);
  }
  const Vector m = hn::Set(kFloats, maximum);
  Vector partial = hn::Zero(kFloats);
  std::int64_t i = 0;
  for (; i + step <= count; i += step) {
    const Vector p = FallingExponential(hn::Sub(hn::LoadU(kFloats, scores + i), m));
    hn::StoreU(p, kFloats, scores + i);
    partial = hn::Add(partial, p);
  }
  float rest = 0.0F;
  for (; i < count; ++i) {
    scores[i] = hn::GetLane(FallingExponential(hn::Set(kFloats, scores[i] - maximum)));
    rest += scores[i];
  }
  for (; i < width; ++i) scores[i] = 0.0F;
  sum += total(partial) + rest;
}

const hn::RebindToUnsigned<decltype(kFloats)> kWords;

// The rounded value in the upper half of each word.
inline hn::Vec<decltype(kWords)> RoundedWords(Vector v) {
  const auto bits = hn::BitCast(kWords, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(kWords, 1U));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(kWords, 0x7FFFU)));
  const auto quiet = hn::Or(bits, hn::Set(kWords, 0x400000U));
  const auto is_nan = hn::RebindMask(kWords, hn::IsNaN(v));
  return hn::And(hn::IfThenElse(is_nan, quiet, rounded), hn::Set(kWords, 0xFFFF0000U));
}

void RoundToBf16(const float* x, std::int64_t n, std::uint16_t* out) {
  const hn::Rebind<std::uint16_t, decltype(kFloats)> halves;
  const hn::RebindToSigned<decltype(kFloats)> integers;
  const std::int64_t step = lanes();
  std::int64_t i = 0;
  for (; i + step <= n; i += step) {
    const auto words = hn::ShiftRight<16>(RoundedWords(hn::LoadU(kFloats, x + i)));
    hn::StoreU(hn::DemoteTo(halves, hn::BitCast(integers, words)), halves, out + i);
  }
  for (; i < n; ++i) {
    const auto words = RoundedWords(hn::Set(kFloats, x[i]));
    out[i] = static_cast<std::uint16_t>(hn::GetLane(words) >> 16);
  }
}

void RoundToBf16InF32(const float* x, std::int64_t n, float* out) {
  const std::int64_t step = lanes();
  std::int64_t i = 0;
  for (; i + step <= n; i += step) {
    hn::StoreU(hn::BitCast(kFloats, RoundedWords(hn::LoadU(kFloats, x + i))), kFloats, out + i);
  }
  for (; i < n; ++i) {
    out[i] = hn::GetLane(hn::BitCast(kFloats, RoundedWords(hn::Set(kFloats, x[i]))));
  }
}

std::int64_t Target() {
  return HWY_TARGET;
}

}  // namespace HWY_NAMESPACE
}  // namespace powerprefill
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace powerprefill {

HWY_EXPORT(Dot);
HWY_EXPORT(RmsNorm);
HWY_EXPORT(SiluMultiply);
HWY_EXPORT(Add);
HWY_EXPORT(RotatePairs);
HWY_EXPORT(MergeSoftmaxRow);
HWY_EXPORT(RoundToBf16);
HWY_EXPORT(RoundToBf16InF32);
HWY_EXPORT(Target);

void rms_norm(const float* x, const float* weight, float epsilon, std::int64_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(RmsNorm)(x, weight, epsilon, n, out);
}
void silu_multiply(float* gate, const float* up, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(SiluMultiply)(gate, up, n);
}
void add(float* y, const float* x, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(Add)(y, x, n);
}
void rotate_pairs(const float* x, const float* cosine, const float* sine, std::int64_t head_dim,
                  float* out) {
  HWY_DYNAMIC_DISPATCH(RotatePairs)(x, cosine, sine, head_dim, out);
}
float dot(const float* a, const float* b, std::int64_t n) {
  return HWY_DYNAMIC_DISPATCH(Dot)(a, b, n);
}
void merge_softmax_row(float* scores, std::int64_t count, std::int64_t width, float& maximum,
                       float& sum, float* out, std::int64_t out_size) {
  HWY_DYNAMIC_DISPATCH(MergeSoftmaxRow)(scores, count, width, maximum, sum, out, out_size);
}
void round_to_bf16(const float* x, std::int64_t n, std::uint16_t* out) {
  HWY_DYNAMIC_DISPATCH(RoundToBf16)(x, n, out);
}
void round_to_bf16_in_f32(const float* x, std::int64_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(RoundToBf16InF32)(x, n, out);
}
std::string simd_target() {
  return hwy::TargetName(HWY_DYNAMIC_DISPATCH(Target)());
}

}  // namespace powerprefill
#endif
