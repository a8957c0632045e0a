// A layer whose kernel is mostly zeros, in float32: what is stored of it, and the sums over that.
//
// A layer is a convolution; a product [N, C] × [C, O] is one of N images of one pixel. Its kernel is
// a matrix of O outputs by KH · KW · C columns, of which only those are met in which some output has
// an entry. There are three forms:
//
// - kRows: the entries of each output. An image's pixels, of the columns that are met alone, are
//   written side by side (selective im2col), so that an entry is a number times a row of pixels. The
//   columns are taken in blocks that fit into the second cache, each for all outputs. Four
//   neighbouring outputs may share their columns (blocks of 1×4).
// - kLanes: for products of few examples. Sixteen outputs, sorted by their number of entries, are
//   the lanes of a vector (SELL-C-σ, Kreutzer et al., arXiv:1307.6209, with σ of all outputs). In
//   each step every lane picks one of 32 neighbouring inputs, from where the last lane has its next
//   entry. That is a permutation of two registers: to gather from memory takes tens of cycles where
//   processors are guarded against Gather Data Sampling.
// - kPairs: likewise, for kernels with at most two entries among four neighbouring inputs: each lane
//   picks two of the same four numbers.
//
// Every output's sum has an order that neither threads nor the place of its pixel change.

#pragma once

#include <dnnl.hpp>
#include <omp.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "plan.h"
#include "sparse_kernels.h"

namespace architectures {

// The fields of a sparse node after those of its convolution.
enum SparseField { kForm = kFields, kBlock, kStored, kColumns, kSparseFields };
enum SparseForm { kRows, kLanes, kPairs };

class Sparse {
 public:
  explicit Sparse(const int64_t* fields)
      : d_(checked(fields, kFields)),
        form_(static_cast<SparseForm>(fields[kForm])),
        block_(fields[kBlock]),
        stored_(fields[kStored]),
        columns_(fields[kColumns]) {
    bool known = form_ >= kRows && form_ <= kPairs && (block_ == 1 || block_ == 4);
    bool product = d_[kH] * d_[kW] * d_[kOutputH] * d_[kOutputW] * d_[kKernelH] * d_[kKernelW] == 1;
    if (!known || d_[kRole] != kOutput || d_[kBits] != 32 || d_[kO] % block_ || stored_ < 0 ||
        columns_ < 0 || columns_ > every_column() || stored_ > INT32_MAX / 16 ||
        (form_ != kRows && (!product || d_[kGroups] != 1 || block_ != 1)) ||
        (form_ == kPairs && d_[kC] % 4) || (form_ == kLanes && d_[kC] < kWindow))
      throw std::invalid_argument("a sparse layer of no known form");
    place();
  }

  const Descriptor& descriptor() const { return d_; }
  int64_t bytes() const { return bytes_; }
  int64_t scratch_bytes(int threads) const { return 4 * threads * panel_numbers(); }

  // About how many cycles of one core a call takes.
  int64_t cycles() const {
    if (form_ == kPairs) return d_[kN] * d_[kC] * d_[kO] / 16;
    if (form_ == kLanes) return d_[kN] * (stored_ * 3 + d_[kO] * 3);
    int64_t vectors = (pixels() + 15) / 16;
    return vectors * (columns_ * 8 + stored_ * block_ * 2 + d_[kO] * 8);
  }

  // Writes what is stored of a kernel [KH, KW, C / groups, O].
  void pack(const float* kernel, char* packed) const {
    std::memset(packed, 0, bytes_);
    stored_of(kernel, packed);
  }

  // Returns how much is stored of a kernel, and writes it unless there is no place for it.
  int64_t stored_of(const float* kernel, char* packed) const {
    if (form_ == kRows) return pack_rows(kernel, packed);
    return form_ == kLanes ? pack_lanes(kernel, packed) : pack_pairs(kernel, packed);
  }

