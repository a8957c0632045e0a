// Convolutions of 3 × 3 with fewer products, exactly: F(2 × 2, 3 × 3) of Winograd (Lavin and Gray,
// arXiv:1509.09308), where 16 products make four sums in place of 36. The kernel is transformed by
// twice the usual matrix from either side, so that all numbers are integers: 16 bits hold the
// transformed input (at most 4 · 255) and kernel (at most 9 · 127), and the sums are four times those
// of the convolution. It pays for products of words; those of bytes by VNNI are as fast without.

#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "integers_kernels.h"

namespace architectures::integers {

constexpr int64_t kTiles = 32;  // of 2 × 2 pixels, that are transformed at once

// What the tiles of one convolution have in common; sizes of the copy of the input are in bytes.
struct Tiles {
  int64_t inputs, outputs, height, width;  // of the result
  int64_t pixel, line, plane;
  int64_t down() const { return (height + 1) / 2; }
  int64_t across() const { return (width + 1) / 2; }
  int64_t steps() const { return inputs / 2; }
};

// Where a tile lies.
struct Place {
  int64_t image, y, x;

  Place(const Tiles& tiles, int64_t tile)
      : image(tile / (tiles.down() * tiles.across())),
        y(tile / tiles.across() % tiles.down() * 2),
        x(tile % tiles.across() * 2) {}
  void next(const Tiles& tiles) {
    if ((x += 2) < tiles.width) return;
    x = 0;
    if ((y += 2) < tiles.height) return;
    y = 0;
    ++image;
  }
};

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl")

// A tile of 4 × 4 pixels, [16 places, tiles, channels] words.
inline void tile_in(const Tiles& tiles, const char* from, char* to, int64_t place) {
  for (int64_t c = 0; c < tiles.inputs; c += 32) {
    int64_t left = tiles.inputs - c;
    __mmask32 mask = left >= 32 ? ~0u : (1u << left) - 1;
    __m512i x[4][4], t[4][4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j)
        x[i][j] = _mm512_maskz_loadu_epi16(mask, from + i * tiles.line + j * tiles.pixel + 2 * c);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      t[0][j] = _mm512_sub_epi16(x[0][j], x[2][j]);
      t[1][j] = _mm512_add_epi16(x[1][j], x[2][j]);
      t[2][j] = _mm512_sub_epi16(x[2][j], x[1][j]);
      t[3][j] = _mm512_sub_epi16(x[1][j], x[3][j]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      __m512i made[4] = {
          _mm512_sub_epi16(t[i][0], t[i][2]), _mm512_add_epi16(t[i][1], t[i][2]),
          _mm512_sub_epi16(t[i][2], t[i][1]), _mm512_sub_epi16(t[i][1], t[i][3])};
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j)
        _mm512_mask_storeu_epi16(to + (4 * i + j) * place + 2 * c, mask, made[j]);
    }
  }
}

// The sums of P tiles at one place, B × 16 outputs of each.
template <int P, int B>
void tile_sums(int64_t count, int64_t pixel, int64_t steps, const char* in, const char* kernel,
               int32_t* to) {
  for (; count >= P; count -= P, in += P * pixel, to += P * B * 16) {
    __m512i sums[P][B];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
      for (int b = 0; b < B; ++b) sums[p][b] = _mm512_setzero_si512();
    const char* taps = kernel;
    for (int64_t k = 0; k < steps; ++k, taps += 64 * B) {
      __m512i weights[B];
#pragma GCC unroll 4
      for (int b = 0; b < B; ++b) weights[b] = _mm512_loadu_si512(taps + 64 * b);
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) {
        int32_t two;
        std::memcpy(&two, in + p * pixel + 4 * k, 4);
        __m512i wide = _mm512_set1_epi32(two);
#pragma GCC unroll 4
        for (int b = 0; b < B; ++b) sums[p][b] = dot<kWords>(sums[p][b], wide, weights[b]);
      }
    }
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
      for (int b = 0; b < B; ++b) _mm512_storeu_si512(to + (p * B + b) * 16, sums[p][b]);
  }
  if constexpr (P > 1)
    if (count > 0) tile_sums<P / 2, B>(count, pixel, steps, in, kernel, to);
}

// The four sums of a tile from those at its 16 places, which are `place` numbers apart.
inline void tile_out(const int32_t* from, int64_t place, __m512i (&made)[2][2]) {
  __m512i rows[2][4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    __m512i x[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) x[i] = _mm512_loadu_si512(from + (4 * i + j) * place);
    rows[0][j] = _mm512_add_epi32(_mm512_add_epi32(x[0], x[1]), x[2]);
    rows[1][j] = _mm512_sub_epi32(_mm512_sub_epi32(x[1], x[2]), x[3]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    __m512i one = _mm512_add_epi32(_mm512_add_epi32(rows[i][0], rows[i][1]), rows[i][2]);
    __m512i two = _mm512_sub_epi32(_mm512_sub_epi32(rows[i][1], rows[i][2]), rows[i][3]);
    made[i][0] = _mm512_srai_epi32(one, 2);
    made[i][1] = _mm512_srai_epi32(two, 2);
  }
}

// Computes the tiles `first` … `last` − 1 of all images.
inline void tile_all(const Tiles& tiles, const Ending& ending, const char* from,
                     const char* kernel, const Channels* channels, const char* other, char* to,
                     int64_t first, int64_t last) {
  static thread_local std::vector<char> memory;
  int64_t count = last - first, place = count * tiles.inputs * 2 + 64;
  memory.resize(16 * place + 16 * count * 64 * 4);
  char* in = memory.data();
  auto* sums = reinterpret_cast<int32_t*>(in + 16 * place);
  int64_t other_bytes = ending.sum.wide ? 4 : 1, bytes = ending.wide ? 4 : 1;
  Place start(tiles, first), at = start;
  for (int64_t t = 0; t < count; ++t, at.next(tiles)) {
    const char* one = from + at.image * tiles.plane + at.y * tiles.line + at.x * tiles.pixel;
    tile_in(tiles, one, in + t * tiles.inputs * 2, place);
  }
  int64_t blocks = (tiles.outputs + 15) / 16, steps = tiles.steps();
  for (int64_t b = 0; b < blocks;) {
    int64_t many = blocks - b >= 4 ? 4 : blocks - b >= 2 ? 2 : 1, apart = count * many * 16;
    auto* compute = many == 4 ? tile_sums<4, 4> : many == 2 ? tile_sums<8, 2> : tile_sums<16, 1>;
    for (int64_t i = 0; i < 16; ++i)
      compute(count, tiles.inputs * 2, steps, in + i * place,
              kernel + (i * blocks + b) * steps * 64, sums + i * apart);
    at = start;
    for (int64_t t = 0; t < count; ++t, at.next(tiles))
      for (int64_t one = 0; one < many; ++one) {
        __m512i made[2][2];
        tile_out(sums + (t * many + one) * 16, apart, made);
        int64_t o = 16 * (b + one);
        for (int i = 0; i < 2 && at.y + i < tiles.height; ++i)
          for (int j = 0; j < 2 && at.x + j < tiles.width; ++j) {
            int64_t row = at.image * tiles.height + at.y + i;
            int64_t index = (row * tiles.width + at.x + j) * tiles.outputs + o;
            finished(made[i][j], channels[b + one], ending, other + index * other_bytes,
                     to + index * bytes, first_of(tiles.outputs - o));
          }
      }
    b += many;
  }
}

#pragma GCC pop_options

}  // namespace architectures::integers
