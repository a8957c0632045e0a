// Integer arithmetic by AVX-512: sums of products of 8-bit integers, and fixed-point factors that are
// rounded once and exactly, as `deploy.integers` does.

#pragma once

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 has these in this header itself
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

#include <cstdint>
#include <cstring>

namespace architectures::integers {

// In which form products take their operands. Instructions that add pairs of products in 16 bits
// (vpmaddubsw) saturate, so they are never used.
enum Form {
  kPortable = 0,
  kWords = 1,  // 16 bits: AVX-512BW
  kBytes = 2,  // 8 bits: VNNI
  kSplit = 3,  // 8 bits, each product of VNNI's by AVX-512BW
};

// A fixed-point factor for each of 16 lanes, those of even lanes first: (x · 2^left, within 32 bits,
// · mantissa + round) >> right.
struct alignas(64) Scales {
  int64_t mantissa[2][8], round[2][8], right[2][8], left[2][8];
};

// What a layer has for 16 of its outputs.
struct alignas(64) Channels {
  Scales scales;
  int32_t bias[16];
};

// Where integers lie.
struct Range {
  int32_t zero, low, high;
};

// Another value, which is added before the result is brought to its range.
struct Sum {
  bool wide;                            // has the other value 32 bits?
  int32_t own_zero, own_shift;          // (x − zero) << shift is multiplied by `own`
  int32_t other_zero, other_shift, sign;
  Scales own, other, whole;
  Range range;
};

// What becomes of the sums of a layer.
struct Ending {
  bool left, wide, adds;  // do factors shift to the left? has the result 32 bits?
  Range range;
  Sum sum;
};

// How the pixels of a product lie, in bytes, and how many products of four bytes a sum has.
struct Window {
  int64_t pixel, row, tap, rows, taps, steps;
};

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl")

inline __m512i shifted(__m512i x, __m512i left) {
  x = _mm512_sllv_epi64(_mm512_srai_epi64(_mm512_slli_epi64(x, 32), 32), left);
  x = _mm512_min_epi64(x, _mm512_set1_epi64(INT32_MAX));
  return _mm512_max_epi64(x, _mm512_set1_epi64(INT32_MIN));
}

inline __m512i all(const int64_t* numbers) { return _mm512_load_si512(numbers); }

// Returns 16 integers times their factors.
inline __m512i scaled(__m512i x, const Scales& by, bool left) {
  __m512i half[2] = {x, _mm512_srli_epi64(x, 32)};
  for (int i = 0; i < 2; ++i) {
    if (left) half[i] = shifted(half[i], all(by.left[i]));
    half[i] = _mm512_mul_epi32(half[i], all(by.mantissa[i]));
    half[i] = _mm512_srav_epi64(_mm512_add_epi64(half[i], all(by.round[i])), all(by.right[i]));
  }
  return _mm512_mask_blend_epi32(0xAAAA, half[0], _mm512_slli_epi64(half[1], 32));
}

inline __m512i within(__m512i x, const Range& range) {
  x = _mm512_max_epi32(x, _mm512_set1_epi32(range.low - range.zero));
  x = _mm512_min_epi32(x, _mm512_set1_epi32(range.high - range.zero));
  return _mm512_add_epi32(x, _mm512_set1_epi32(range.zero));
}

inline __m512i loaded(const char* from, bool wide, __mmask16 mask) {
  if (wide) return _mm512_maskz_loadu_epi32(mask, from);
  return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, from));
}

inline void stored(char* to, __m512i x, bool wide, __mmask16 mask) {
  if (wide)
    _mm512_mask_storeu_epi32(to, mask, x);
  else
    _mm512_mask_cvtepi32_storeu_epi8(to, mask, x);
}

inline __m512i operand(__m512i x, int32_t zero, int32_t shift, const Scales& by) {
  x = _mm512_sub_epi32(x, _mm512_set1_epi32(zero));
  return scaled(_mm512_slli_epi32(x, shift), by, true);
}

inline __m512i summed(__m512i own, __m512i other, const Sum& sum) {
  own = operand(own, sum.own_zero, sum.own_shift, sum.own);
  other = operand(other, sum.other_zero, sum.other_shift, sum.other);
  own = sum.sign < 0 ? _mm512_sub_epi32(own, other) : _mm512_add_epi32(own, other);
  return within(scaled(own, sum.whole, true), sum.range);
}

// Stores what becomes of 16 sums.
inline void finished(__m512i sums, const Channels& channels, const Ending& ending,
                     const char* other, char* to, __mmask16 mask) {
  sums = _mm512_add_epi32(sums, _mm512_load_si512(channels.bias));
  sums = within(scaled(sums, channels.scales, ending.left), ending.range);
  if (ending.adds) sums = summed(sums, loaded(other, ending.sum.wide, mask), ending.sum);
  stored(to, sums, ending.wide, mask);
}