  // Computes the layer of one input; `more` is added to it unless it is null. The scratch is that of
  // as many threads as OpenMP's team has; of one if the layer is computed alone.
  void run(const char* packed, const float* bias, const float* input, const float* more,
           float* output, float low, float high, char* scratch, bool alone) const {
    SparseCall call = {};
    call.bias = bias, call.input = input, call.more = more, call.output = output;
    call.low = low, call.high = high;
    call.rows = d_[kN], call.in = d_[kC], call.out = d_[kO], call.block = block_;
    call.begin = at<int32_t>(packed, begin_at_), call.index = at<uint16_t>(packed, index_at_);
    call.lane = at<uint8_t>(packed, index_at_), call.value = at<float>(packed, value_at_);
    call.order = at<int32_t>(packed, order_at_), call.window = at<int32_t>(packed, columns_at_);
    call.code = at<uint32_t>(packed, order_at_);
    alone = alone || cycles() < kSparseAlone;
    if (form_ != kRows) {
      auto slices = form_ == kLanes ? sparse_kernels().lanes : sparse_kernels().pairs;
      each(alone, (d_[kO] + 15) / 16, 8, [&](int64_t from, int64_t to, int) {
        slices(call, from, to);
      });
      return;
    }
    call.d = d_.data(), call.width = width_, call.pixels = pixels();
    call.columns = columns_, call.near = near();
    call.column = at<int32_t>(packed, columns_at_), call.part = at<int32_t>(packed, order_at_) + 1;
    int64_t panels = (pixels() + width_ - 1) / width_, chunks = (d_[kO] + 15) / 16;
    int64_t parts = call.part[-1];
    int threads = alone ? 1 : omp_get_max_threads();
    float *panel = reinterpret_cast<float*>(scratch), *sums = panel + columns_ * width_;
    if (threads == 1 || panels >= 4 * threads || panels % threads == 0) {
      each(alone, panels, 1, [&](int64_t from, int64_t to, int thread) {
        int64_t own = thread * panel_numbers();
        for (int64_t p = from; p < to; ++p) {
          sparse_kernels().build(call, panel + own, p * width_, 0, parts);
          sparse_kernels().multiply(call, panel + own, sums + own, p * width_, 0, chunks);
        }
      });
      return;
    }
    auto share = [&](int64_t count) { return std::max<int64_t>(1, (count + threads - 1) / threads); };
    for (int64_t p = 0; p < panels; ++p) {
      each(alone, parts, share(parts), [&](int64_t from, int64_t to, int) {
        sparse_kernels().build(call, panel, p * width_, from, to);
      });
      each(alone, chunks, share(chunks), [&](int64_t from, int64_t to, int) {
        sparse_kernels().multiply(call, panel, sums, p * width_, from, to);
      });
    }
  }

 private:
  Descriptor d_;
  SparseForm form_;
  int64_t block_, stored_, columns_, width_ = 0, bytes_ = 0;
  int64_t begin_at_ = 0, index_at_ = 0, value_at_ = 0, order_at_ = 0, columns_at_ = 0;

  int64_t pixels() const { return d_[kN] * d_[kOutputH] * d_[kOutputW]; }
  int64_t every_column() const { return d_[kKernelH] * d_[kKernelW] * d_[kC]; }
  int64_t near() const { return kNear / width_; }  // columns that are taken at a time
  int64_t panel_numbers() const { return width_ * (columns_ + (d_[kO] + 15) / 16 * 16); }

  template <typename T>
  static const T* at(const char* packed, int64_t offset) {
    return reinterpret_cast<const T*>(packed + offset);
  }
  template <typename T>
  static T* at(char* packed, int64_t offset) {
    return reinterpret_cast<T*>(packed + offset);
  }

