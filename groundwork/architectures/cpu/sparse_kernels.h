// The loops over what is stored of a sparse kernel: for AVX-512, for AVX2, and portable ones.

#pragma once

#include <dnnl.hpp>
#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "plan.h"

// GCC 12 takes the operands that its own intrinsics leave undefined for mistakes (its bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

namespace architectures {

constexpr int64_t kSparseWidest = 64;       // pixels of a panel
constexpr int64_t kNear = 63 << 10;           // numbers of a block; places in it have 16 bits
constexpr int64_t kWindow = 32;              // inputs among which a lane picks one
constexpr int64_t kSparseAlone = 16 << 10;   // cycles for which a team is not asked

// How many sums are made side by side for panels of a width, since each waits for the last product.
constexpr int64_t sums_aside(int64_t width) { return width <= 16 ? 4 : width <= 32 ? 2 : 1; }

// One call of a layer; `sparse.h` says what is stored.
struct SparseCall {
  const float *bias, *input, *more;
  float* output;
  float low, high;
  int64_t rows, in, out, block;
  const int32_t *begin, *order, *column, *part;
  const float* value;
  const uint8_t* lane;     // of kLanes: which input of the window
  const int32_t* window;   // of kLanes: the first input
  const uint32_t* code;    // of kPairs
  const uint16_t* index;   // of kRows, as are all that follow: where a row of pixels begins
  const int64_t* d;
  int64_t width, pixels, columns, near;
};

#define ALWAYS inline __attribute__((always_inline))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))
#define AVX2 __attribute__((target("avx2,fma")))

// Between bounds; what is not a number stays so.
ALWAYS float bounded(float x, const SparseCall& c) {
  x = x < c.low ? c.low : x;
  return x > c.high ? c.high : x;
}

template <int W>
struct Floats {
  typedef float type __attribute__((vector_size(W * 4), aligned(4), may_alias));
};

// The pixels of the input, as arrays of its channels, that some output pixels meet at a position of
// the window; null where they meet padding, and beyond the last one.
ALWAYS void meet(const SparseCall& c, int64_t first, int64_t position, const float** met) {
  const int64_t* d = c.d;
  int64_t down = position / d[kKernelW] * d[kDilationH] - d[kTop];
  int64_t right = position % d[kKernelW] * d[kDilationW] - d[kLeft];
  int64_t x = first % d[kOutputW], y = first / d[kOutputW] % d[kOutputH];
  int64_t n = first / d[kOutputW] / d[kOutputH];
  for (int64_t p = 0; p < std::max<int64_t>(c.width, 16); ++p) {
    int64_t row = y * d[kStrideH] + down, across = x * d[kStrideW] + right;
    bool inside = row >= 0 && row < d[kH] && across >= 0 && across < d[kW];
    bool there = p < c.width && first + p < c.pixels && inside;
    met[p] = there ? c.input + ((n * d[kH] + row) * d[kW] + across) * d[kC] : nullptr;
    if (++x == d[kOutputW]) {
      x = 0;
      if (++y == d[kOutputH]) y = 0, ++n;
    }
  }
}

// Writes the columns of some parts, each of which is within sixteen channels at one position, for
// the pixels of one panel: [columns, width].
ALWAYS void build_plainly(const SparseCall& c, float* panel, int64_t first, int64_t from,
                          int64_t to) {
  const float* met[kSparseWidest];
  int64_t before = -1;
  for (int64_t part = from; part < to; ++part)
    for (int64_t j = c.part[part]; j < c.part[part + 1]; ++j) {
      int64_t position = c.column[j] / c.d[kC], channel = c.column[j] % c.d[kC];
      if (position != before) meet(c, first, before = position, met);
      for (int64_t p = 0; p < c.width; ++p)
        panel[j * c.width + p] = met[p] ? met[p][channel] : 0;
    }
}

// Adds the products of a block of columns to the sums of R outputs over U vectors of W pixels; the
// first block's begin with the bias. S sums of each are made side by side.
template <int W, int U, int S, int R>
ALWAYS void add(const SparseCall& c, const float* panel, int64_t block, int64_t unit, float* sums) {
  using V = typename Floats<W>::type;
  V all[S][R][U] = {};
  int64_t list = block * (c.out / R) + unit;
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int u = 0; u < U; ++u)
      all[0][r][u] = block ? *reinterpret_cast<const V*>(sums + r * c.width + u * W)
                           : all[0][r][u] + c.bias[unit * R + r];
  const uint16_t *index = c.index + c.begin[list], *end = c.index + c.begin[list + 1];
  const float* value = c.value + c.begin[list] * R;
  for (; index != end; index += S, value += S * R)
#pragma GCC unroll 4
    for (int s = 0; s < S; ++s) {
      const float* row = panel + index[s];
#pragma GCC unroll 8
      for (int u = 0; u < U; ++u) {
        V pixels = *reinterpret_cast<const V*>(row + u * W);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) all[s][r][u] += pixels * value[s * R + r];
      }
    }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int u = 0; u < U; ++u) {
#pragma GCC unroll 4
      for (int s = 1; s < S; ++s) all[0][r][u] += all[s][r][u];
      *reinterpret_cast<V*>(sums + r * c.width + u * W) = all[0][r][u];
    }
}