// Adds four products of bytes, or two of words, in each lane.
template <Form F>
inline __m512i dot(__m512i sum, __m512i x, __m512i kernel) {
  if constexpr (F == kWords) return _mm512_add_epi32(sum, _mm512_madd_epi16(x, kernel));
  if constexpr (F == kBytes) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(kernel));
    return sum;
  }
  __m512i low = _mm512_srai_epi16(_mm512_slli_epi16(kernel, 8), 8);
  __m512i even = _mm512_madd_epi16(_mm512_and_si512(x, _mm512_set1_epi16(255)), low);
  __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(x, 8), _mm512_srai_epi16(kernel, 8));
  return _mm512_add_epi32(sum, _mm512_add_epi32(even, odd));
}

// P pixels side by side, B × 16 outputs of each; `last` masks those of the last 16.
template <Form F, int P, int B>
void tile(const Window& window, const Ending& ending, const char* in, const char* kernel,
          const Channels* channels, const char* other, char* to, int64_t outputs, __mmask16 last) {
  __m512i sums[P][B];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) sums[p][b] = _mm512_setzero_si512();
  for (int64_t i = 0; i < window.rows; ++i)
    for (int64_t j = 0; j < window.taps; ++j) {
      const char* x = in + i * window.row + j * window.tap;
      for (int64_t k = 0; k < window.steps; ++k, x += 4, kernel += 64 * B) {
        __m512i weights[B];
#pragma GCC unroll 4
        for (int b = 0; b < B; ++b) weights[b] = _mm512_loadu_si512(kernel + 64 * b);
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) {
          int32_t four;
          std::memcpy(&four, x + p * window.pixel, 4);
          __m512i wide = _mm512_set1_epi32(four);
#pragma GCC unroll 4
          for (int b = 0; b < B; ++b) sums[p][b] = dot<F>(sums[p][b], wide, weights[b]);
        }
      }
    }
  alignas(64) int32_t kept[P][B][16];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) _mm512_store_si512(kept[p][b], sums[p][b]);
  int64_t other_bytes = ending.sum.wide ? 4 : 1, bytes = ending.wide ? 4 : 1;
  for (int b = 0; b < B; ++b)
    for (int p = 0; p < P; ++p) {
      int64_t at = p * outputs + 16 * b;
      finished(_mm512_load_si512(kept[p][b]), channels[b], ending, other + at * other_bytes,
               to + at * bytes, b == B - 1 ? last : 0xFFFF);
    }
}

// Pixels side by side, B × 16 outputs of each.
template <Form F, int P, int B>
void pixels(const Window& window, const Ending& ending, int64_t count, const char* in,
            const char* kernel, const Channels* channels, const char* other, char* to,
            int64_t outputs, __mmask16 last) {
  int64_t other_bytes = ending.sum.wide ? 4 : 1, bytes = ending.wide ? 4 : 1;
  for (; count >= P; count -= P) {
    tile<F, P, B>(window, ending, in, kernel, channels, other, to, outputs, last);
    in += P * window.pixel;
    other += P * outputs * other_bytes;
    to += P * outputs * bytes;
  }
  if constexpr (P > 1)
    if (count > 0)
      pixels<F, P / 2, B>(window, ending, count, in, kernel, channels, other, to, outputs, last);
}

using Pixels = void (*)(const Window&, const Ending&, int64_t, const char*, const char*,
                        const Channels*, const char*, char*, int64_t, __mmask16);

template <Form F>
Pixels pixels_by(int64_t blocks) {
  return blocks == 4 ? pixels<F, 4, 4> : blocks == 2 ? pixels<F, 8, 2> : pixels<F, 16, 1>;
}

// Returns what computes so many times 16 outputs.
inline Pixels pixels_of(int64_t form, int64_t blocks) {
  if (form == kWords) return pixels_by<kWords>(blocks);
  if (form == kBytes) return pixels_by<kBytes>(blocks);
  return pixels_by<kSplit>(blocks);
}