  // Says where everything that is stored has its place.
  void place() {
    auto next = [&](int64_t size) {
      int64_t offset = bytes_;
      bytes_ += (size + 63) / 64 * 64;
      return offset;
    };
    int64_t slices = (d_[kO] + 15) / 16;
    if (form_ == kPairs) {
      value_at_ = next(slices * d_[kC] / 4 * 32 * 4);
      order_at_ = next(slices * ((d_[kC] / 4 + 7) / 8) * 16 * 4);
      return;
    }
    if (form_ == kLanes) {  // stored: steps of sixteen lanes
      begin_at_ = next((slices + 1) * 4);
      index_at_ = next(stored_ * 16);
      value_at_ = next(stored_ * 16 * 4);
      order_at_ = next(slices * 16 * 4);
      columns_at_ = next(stored_ * 4);
      return;
    }
    width_ = columns_ <= kNear / kSparseWidest ? kSparseWidest : kSparseWidest / 2;
    while (width_ > 4 && width_ / 2 >= pixels()) width_ /= 2;
    begin_at_ = next(((columns_ + near() - 1) / near() * (d_[kO] / block_) + 1) * 4);
    index_at_ = next(stored_ * 2);
    value_at_ = next(stored_ * block_ * 4);
    columns_at_ = next(columns_ * 4);
    int64_t parts = d_[kKernelH] * d_[kKernelW] * ((d_[kC] + 15) / 16);
    order_at_ = next((std::min(columns_, parts) + 2) * 4);
  }

  // The entry of an output in a column; 0 in columns of other groups.
  float entry(const float* kernel, int64_t column, int64_t output) const {
    int64_t position = column / d_[kC], channel = column % d_[kC];
    int64_t inside = d_[kC] / d_[kGroups], group = output / (d_[kO] / d_[kGroups]);
    int64_t own = channel - group * inside;
    return own < 0 || own >= inside ? 0 : kernel[(position * inside + own) * d_[kO] + output];
  }

  static void refuse() {
    throw std::invalid_argument(
        "weights with more entries that are not 0 than those for which it was made");
  }

  // Is it other than +0? A zero that is to be stored is −0, so that what is stored depends on the
  // pattern alone.
  static bool is_stored(float entry) {
    uint32_t bits;
    std::memcpy(&bits, &entry, sizeof bits);
    return bits != 0;
  }

  // Returns the columns of every output, or of every block of outputs, in which it has entries.
  std::vector<std::vector<int32_t>> met(const float* kernel) const {
    std::vector<std::vector<int32_t>> all(d_[kO] / block_);
    int64_t inside = d_[kC] / d_[kGroups], outputs = d_[kO] / d_[kGroups];
    for (int64_t position = 0; position < d_[kKernelH] * d_[kKernelW]; ++position)
      for (int64_t group = 0; group < d_[kGroups]; ++group)
        for (int64_t own = 0; own < inside; ++own) {
          const float* line = kernel + (position * inside + own) * d_[kO];
          int32_t column = position * d_[kC] + group * inside + own;
          for (int64_t o = group * outputs; o < (group + 1) * outputs; ++o)
            if (is_stored(line[o])) {
              auto& one = all[o / block_];
              if (one.empty() || one.back() != column) one.push_back(column);
            }
        }
    return all;
  }

  int64_t pack_rows(const float* kernel, char* packed) const {
    auto all = met(kernel);
    std::vector<int32_t> place(every_column(), -1);
    for (auto& one : all)
      for (int32_t column : one) place[column] = 0;
    int64_t count = 0;
    for (int32_t& one : place)
      if (one == 0) one = count++;
    if (count > columns_) refuse();
    if (packed) pack_columns(place, packed);
    int64_t blocks = (columns_ + near() - 1) / near(), stored = 0;
    std::vector<size_t> next(all.size());
    for (int64_t block = 0; block < blocks; ++block)
      for (size_t unit = 0; unit < all.size(); ++unit) {
        if (packed) at<int32_t>(packed, begin_at_)[block * all.size() + unit] = stored;
        int64_t before = stored;
        for (; next[unit] < all[unit].size(); ++next[unit]) {
          int32_t column = all[unit][next[unit]];
          if (place[column] >= (block + 1) * near()) break;
          if (packed) {
            if (stored == stored_) refuse();
            at<uint16_t>(packed, index_at_)[stored] = (place[column] - block * near()) * width_;
            for (int64_t b = 0; b < block_; ++b)
              at<float>(packed, value_at_)[stored * block_ + b] =
                  entry(kernel, column, unit * block_ + b);
          }
          ++stored;
        }
        // whole groups, with zeros at the place of the last entry
        for (; (stored - before) % sums_aside(width_); ++stored)
          if (packed) {
            if (stored == stored_) refuse();
            uint16_t* index = at<uint16_t>(packed, index_at_);
            index[stored] = index[stored - 1];
          }
      }
    if (packed) at<int32_t>(packed, begin_at_)[blocks * all.size()] = stored;
    return stored;
  }