// As above for some outputs, with panels of Q pixels, and all columns.
template <int W, int Q, int R>
ALWAYS void add_all(const SparseCall& c, const float* panel, float* sums, int64_t from,
                    int64_t to) {
  constexpr int V = W < Q ? W : Q, S = R == 1 ? sums_aside(Q) : 1;
  constexpr int most = W == 16 ? (R == 1 ? 4 : 2) : (R == 1 ? 4 / (S > 2 ? 2 : 1) : 1);
  constexpr int U = Q / V < most ? Q / V : most;
  for (int64_t block = 0; block * c.near < c.columns; ++block)
    for (int64_t unit = from / R; unit < to / R; ++unit)
      for (int q = 0; q < Q; q += U * V)
        add<V, U, S, R>(c, panel + block * c.near * Q + q, block, unit, sums + unit * R * Q + q);
}

template <int W, int R>
ALWAYS void add_wide(const SparseCall& c, const float* panel, float* sums, int64_t from,
                     int64_t to) {
  switch (c.width) {
    case 4:
      return add_all<W, 4, R>(c, panel, sums, from, to);
    case 8:
      return add_all<W, 8, R>(c, panel, sums, from, to);
    case 16:
      return add_all<W, 16, R>(c, panel, sums, from, to);
    case 32:
      return add_all<W, 32, R>(c, panel, sums, from, to);
    default:
      return add_all<W, 64, R>(c, panel, sums, from, to);
  }
}

// Computes chunks of sixteen outputs for the pixels of one panel, with vectors of W numbers. `store`
// writes a chunk.
template <int W, typename Store>
ALWAYS void multiply_by(const SparseCall& c, const float* panel, float* sums, int64_t first,
                        int64_t from, int64_t to, Store store) {
  int64_t end = std::min(c.out, to * 16);
  if (c.columns == 0)
    for (int64_t o = from * 16; o < end; ++o)
      std::fill_n(sums + o * c.width, c.width, c.bias[o]);
  else if (c.block == 4)
    add_wide<W, 4>(c, panel, sums, from * 16, end);
  else
    add_wide<W, 1>(c, panel, sums, from * 16, end);
  for (int64_t o = from * 16; o < end; o += 16) store(c, sums + o * c.width, first, o);
}

ALWAYS void store_plainly(const SparseCall& c, const float* sums, int64_t first, int64_t output) {
  int64_t outputs = std::min<int64_t>(16, c.out - output);
  for (int64_t p = 0; p < std::min(c.width, c.pixels - first); ++p)
    for (int64_t o = 0; o < outputs; ++o) {
      int64_t at = (first + p) * c.out + output + o;
      float sum = sums[o * c.width + p];
      c.output[at] = bounded(c.more ? sum + c.more[at] : sum, c);
    }
}