// One kernel for each channel: P pixels side by side, 32 channels, of words. Taps go in pairs.
template <int P>
void deep_tile(const int64_t* taps, int64_t pairs, int64_t pixel, const Ending& ending,
               const char* in, const char* kernel, const Channels* channels, const char* other,
               char* to, int64_t outputs, __mmask16 first, __mmask16 second) {
  __m512i low[P], high[P];
  for (int p = 0; p < P; ++p) low[p] = high[p] = _mm512_setzero_si512();
  for (int64_t t = 0; t < pairs; ++t, kernel += 128) {
    __m512i weights[2] = {_mm512_loadu_si512(kernel), _mm512_loadu_si512(kernel + 64)};
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      __m512i one = _mm512_loadu_si512(in + taps[2 * t] + p * pixel);
      __m512i two = _mm512_loadu_si512(in + taps[2 * t + 1] + p * pixel);
      low[p] = dot<kWords>(low[p], _mm512_unpacklo_epi16(one, two), weights[0]);
      high[p] = dot<kWords>(high[p], _mm512_unpackhi_epi16(one, two), weights[1]);
    }
  }
  const __m512i left = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
  const __m512i right = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
  int64_t other_bytes = ending.sum.wide ? 4 : 1, bytes = ending.wide ? 4 : 1;
  for (int p = 0; p < P; ++p) {
    int64_t at = p * outputs;
    finished(_mm512_permutex2var_epi64(low[p], left, high[p]), channels[0], ending,
             other + at * other_bytes, to + at * bytes, first);
    if (!second) continue;
    at += 16;
    finished(_mm512_permutex2var_epi64(low[p], right, high[p]), channels[1], ending,
             other + at * other_bytes, to + at * bytes, second);
  }
}

// Copies 8-bit integers as words, less their zero.
inline void widen(const char* from, int64_t count, int32_t zero, char* to) {
  const __m512i less = _mm512_set1_epi16(static_cast<int16_t>(zero));
  for (int64_t i = 0; i < count; i += 32) {
    __mmask32 mask = count - i >= 32 ? ~0u : (1u << (count - i)) - 1;
    __m512i x = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask, from + i));
    _mm512_mask_storeu_epi16(to + 2 * i, mask, _mm512_sub_epi16(x, less));
  }
}

inline __mmask16 first_of(int64_t count) { return count >= 16 ? 0xFFFF : (1 << count) - 1; }

// Adds two values, entry by entry.
inline void add_all(const char* own, bool own_wide, const char* other, const Sum& sum,
                    int64_t count, bool wide, char* to) {
  for (int64_t i = 0; i < count; i += 16) {
    __mmask16 mask = first_of(count - i);
    __m512i x = loaded(own + i * (own_wide ? 4 : 1), own_wide, mask);
    __m512i y = loaded(other + i * (sum.wide ? 4 : 1), sum.wide, mask);
    stored(to + i * (wide ? 4 : 1), summed(x, y, sum), wide, mask);
  }
}

// Brings values to another range.
inline void scale_all(const char* from, bool from_wide, int32_t zero, const Scales& by,
                      const Range& range, int64_t count, bool wide, char* to) {
  for (int64_t i = 0; i < count; i += 16) {
    __mmask16 mask = first_of(count - i);
    __m512i x = loaded(from + i * (from_wide ? 4 : 1), from_wide, mask);
    x = scaled(_mm512_sub_epi32(x, _mm512_set1_epi32(zero)), by, true);
    stored(to + i * (wide ? 4 : 1), within(x, range), wide, mask);
  }
}

// Rounds floats to a grid, half to even.
inline void round_all(const char* from, float scale, const Range& range, int64_t count, char* to) {
  const __m512 low = _mm512_set1_ps(static_cast<float>(range.low));
  const __m512 high = _mm512_set1_ps(static_cast<float>(range.high));
  for (int64_t i = 0; i < count; i += 16) {
    __mmask16 mask = first_of(count - i);
    __m512 x = _mm512_div_ps(_mm512_maskz_loadu_ps(mask, from + 4 * i), _mm512_set1_ps(scale));
    x = _mm512_add_ps(_mm512_roundscale_ps(x, 0), _mm512_set1_ps(static_cast<float>(range.zero)));
    x = _mm512_min_ps(_mm512_max_ps(x, low), high);
    stored(to + i, _mm512_cvtps_epi32(x), false, mask);
  }
}

// Adds the pixels of an image, [pixels, width] → [width], less their zero.
inline void total_all(const char* from, bool from_wide, int32_t zero, int64_t pixels,
                      int64_t width, const Scales& by, const Range& range, bool wide, char* to) {
  int64_t bytes = from_wide ? 4 : 1;
  for (int64_t c = 0; c < width; c += 16) {
    __mmask16 mask = first_of(width - c);
    __m512i sums = _mm512_set1_epi32(static_cast<int32_t>(-zero * pixels));
    for (int64_t p = 0; p < pixels; ++p)
      sums = _mm512_add_epi32(sums, loaded(from + (p * width + c) * bytes, from_wide, mask));
    stored(to + c * (wide ? 4 : 1), within(scaled(sums, by, true), range), wide, mask);
  }
}

#pragma GCC pop_options

}  // namespace architectures::integers
