// What is bound by memory in a chain: loops over images [N, H, W, C] of floats.

#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "plan.h"

// The loops over channels are compiled for each set of instructions; the loader chooses one.
#define ARCHITECTURES_WIDE __attribute__((target_clones("default", "avx2", "avx512f")))

namespace architectures {

struct Images {
  float* at;
  std::array<int64_t, 4> sizes;

  int64_t pixels() const { return sizes[0] * sizes[1] * sizes[2]; }
  int64_t channels() const { return sizes[3]; }
  // Do they fit one core's cache, so that one thread is as fast as several?
  bool small() const { return pixels() * channels() * 4 <= static_cast<int64_t>(kAlone) / 4; }
};

struct Bounds {
  float low, high;

  bool free() const { return low == -INFINITY && high == INFINITY; }
};

// A comparison with NaN is false, so NaN stays.
inline float bounded(float x, Bounds b) {
  float above = x < b.low ? b.low : x;
  return b.high < above ? b.high : above;
}

ARCHITECTURES_WIDE inline void bound(float* to, int64_t count, Bounds b) {
#pragma omp simd
  for (int64_t c = 0; c < count; ++c) to[c] = bounded(to[c], b);
}

ARCHITECTURES_WIDE inline void add_to(float* to, const float* from, int64_t count) {
#pragma omp simd
  for (int64_t c = 0; c < count; ++c) to[c] += from[c];
}

ARCHITECTURES_WIDE inline void take_larger(float* to, const float* from, int64_t count) {
#pragma omp simd
  for (int64_t c = 0; c < count; ++c) to[c] = to[c] >= from[c] || to[c] != to[c] ? to[c] : from[c];
}

ARCHITECTURES_WIDE inline void sum(float* to, const float* a, const float* b, int64_t count,
                                   Bounds bounds) {
#pragma omp simd
  for (int64_t c = 0; c < count; ++c) to[c] = bounded(a[c] + b[c], bounds);
}

ARCHITECTURES_WIDE inline void map(float* to, const float* from, const float* scale,
                                   const float* shift, int64_t count, Bounds bounds) {
#pragma omp simd
  for (int64_t c = 0; c < count; ++c) to[c] = bounded(from[c] * scale[c] + shift[c], bounds);
}

inline void add(Images to, Images a, Images b, Bounds bounds) {
  constexpr int64_t kPart = 4096;
  int64_t count = to.pixels() * to.channels();
#pragma omp parallel for if (!to.small())
  for (int64_t first = 0; first < count; first += kPart)
    sum(to.at + first, a.at + first, b.at + first, std::min(kPart, count - first), bounds);
}

inline void affine(Images to, Images from, const float* scale, const float* shift, Bounds bounds) {
  int64_t width = to.channels();
#pragma omp parallel for if (!to.small())
  for (int64_t r = 0; r < to.pixels(); ++r)
    map(to.at + r * width, from.at + r * width, scale, shift, width, bounds);
}

// Channels side by side.
inline void concat(Images to, const std::vector<Images>& from) {
  int64_t first = 0;
  for (const Images& one : from) {
    int64_t part = one.channels();
#pragma omp parallel for if (!to.small())
    for (int64_t r = 0; r < to.pixels(); ++r)
      std::memcpy(to.at + r * to.channels() + first, one.at + r * part, part * 4);
    first += part;
  }
}

// Every so many rows and columns, and channels of zeros on both sides.
inline void shortcut(Images to, Images from, int64_t down, int64_t across, int64_t before) {
  const auto &in = from.sizes, &out = to.sizes;
#pragma omp parallel for if (!to.small())
  for (int64_t r = 0; r < to.pixels(); ++r) {
    int64_t x = r % out[2], y = r / out[2] % out[1], n = r / out[2] / out[1];
    const float* one = from.at + ((n * in[1] + y * down) * in[2] + x * across) * in[3];
    std::memset(to.at + r * out[3], 0, out[3] * 4);
    std::memcpy(to.at + r * out[3] + before, one, in[3] * 4);
  }
}

// The sum over all pixels.
inline void total(Images to, Images from, Bounds bounds) {
  int64_t pixels = from.sizes[1] * from.sizes[2], width = to.channels();
#pragma omp parallel for if (!from.small())
  for (int64_t n = 0; n < to.sizes[0]; ++n) {
    float* sums = to.at + n * width;
    std::memset(sums, 0, width * 4);
    for (int64_t p = 0; p < pixels; ++p) add_to(sums, from.at + (n * pixels + p) * width, width);
    bound(sums, width, bounds);
  }
}

// The largest pixel of each window, or the sum of its pixels. Outside the images there is −∞, or 0.
struct Window {
  int64_t height, width, down, across, above, left;
};

inline void pool(Images to, Images from, const Window& w, bool largest, Bounds bounds) {
  const auto &in = from.sizes, &out = to.sizes;
  int64_t channels = to.channels();
#pragma omp parallel for if (!from.small())
  for (int64_t r = 0; r < to.pixels(); ++r) {
    int64_t x = r % out[2], y = r / out[2] % out[1], n = r / out[2] / out[1];
    int64_t top = y * w.down - w.above, left = x * w.across - w.left;
    float* one = to.at + r * channels;
    bool first = true;
    for (int64_t i = std::max<int64_t>(0, top); i < std::min(top + w.height, in[1]); ++i)
      for (int64_t j = std::max<int64_t>(0, left); j < std::min(left + w.width, in[2]); ++j) {
        const float* pixel = from.at + ((n * in[1] + i) * in[2] + j) * channels;
        if (first)
          std::memcpy(one, pixel, channels * 4);
        else if (largest)
          take_larger(one, pixel, channels);
        else
          add_to(one, pixel, channels);
        first = false;
      }
    if (first) std::fill(one, one + channels, largest ? -INFINITY : 0.0f);
    if (!bounds.free()) bound(one, channels, bounds);
  }
}

}  // namespace architectures