// Writes the sums of sixteen lanes, of the n-th example, to the outputs that they are of.
ALWAYS void scatter(const SparseCall& c, int64_t n, int64_t slice, const float* sums) {
  for (int lane = 0; lane < 16; ++lane) {
    int64_t o = c.order[slice * 16 + lane];
    if (o < 0) break;
    float sum = sums[lane] + c.bias[o];
    c.output[n * c.out + o] = bounded(c.more ? sum + c.more[n * c.out + o] : sum, c);
  }
}

// The sums of some slices of sixteen outputs.
ALWAYS void lanes_plainly(const SparseCall& c, int64_t from, int64_t to) {
  for (int64_t slice = from; slice < to; ++slice)
    for (int64_t n = 0; n < c.rows; ++n) {
      float sums[16] = {};
      for (int64_t step = c.begin[slice]; step < c.begin[slice + 1]; ++step) {
        const float* input = c.input + n * c.in + c.window[step];
        for (int64_t at = step * 16; at < step * 16 + 16; ++at)
          sums[at % 16] += c.value[at] * input[c.lane[at]];
      }
      scatter(c, n, slice, sums);
    }
}

ALWAYS void pairs_plainly(const SparseCall& c, int64_t from, int64_t to) {
  int64_t fours = c.in / 4, words = (fours + 7) / 8;
  for (int64_t slice = from; slice < to; ++slice)
    for (int64_t n = 0; n < c.rows; ++n) {
      float sums[16] = {};
      for (int64_t four = 0; four < fours; ++four)
        for (int64_t i = 0; i < 2; ++i)
          for (int64_t lane = 0; lane < 16; ++lane) {
            uint32_t code = c.code[(slice * words + four / 8) * 16 + lane];
            int64_t own = code >> (four % 8 * 4 + i * 2) & 3;
            sums[lane] += c.value[((slice * fours + four) * 2 + i) * 16 + lane] *
                          c.input[n * c.in + four * 4 + own];
          }
      for (int64_t o = slice * 16; o < std::min(c.out, slice * 16 + 16); ++o) {
        float sum = sums[o % 16] + c.bias[o];
        int64_t at = n * c.out + o;
        c.output[at] = bounded(c.more ? sum + c.more[at] : sum, c);
      }
    }
}

// AVX-512

// Transposes sixteen vectors: neighbours first, then pairs of them, fours and eights.
AVX512 ALWAYS void transpose(__m512 (&rows)[16]) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#pragma GCC unroll 4
  for (int s = 1; s < 16; s *= 2) {
    // of lane l, the low one takes a[l] or b[l − s], and the high one a[l + s] or b[l]
    __mmask16 odd = s == 1 ? 0xAAAA : s == 2 ? 0xCCCC : s == 4 ? 0xF0F0 : 0xFF00;
    __m512i low = _mm512_mask_add_epi32(lane, odd, lane, _mm512_set1_epi32(16 - s));
    __m512i high = _mm512_mask_add_epi32(_mm512_add_epi32(lane, _mm512_set1_epi32(s)), odd, lane,
                                         _mm512_set1_epi32(16));
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i)
      if (!(i & s)) {
        __m512 a = rows[i], b = rows[i + s];
        rows[i] = _mm512_permutex2var_ps(a, low, b);
        rows[i + s] = _mm512_permutex2var_ps(a, high, b);
      }
  }
}

AVX512 inline void build_avx512(const SparseCall& c, float* panel, int64_t first, int64_t from,
                                int64_t to) {
  const float* met[kSparseWidest];
  int64_t before = -1;
  __mmask16 stored = c.width >= 16 ? 0xFFFF : (1 << c.width) - 1;
  for (int64_t part = from; part < to; ++part) {
    int64_t begin = c.part[part], end = c.part[part + 1];
    int64_t position = c.column[begin] / c.d[kC], channel = c.column[begin] % c.d[kC] / 16 * 16;
    if (position != before) meet(c, first, before = position, met);
    __mmask16 there = c.d[kC] - channel >= 16 ? 0xFFFF : (1 << (c.d[kC] - channel)) - 1;
    for (int64_t q = 0; q < c.width; q += 16) {
      __m512 rows[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        const float* pixel = met[q + i];
        rows[i] = _mm512_maskz_loadu_ps(pixel ? there : 0, pixel ? pixel + channel : c.input);
      }
      transpose(rows);
      float* to_row = panel + begin * c.width + q;
      if (end - begin == 16) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i)
          _mm512_mask_storeu_ps(to_row + i * c.width, stored, rows[i]);
        continue;
      }
      alignas(64) float all[16 * 16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) _mm512_store_ps(all + i * 16, rows[i]);
      int64_t base = position * c.d[kC] + channel;
      for (int64_t j = begin; j < end; ++j, to_row += c.width)
        _mm512_mask_storeu_ps(to_row, stored, _mm512_load_ps(all + (c.column[j] - base) * 16));
    }
  }
}

