#include "math/attention/bf16_tiles.hpp"

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
// A false alarm inside GCC 12's own header (its bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include <cstring>
#include <limits>

#define TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")))
#define TARGET_AMX \
  __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")))

namespace powerprefill {

namespace {

constexpr std::int64_t kRows = 32;
constexpr std::int64_t kLanes = 16;

void nothing() {}

// exp(x) for x <= 0, relative error about 2e-7; 0 below -87.
TARGET_AVX512 inline __m512 exponential(__m512 x) {
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504F)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  // ln 2 in two parts: n times the first, which has few bits, is exact.
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375F), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4F), r);
  __m512 p = _mm512_set1_ps(1.9875691500e-4F);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1F));
  p = _mm512_fmadd_ps(_mm512_mul_ps(r, r), p, _mm512_add_ps(r, _mm512_set1_ps(1.0F)));
  return _mm512_scalef_ps(p, n);
}

// 2^x for x <= 0, relative error 8e-5: a probability is rounded to bf16, which costs up to 2e-3. At
// most 2^-126 for all x below -126.
TARGET_AVX512 inline __m512 power_of_two(__m512 x) {
  const __m512 magic = _mm512_set1_ps(12582912.0F);  // 1.5 2^23: sums have an integer's bits
  x = _mm512_max_ps(_mm512_set1_ps(-126.0F), x);     // x when it is no number
  const __m512 shifted = _mm512_add_ps(x, magic);
  const __m512 r = _mm512_sub_ps(x, _mm512_sub_ps(shifted, magic));  // in [-1/2, 1/2]
  __m512 p = _mm512_set1_ps(0.0551716704F);  // minimax for the relative error
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.242611143F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.693260987F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.999928072F));
  const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), exponent));
}

TARGET_AVX512 inline __mmask16 lanes_below(std::int64_t count, std::int64_t at) {
  const std::int64_t left = count - at;
  return left >= kLanes ? __mmask16{0xFFFF}
         : left <= 0    ? __mmask16{0}
                        : static_cast<__mmask16>((1U << left) - 1);
}

// The largest of `count` scores.
TARGET_AVX512 inline float largest_of(const float* scores, std::int64_t count) {
  const __m512 lowest = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  // Two chains: the next maximum need not wait for the last.
  __m512 even = lowest;
  __m512 odd = lowest;
  std::int64_t k = 0;
  for (; k + 2 * kLanes <= count; k += 2 * kLanes) {
    even = _mm512_max_ps(even, _mm512_loadu_ps(scores + k));
    odd = _mm512_max_ps(odd, _mm512_loadu_ps(scores + k + kLanes));
  }
  for (; k < count; k += kLanes) {
    even = _mm512_max_ps(even, _mm512_mask_loadu_ps(lowest, lanes_below(count, k), scores + k));
  }
  return _mm512_reduce_max_ps(_mm512_max_ps(even, odd));
}

// The row's new maximum; sum and out so far shrink to it.
TARGET_AVX512 inline float raise_maximum(const Bf16Tile& t, std::int64_t row) {
  const float found = largest_of(t.scores + row * t.keys, t.visible[row]) * t.scale;
  if (!(found > t.maximum[row])) return t.maximum[row];
  // The precise exponential: it scales sums that stay f32, where power_of_two() makes probabilities
  // that are rounded to bf16.
  const float shrink = t.maximum[row] == -std::numeric_limits<float>::infinity()
                           ? 0.0F
                           : _mm512_cvtss_f32(exponential(_mm512_set1_ps(t.maximum[row] - found)));
  t.maximum[row] = found;
  t.sum[row] *= shrink;
  float* out = t.out + row * t.columns;
  for (std::int64_t d = 0; d < t.columns; d += kLanes) {
    _mm512_storeu_ps(out + d, _mm512_mul_ps(_mm512_loadu_ps(out + d), _mm512_set1_ps(shrink)));
  }
  return found;
}

// Rounds 32 probabilities to `to`; their sum, lane by lane.
TARGET_AVX512 inline __m512 keep(__m512 low, __m512 high, std::uint16_t* to) {
  const __m512bh rounded = _mm512_cvtne2ps_pbh(high, low);
  std::memcpy(to, &rounded, sizeof rounded);
  return _mm512_add_ps(low, high);
}

TARGET_AVX512 void softmax(const Bf16Tile& t) {
  constexpr float log2_e = 1.44269504F;
  const __m512 scale = _mm512_set1_ps(t.scale * log2_e);
  for (std::int64_t row = 0; row < kRows; ++row) {
    const float* scores = t.scores + row * t.keys;
    std::uint16_t* probabilities = t.probabilities + row * t.keys;
    const std::int64_t visible = t.visible[row];
    // The product with the values takes all 32 rows.
    if (visible == 0) {
      std::memset(probabilities, 0, static_cast<std::size_t>(t.used_keys) * 2);
      continue;
    }
    const __m512 maximum = _mm512_set1_ps(raise_maximum(t, row) * log2_e);
    __m512 sum = _mm512_setzero_ps();
    for (std::int64_t k = 0; k < t.used_keys; k += 2 * kLanes) {
      const __m512 first = _mm512_fmsub_ps(_mm512_loadu_ps(scores + k), scale, maximum);
      const __m512 second = _mm512_fmsub_ps(_mm512_loadu_ps(scores + k + kLanes), scale, maximum);
      __m512 low = power_of_two(first);
      __m512 high = power_of_two(second);
      if (k + 2 * kLanes > visible) {
        low = _mm512_maskz_mov_ps(lanes_below(visible, k), low);
        high = _mm512_maskz_mov_ps(lanes_below(visible, k + kLanes), high);
      }
      sum = _mm512_add_ps(sum, keep(low, high, probabilities + k));
    }
    t.sum[row] += _mm512_reduce_add_ps(sum);
  }
}

