// A layer whose kernel is mostly zeros, in float32: what is stored of it, and the sums over that.
//
// A layer is a convolution; a product [N, C] × [C, O] is one of N images of one pixel. Its kernel is
// a matrix of O outputs by KH · KW · C columns, of which only those are met in which some output has
// an entry. There are three forms:
//
// - kRows: the entries of each output. An image's pixels, of the columns that are met alone, are
//   written side by side (selective im2col), so that an entry is a number times a row of pixels.
// - kLanes: for products of few examples. Sixteen outputs, sorted by their number of entries, are
//   the lanes of a vector, each of which gathers its own inputs (SELL-C-σ, Kreutzer et al.,
//   arXiv:1307.6209, with σ of all outputs).
// - kPairs: likewise, for kernels with at most two entries among four neighbouring inputs. They need
//   no gathering: each lane picks two of the same four numbers.
//
// In the first two, four neighbouring outputs may share their columns (blocks of 1×4).
// Every output's sum has an order that neither threads nor the place of its pixel change.

#pragma once

#include <dnnl.hpp>
#include <omp.h>

#include <algorithm>
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
        columns_ < 0 || columns_ > kSparseColumns || stored_ > INT32_MAX / 16 ||
        (form_ != kRows && (!product || d_[kGroups] != 1 || d_[kC] > kSparseColumns)) ||
        (form_ == kPairs && (d_[kC] % 4 || block_ != 1)))
      throw std::invalid_argument("a sparse layer of no known form");
    place();
  }

  const Descriptor& descriptor() const { return d_; }
  int64_t bytes() const { return bytes_; }
  int64_t scratch_bytes(int threads) const {
    return form_ == kRows ? threads * columns_ * width_ * 4 : 0;
  }

  // About how many cycles of one core a call takes.
  int64_t cycles() const {
    if (form_ == kPairs) return d_[kN] * d_[kC] * d_[kO] / 16;
    if (form_ == kLanes) return d_[kN] * stored_ * 12;
    int64_t vectors = (pixels() + 15) / 16;
    return vectors * (columns_ * 6 + stored_ * block_ * 2 + d_[kO] * 6);
  }

  // Writes what is stored of a kernel [KH, KW, C / groups, O].
  void pack(const float* kernel, char* packed) const {
    std::memset(packed, 0, bytes_);
    if (form_ == kRows) pack_rows(kernel, packed);
    if (form_ == kLanes) pack_lanes(kernel, packed);
    if (form_ == kPairs) pack_pairs(kernel, packed);
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
    call.value = at<float>(packed, value_at_), call.order = at<int32_t>(packed, order_at_);
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
    call.column = at<int32_t>(packed, order_at_), call.part = at<int32_t>(packed, parts_at_) + 1;
    int64_t panels = (pixels() + width_ - 1) / width_, chunks = (d_[kO] + 15) / 16;
    int64_t parts = call.part[-1];
    int threads = alone ? 1 : omp_get_max_threads();
    float* panel = reinterpret_cast<float*>(scratch);
    if (threads == 1 || panels >= 4 * threads || panels % threads == 0) {
      each(alone, panels, 1, [&](int64_t from, int64_t to, int thread) {
        float* own = panel + thread * columns_ * width_;
        for (int64_t p = from; p < to; ++p) {
          sparse_kernels().build(call, own, p * width_, 0, parts);
          sparse_kernels().multiply(call, own, p * width_, 0, chunks);
        }
      });
      return;
    }
    for (int64_t p = 0; p < panels; ++p) {
      each(alone, parts, std::max<int64_t>(1, parts / threads / 4),
           [&](int64_t from, int64_t to, int) {
             sparse_kernels().build(call, panel, p * width_, from, to);
           });
      each(alone, chunks, 1, [&](int64_t from, int64_t to, int) {
        sparse_kernels().multiply(call, panel, p * width_, from, to);
      });
    }
  }

 private:
  Descriptor d_;
  SparseForm form_;
  int64_t block_, stored_, columns_, width_ = 0, bytes_ = 0;
  int64_t begin_at_ = 0, index_at_ = 0, value_at_ = 0, order_at_ = 0, parts_at_ = 0;

  int64_t pixels() const { return d_[kN] * d_[kOutputH] * d_[kOutputW]; }
  int64_t every_column() const { return d_[kKernelH] * d_[kKernelW] * d_[kC]; }

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
      index_at_ = next(stored_ * 16 / block_ * 2);
      value_at_ = next(stored_ * 16 * 4);
      order_at_ = next(slices * 16 / block_ * 4);
      return;
    }
    begin_at_ = next((d_[kO] / block_ + 1) * 4);
    index_at_ = next(stored_ * 2);
    value_at_ = next(stored_ * block_ * 4);
    order_at_ = next(columns_ * 4);
    int64_t parts = d_[kKernelH] * d_[kKernelW] * ((d_[kC] + 15) / 16);
    parts_at_ = next((std::min(columns_, parts) + 2) * 4);
    // as wide as leaves a panel in the second cache
    width_ = kSparseWidest;
    while (width_ > 4 && (width_ / 2 >= pixels() || (width_ > 16 && columns_ * width_ > kPanel)))
      width_ /= 2;
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
            if (line[o] != 0 || line[o] != line[o]) {
              auto& one = all[o / block_];
              if (one.empty() || one.back() != column) one.push_back(column);
            }
        }
    return all;
  }

  void pack_rows(const float* kernel, char* packed) const {
    auto all = met(kernel);
    std::vector<int32_t> place(every_column(), -1);
    for (auto& one : all)
      for (int32_t column : one) place[column] = 0;
    int32_t *columns = at<int32_t>(packed, order_at_), *part = at<int32_t>(packed, parts_at_);
    int64_t count = 0, parts = 0;
    for (int64_t column = 0; column < every_column(); ++column) {
      if (place[column] < 0) continue;
      if (count == columns_) refuse();
      if (count == 0 || group_of(columns[count - 1]) != group_of(column)) part[1 + parts++] = count;
      columns[count] = column;
      place[column] = count++;
    }
    part[0] = parts;
    part[1 + parts] = count;
    int32_t* begin = at<int32_t>(packed, begin_at_);
    int64_t next = 0;
    for (size_t unit = 0; unit < all.size(); ++unit) {
      begin[unit] = next;
      for (int32_t column : all[unit]) {
        if (next == stored_) refuse();
        at<uint16_t>(packed, index_at_)[next] = place[column];
        for (int64_t b = 0; b < block_; ++b)
          at<float>(packed, value_at_)[next * block_ + b] =
              entry(kernel, column, unit * block_ + b);
        ++next;
      }
    }
    begin[all.size()] = next;
  }

  // Which sixteen neighbouring channels, at which position of the window.
  int64_t group_of(int64_t column) const {
    return column / d_[kC] * ((d_[kC] + 15) / 16) + column % d_[kC] / 16;
  }

  void pack_lanes(const float* kernel, char* packed) const {
    auto all = met(kernel);
    int64_t lanes = 16 / block_, slices = (d_[kO] + 15) / 16;
    std::vector<int32_t> order(all.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return all[a].size() > all[b].size(); });
    int64_t step = 0;
    for (int64_t slice = 0; slice < slices; ++slice) {
      at<int32_t>(packed, begin_at_)[slice] = step;
      int64_t steps = all[order[slice * lanes]].size();
      if (step + steps > stored_) refuse();
      for (int64_t lane = 0; lane < lanes; ++lane) {
        int64_t place = slice * lanes + lane;
        bool there = place < static_cast<int64_t>(order.size());
        at<int32_t>(packed, order_at_)[place] = there ? order[place] : -1;
        if (!there) continue;
        const auto& one = all[order[place]];
        for (size_t i = 0; i < one.size(); ++i) {
          at<uint16_t>(packed, index_at_)[(step + i) * lanes + lane] = one[i];
          for (int64_t b = 0; b < block_; ++b)
            at<float>(packed, value_at_)[(step + i) * 16 + lane * block_ + b] =
                entry(kernel, one[i], order[place] * block_ + b);
        }
      }
      step += steps;
    }
    at<int32_t>(packed, begin_at_)[slices] = step;
  }

  void pack_pairs(const float* kernel, char* packed) const {
    int64_t fours = d_[kC] / 4, words = (fours + 7) / 8;
    for (int64_t o = 0; o < d_[kO]; ++o)
      for (int64_t four = 0; four < fours; ++four) {
        int64_t met = 0, slice = o / 16, lane = o % 16;
        uint32_t* code = at<uint32_t>(packed, order_at_) + (slice * words + four / 8) * 16 + lane;
        for (uint32_t i = 0; i < 4; ++i) {
          float weight = kernel[(four * 4 + i) * d_[kO] + o];
          if (weight == 0) continue;
          if (met == 2) refuse();
          at<float>(packed, value_at_)[((slice * fours + four) * 2 + met) * 16 + lane] = weight;
          *code |= i << (four % 8 * 4 + met++ * 2);
        }
      }
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