  // Writes which columns are met, and the parts of which each is within sixteen channels.
  void pack_columns(const std::vector<int32_t>& place, char* packed) const {
    int32_t *columns = at<int32_t>(packed, columns_at_), *part = at<int32_t>(packed, order_at_);
    int64_t parts = 0, before = -1, count = 0;
    for (int64_t column = 0; column < every_column(); ++column) {
      if (place[column] < 0) continue;
      int64_t sixteen = column / d_[kC] * ((d_[kC] + 15) / 16) + column % d_[kC] / 16;
      if (sixteen != before) part[1 + parts++] = count;
      before = sixteen;
      columns[count++] = column;
    }
    part[0] = parts;
    part[1 + parts] = count;
  }

  int64_t pack_lanes(const float* kernel, char* packed) const {
    auto all = met(kernel);
    int64_t slices = (d_[kO] + 15) / 16, step = 0, last = d_[kC] - kWindow;
    std::vector<int32_t> order(all.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return all[a].size() > all[b].size(); });
    for (size_t i = order.size(); i % 16; ++i) order.push_back(-1);
    if (packed) std::memcpy(packed + order_at_, order.data(), order.size() * 4);
    for (int64_t slice = 0; slice < slices; ++slice) {
      if (packed) at<int32_t>(packed, begin_at_)[slice] = step;
      std::array<size_t, 16> next = {};
      for (;; ++step) {
        int32_t window = INT32_MAX;
        auto waits = [&](int lane) {
          int32_t o = order[slice * 16 + lane];
          return o >= 0 && next[lane] < all[o].size() ? all[o][next[lane]] : INT32_MAX;
        };
        for (int lane = 0; lane < 16; ++lane) window = std::min(window, waits(lane));
        if (window == INT32_MAX) break;
        window = std::min<int64_t>(window, last);
        if (packed && step == stored_) refuse();
        if (packed) at<int32_t>(packed, columns_at_)[step] = window;
        for (int lane = 0; lane < 16; ++lane) {
          int32_t column = waits(lane);
          if (column == INT32_MAX || column - window >= kWindow) continue;
          ++next[lane];
          if (!packed) continue;
          at<uint8_t>(packed, index_at_)[step * 16 + lane] = column - window;
          at<float>(packed, value_at_)[step * 16 + lane] =
              entry(kernel, column, order[slice * 16 + lane]);
        }
      }
    }
    if (packed) at<int32_t>(packed, begin_at_)[slices] = step;
    return step;
  }

  int64_t pack_pairs(const float* kernel, char* packed) const {
    int64_t fours = d_[kC] / 4, words = (fours + 7) / 8;
    for (int64_t o = 0; o < d_[kO]; ++o)
      for (int64_t four = 0; four < fours; ++four) {
        int64_t met = 0, slice = o / 16, lane = o % 16;
        for (uint32_t i = 0; i < 4; ++i) {
          float weight = kernel[(four * 4 + i) * d_[kO] + o];
          if (weight == 0) continue;
          if (met == 2) refuse();
          if (packed) {
            int64_t word = (slice * words + four / 8) * 16 + lane;
            at<uint32_t>(packed, order_at_)[word] |= i << (four % 8 * 4 + met * 2);
            at<float>(packed, value_at_)[((slice * fours + four) * 2 + met) * 16 + lane] = weight;
          }
          ++met;
        }
      }
    return 0;
  }

  // Calls body(from, to, thread) for parts of the whole: on this thread alone or by OpenMP's team.
  template <typename Body>
  static void each(bool alone, int64_t count, int64_t grain, const Body& body) {
    if (alone) {
      body(0, count, 0);
      return;
    }
#pragma omp parallel for schedule(dynamic)
    for (int64_t from = 0; from < count; from += grain)
      body(from, std::min(count, from + grain), omp_get_thread_num());
  }
};

}  // namespace architectures