// c (4, 16 kVectors) = or += a (4, 2 pairs) b, where b is (pairs, ..., 2).
template <int kVectors>
TARGET_AVX512 inline void multiply_rows(const std::uint16_t* a, std::int64_t a_ld,
                                        const std::uint16_t* b, std::int64_t b_ld,
                                        std::int64_t pairs, float* c, std::int64_t c_ld,
                                        bool accumulate) {
  // With 4 vectors 16 sums, 4 columns and a row: 21 of the 32 registers.
  constexpr int kHeight = 4;
  __m512 sums[kHeight][kVectors];
  for (int r = 0; r < kHeight; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = accumulate ? _mm512_loadu_ps(c + r * c_ld + v * kLanes) : _mm512_setzero_ps();
    }
  }
  for (std::int64_t p = 0; p < pairs; ++p) {
    __m512bh columns[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      std::memcpy(&columns[v], b + 2 * (p * b_ld + v * kLanes), sizeof columns[v]);
    }
    for (int r = 0; r < kHeight; ++r) {
      std::int32_t pair = 0;
      std::memcpy(&pair, a + r * a_ld + 2 * p, sizeof pair);
      const __m512i both = _mm512_set1_epi32(pair);
      __m512bh row;
      std::memcpy(&row, &both, sizeof row);
      for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], row, columns[v]);
    }
  }
  for (int r = 0; r < kHeight; ++r) {
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(c + r * c_ld + v * kLanes, sums[r][v]);
  }
}

// c (32, width) = or += a (32, 2 pairs) b (pairs, b_ld, 2); width is a multiple of 32.
TARGET_AVX512 void multiply(const std::uint16_t* a, std::int64_t a_ld, const std::uint16_t* b,
                            std::int64_t b_ld, std::int64_t pairs, float* c, std::int64_t c_ld,
                            std::int64_t width, bool accumulate) {
  std::int64_t column = 0;
  for (; column + 64 <= width; column += 64) {
    for (std::int64_t r = 0; r < kRows; r += 4) {
      multiply_rows<4>(a + r * a_ld, a_ld, b + 2 * column, b_ld, pairs, c + r * c_ld + column, c_ld,
                       accumulate);
    }
  }
  for (std::int64_t r = 0; column < width && r < kRows; r += 4) {
    multiply_rows<2>(a + r * a_ld, a_ld, b + 2 * column, b_ld, pairs, c + r * c_ld + column, c_ld,
                     accumulate);
  }
}

TARGET_AVX512 void scores_avx512(const Bf16Tile& t) {
  multiply(t.query, t.columns, t.key, t.keys, t.columns / 2, t.scores, t.keys, t.used_keys, false);
}

TARGET_AVX512 void values_avx512(const Bf16Tile& t) {
  multiply(t.probabilities, t.keys, t.value, t.columns, t.used_keys / 2, t.out, t.columns,
           t.columns, true);
}

// Eight tiles of 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

TARGET_AMX void begin_tiles() {
  static const TileConfig config;
  _tile_loadconfig(&config);
}

TARGET_AMX void end_tiles() {
  // Tiles in use are 8 KiB more to save at each switch between threads.
  _tile_release();
}

// Like multiply(), 32 by 32 at a time: sums in tiles 0 to 3, a in 4 and 5, b in 6 and 7.
TARGET_AMX inline void multiply_tiles(const std::uint16_t* a, std::int64_t a_ld,
                                      const std::uint16_t* b, std::int64_t b_ld, std::int64_t pairs,
                                      float* c, std::int64_t c_ld, std::int64_t width,
                                      bool accumulate) {
  constexpr std::int64_t half = 16;
  for (std::int64_t column = 0; column < width; column += 2 * half) {
    float* upper = c + column;
    float* lower = upper + half * c_ld;
    if (accumulate) {
      _tile_loadd(0, upper, c_ld * 4);
      _tile_loadd(1, upper + half, c_ld * 4);
      _tile_loadd(2, lower, c_ld * 4);
      _tile_loadd(3, lower + half, c_ld * 4);
    } else {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    for (std::int64_t p = 0; p < pairs; p += half) {
      _tile_loadd(4, a + 2 * p, a_ld * 2);
      _tile_loadd(5, a + half * a_ld + 2 * p, a_ld * 2);
      _tile_loadd(6, b + 2 * (p * b_ld + column), b_ld * 4);
      _tile_loadd(7, b + 2 * (p * b_ld + column + half), b_ld * 4);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, upper, c_ld * 4);
    _tile_stored(1, upper + half, c_ld * 4);
    _tile_stored(2, lower, c_ld * 4);
    _tile_stored(3, lower + half, c_ld * 4);
  }
}

TARGET_AMX void scores_amx(const Bf16Tile& t) {
  multiply_tiles(t.query, t.columns, t.key, t.keys, t.columns / 2, t.scores, t.keys, t.used_keys,
                 false);
}

TARGET_AMX void values_amx(const Bf16Tile& t) {
  multiply_tiles(t.probabilities, t.keys, t.value, t.columns, t.used_keys / 2, t.out, t.columns,
                 t.columns, true);
}

}  // namespace

const Bf16Kernels& bf16_kernels(Bf16Isa isa) {
  static const Bf16Kernels avx512 = {nothing, nothing, scores_avx512, softmax, values_avx512};
  static const Bf16Kernels amx = {begin_tiles, end_tiles, scores_amx, softmax, values_amx};
  return isa == Bf16Isa::amx ? amx : avx512;
}

}  // namespace powerprefill