AVX512 ALWAYS __m512 bounded_avx512(__m512 x, const SparseCall& c) {
  // as they stand, both give the second operand where one is not a number
  x = _mm512_max_ps(_mm512_set1_ps(c.low), x);
  return _mm512_min_ps(_mm512_set1_ps(c.high), x);
}

AVX512 inline void store_avx512(const SparseCall& c, const float* sums, int64_t first,
                                int64_t output) {
  __mmask16 there = c.out - output >= 16 ? 0xFFFF : (1 << (c.out - output)) - 1;
  __mmask16 own = c.width >= 16 ? 0xFFFF : (1 << c.width) - 1;
  int64_t pixels = std::min(c.width, c.pixels - first);
  for (int64_t q = 0; q < pixels; q += 16) {
    __m512 rows[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i)
      rows[i] = _mm512_maskz_loadu_ps(there >> i & 1 ? own : 0, sums + i * c.width + q);
    transpose(rows);
    alignas(64) float all[16 * 16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) _mm512_store_ps(all + i * 16, rows[i]);
    for (int64_t i = 0; i < std::min<int64_t>(16, pixels - q); ++i) {
      int64_t at = (first + q + i) * c.out + output;
      __m512 sum = _mm512_load_ps(all + i * 16);
      if (c.more) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(there, c.more + at));
      _mm512_mask_storeu_ps(c.output + at, there, bounded_avx512(sum, c));
    }
  }
}

AVX512 inline void multiply_avx512(const SparseCall& c, const float* panel, float* sums,
                                   int64_t first, int64_t from, int64_t to) {
  multiply_by<16>(c, panel, sums, first, from, to, store_avx512);
}

AVX512 inline void lanes_avx512(const SparseCall& c, int64_t from, int64_t to) {
  for (int64_t slice = from; slice < to; ++slice)
    for (int64_t n = 0; n < c.rows; ++n) {
      __m512 sums = _mm512_setzero_ps();
      for (int64_t step = c.begin[slice]; step < c.begin[slice + 1]; ++step) {
        const float* input = c.input + n * c.in + c.window[step];
        __m512i lane = _mm512_cvtepu8_epi32(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(c.lane + step * 16)));
        __m512 numbers =
            _mm512_permutex2var_ps(_mm512_loadu_ps(input), lane, _mm512_loadu_ps(input + 16));
        sums = _mm512_fmadd_ps(_mm512_loadu_ps(c.value + step * 16), numbers, sums);
      }
      alignas(64) float all[16];
      _mm512_store_ps(all, sums);
      scatter(c, n, slice, all);
    }
}

AVX512 inline void pairs_avx512(const SparseCall& c, int64_t from, int64_t to) {
  int64_t fours = c.in / 4, words = (fours + 7) / 8;
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int64_t slice = from; slice < to; ++slice)
    for (int64_t n = 0; n < c.rows; ++n) {
      __m512 first = _mm512_setzero_ps(), second = first;
      const float* value = c.value + slice * fours * 32;
      for (int64_t word = 0; word < words; ++word) {
        __m512i code = _mm512_loadu_si512(c.code + (slice * words + word) * 16);
        int64_t end = std::min(fours, word * 8 + 8);
        for (int64_t i = word * 8; i < end; ++i, value += 32) {
          // vpermilps looks at the two lowest bits of each lane
          __m512 numbers = _mm512_broadcast_f32x4(_mm_loadu_ps(c.input + n * c.in + i * 4));
          __m512 one = _mm512_permutevar_ps(numbers, code);
          __m512 other = _mm512_permutevar_ps(numbers, _mm512_srli_epi32(code, 2));
          first = _mm512_fmadd_ps(_mm512_loadu_ps(value), one, first);
          second = _mm512_fmadd_ps(_mm512_loadu_ps(value + 16), other, second);
          code = _mm512_srli_epi32(code, 4);
        }
      }
      __m512i outputs = _mm512_add_epi32(lane, _mm512_set1_epi32(slice * 16));
      __mmask16 there = _mm512_cmplt_epi32_mask(outputs, _mm512_set1_epi32(c.out));
      int64_t at = n * c.out + slice * 16;
      __m512 sum = _mm512_add_ps(_mm512_add_ps(first, second),
                                 _mm512_maskz_loadu_ps(there, c.bias + slice * 16));
      if (c.more) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(there, c.more + at));
      _mm512_mask_storeu_ps(c.output + at, there, bounded_avx512(sum, c));
    }
}

// AVX2, and none

AVX2 inline void build_avx2(const SparseCall& c, float* panel, int64_t first, int64_t from,
                            int64_t to) {
  build_plainly(c, panel, first, from, to);
}

AVX2 inline void store_avx2(const SparseCall& c, const float* sums, int64_t first, int64_t o) {
  store_plainly(c, sums, first, o);
}

AVX2 inline void multiply_avx2(const SparseCall& c, const float* panel, float* sums,
                               int64_t first, int64_t from, int64_t to) {
  multiply_by<8>(c, panel, sums, first, from, to, store_avx2);
}

AVX2 inline void lanes_avx2(const SparseCall& c, int64_t from, int64_t to) {
  lanes_plainly(c, from, to);
}

AVX2 inline void pairs_avx2(const SparseCall& c, int64_t from, int64_t to) {
  pairs_plainly(c, from, to);
}

inline void build_portable(const SparseCall& c, float* panel, int64_t first, int64_t from,
                           int64_t to) {
  build_plainly(c, panel, first, from, to);
}

inline void store_portable(const SparseCall& c, const float* sums, int64_t first, int64_t o) {
  store_plainly(c, sums, first, o);
}

inline void multiply_portable(const SparseCall& c, const float* panel, float* sums,
                               int64_t first, int64_t from, int64_t to) {
  multiply_by<4>(c, panel, sums, first, from, to, store_portable);
}

inline void lanes_portable(const SparseCall& c, int64_t from, int64_t to) {
  lanes_plainly(c, from, to);
}

inline void pairs_portable(const SparseCall& c, int64_t from, int64_t to) {
  pairs_plainly(c, from, to);
}

#undef ALWAYS
#undef AVX512
#undef AVX2

struct SparseKernels {
  void (*build)(const SparseCall&, float*, int64_t, int64_t, int64_t);
  void (*multiply)(const SparseCall&, const float*, float*, int64_t, int64_t, int64_t);
  void (*lanes)(const SparseCall&, int64_t, int64_t);
  void (*pairs)(const SparseCall&, int64_t, int64_t);
  const char* name;
};

// Those for the instructions that oneDNN uses, so that one setting says it for both.
inline const SparseKernels& sparse_kernels() {
  static const SparseKernels avx512 = {build_avx512, multiply_avx512, lanes_avx512, pairs_avx512,
                                       "sparse:avx512"};
  static const SparseKernels avx2 = {build_avx2, multiply_avx2, lanes_avx2, pairs_avx2,
                                     "sparse:avx2"};
  static const SparseKernels portable = {build_portable, multiply_portable, lanes_portable,
                                         pairs_portable, "sparse:portable"};
  static const SparseKernels* chosen = [] {
    int isa = dnnl_get_effective_cpu_isa();
    auto has = [&](int needed) { return (isa & needed) == needed; };
    return has(dnnl_cpu_isa_avx512_core) ? &avx512 : has(dnnl_cpu_isa_avx2) ? &avx2 : &portable;
  }();
  return *chosen;
}

}  // namespace architectures

#pragma GCC diagnostic pop
