// Convolutions as products of matrices whose memory is known beforehand: im2col and MEC.
//
// One image and one group of channels at a time, windows become rows of a matrix, which is
// multiplied by the kernel. im2col copies each window whole, [OH, OW, KH · KW · C]. MEC
// (memory-efficient convolution, Cho & Brand, arXiv:1706.06873) copies windows of one row of the
// image, [rows, OW, KW · C], so that windows that overlap in height share what they have in common:
// about KH / strides times less. A depthwise convolution is one group, in a loop of its own.
//
// Departs from the paper's Algorithm 2: images come one at a time instead of a whole batch, and
// padding is written into the matrix, not into a copy of the images. The paper has columns first,
// and one product for each row of the output, whose matrices overlap. Here rows come first, and for
// each row of the kernel one product takes all pixels, which adds to those before it: oneDNN's fast
// products want rows that lie one after another. Strides sort the rows, so that they do.

#pragma once

#include <dnnl.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "plan.h"

namespace architectures {

enum Form { kDirect, kIm2col, kMec };  // in the order of `FORMS` of `chain.py`

class Unfolded {
 public:
  std::string implementation;
  int64_t packed_bytes = 0;  // of the kernels of all groups

  Unfolded(const Descriptor& descriptor, Form form)
      : d_(descriptor), mec_(form == kMec), depthwise_(is_depthwise()), view_(is_view()) {
    groups_ = depthwise_ ? 1 : d_[kGroups];
    channels_ = d_[kC] / groups_, outputs_ = d_[kO] / groups_;
    pixels_ = d_[kOutputH] * d_[kOutputW];
    parts_ = mec_ ? d_[kKernelH] : 1;
    width_ = d_[kKernelH] * d_[kKernelW] * channels_ / parts_;
    reach_ = (d_[kOutputH] - 1) * d_[kStrideH] + (d_[kKernelH] - 1) * d_[kDilationH] + 1;
    implementation = mec_ ? "mec:" : "im2col:";
    if (depthwise_) {
      packed_bytes = 4 * width_ * parts_;
      implementation += "loop";
    } else {
      multiply();
    }
  }

  // Bytes of memory that a call needs beside its arrays.
  int64_t scratch_bytes() const {
    return matrix_bytes() + product_bytes() + aligned(scratch_.get_size());
  }

  // Moves the kernel into the layout of the products.
  void pack(dnnl::stream& stream, const char* kernel, char* packed) const {
    if (depthwise_) return static_cast<void>(std::memcpy(packed, kernel, packed_bytes));
    memory::desc plain({width_, outputs_}, type_, memory::dims{d_[kO], 1});
    for (int64_t i = 0; i < groups_ * parts_; ++i) {
      int64_t group = i / parts_, part = i % parts_;
      int64_t at = 4 * (part * width_ * d_[kO] + group * outputs_);
      memory from(plain, cpu(), const_cast<char*>(kernel) + at);
      memory to(kernel_, cpu(), packed + i * aligned(kernel_.get_size()));
      dnnl::reorder(from, to).execute(stream, from, to);
    }
  }

  // Computes output = bounded(convolution + bias + added), where `added` may be null.
  void run(dnnl::stream& stream, const float* input, char* packed, const float* bias,
           const float* added, float* output, float low, float high, char* scratch) const {
    float* matrix = reinterpret_cast<float*>(scratch);
    float* product = reinterpret_cast<float*>(scratch + matrix_bytes());
    memory own(scratch_, cpu(), scratch + matrix_bytes() + product_bytes());
    for (int64_t n = 0; n < d_[kN]; ++n) {
      const float* image = input + n * d_[kH] * d_[kW] * d_[kC];
      int64_t first = n * pixels_ * d_[kO];
      const float* more = added ? added + first : nullptr;
      for (int64_t group = 0; group < groups_; ++group) {
        if (!view_) unfold(image + group * channels_, matrix);
        float* made = groups_ == 1 ? output + first : product;
        if (depthwise_)
          loop(matrix, reinterpret_cast<float*>(packed), made);
        else
          multiplied(stream, view_ ? const_cast<float*>(image) : matrix,
                     packed + group * parts_ * aligned(kernel_.get_size()), made, own);
        finish(made, bias, more, output + first, group * outputs_, low, high);
      }
    }
  }

 private:
  Descriptor d_;
  bool mec_, depthwise_, view_;  // view_: the image is its own matrix
  // Groups that come one after another; channels and outputs of one of them; pixels of an output;
  // products that are added up; numbers in a row of the matrix; rows that windows reach.
  int64_t groups_, channels_, outputs_, pixels_, parts_, width_, reach_;
  memory::data_type type_ = memory::data_type::f32;
  memory::desc matrix_, kernel_, product_, scratch_;
  dnnl::matmul first_, next_;  // next_ adds to what is there

  static int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

  bool is_depthwise() const { return d_[kGroups] > 1 && d_[kC] == d_[kGroups] && d_[kO] == d_[kC]; }

  bool is_view() const {
    auto all = [&](int64_t from, int64_t to, int64_t value) {
      return std::all_of(d_.begin() + from, d_.begin() + to, [&](int64_t f) { return f == value; });
    };
    return d_[kKernelH] == 1 && d_[kKernelW] == 1 && d_[kGroups] == 1 && all(kStrideH, kTop, 1) &&
           all(kTop, kDilationH, 0) && d_[kH] == d_[kOutputH] && d_[kW] == d_[kOutputW];
  }

  int64_t rows() const { return mec_ ? reach_ : d_[kOutputH]; }

  int64_t matrix_bytes() const {
    return view_ ? 0 : aligned(4 * rows() * d_[kOutputW] * width_);
  }

  int64_t product_bytes() const { return groups_ == 1 ? 0 : aligned(4 * pixels_ * outputs_); }

  void multiply() {
    matrix_ = {{pixels_, width_}, type_, memory::format_tag::ab};
    product_ = {{pixels_, outputs_}, type_, memory::format_tag::ab};
    kernel_ = {{width_, outputs_}, type_, memory::format_tag::any};
    dnnl::primitive_attr plain, adds;
    dnnl::post_ops sum;
    sum.append_sum();
    adds.set_post_ops(sum);
    plain.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    adds.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    dnnl::matmul::primitive_desc first(cpu(), matrix_, kernel_, product_, plain);
    kernel_ = first.weights_desc(), scratch_ = first.scratchpad_desc();
    first_ = dnnl::matmul(first);
    implementation += first.impl_info_str();
    packed_bytes = groups_ * parts_ * aligned(kernel_.get_size());
    if (parts_ == 1) return;
    dnnl::matmul::primitive_desc next(cpu(), matrix_, kernel_, product_, adds);
    next_ = dnnl::matmul(next);
    if (next.scratchpad_desc().get_size() > scratch_.get_size()) scratch_ = next.scratchpad_desc();
  }

  // Returns where the rows of the matrix begin that a row of the kernel meets.
  int64_t start(int64_t part) const {
    int64_t row = mec_ ? part * d_[kDilationH] : 0;
    return (place(row)) * d_[kOutputW] * width_;
  }

  // Returns where a row of the padded image lies: every so many rows are neighbours.
  int64_t place(int64_t row) const {
    int64_t stride = d_[kStrideH], before = 0;
    for (int64_t i = 0; i < row % stride; ++i) before += (reach_ - i + stride - 1) / stride;
    return before + row / stride;
  }

  // Copies windows of one image, whose channels of other groups are passed over.
  void unfold(const float* image, float* matrix) const {
    int64_t taps = mec_ ? 1 : d_[kKernelH];
#pragma omp parallel for
    for (int64_t row = 0; row < rows(); ++row) {
      float* to = matrix + (mec_ ? place(row) : row) * d_[kOutputW] * width_;
      int64_t top = (mec_ ? row : row * d_[kStrideH]) - d_[kTop];
      for (int64_t x = 0; x < d_[kOutputW]; ++x)
        for (int64_t i = 0; i < taps; ++i, to += d_[kKernelW] * channels_)
          copy(image, top + i * d_[kDilationH], x * d_[kStrideW] - d_[kLeft], to);
    }
  }

  // Copies what one row of the kernel meets, from (y, left) on; zeros where there is no image.
  void copy(const float* image, int64_t y, int64_t left, float* to) const {
    int64_t width = d_[kKernelW] * channels_;
    const float* row = image + y * d_[kW] * d_[kC];
    if (y < 0 || y >= d_[kH]) {
      std::memset(to, 0, width * 4);
    } else if (channels_ == d_[kC] && d_[kDilationW] == 1 && left >= 0 &&
               left + d_[kKernelW] <= d_[kW]) {
      std::memcpy(to, row + left * d_[kC], width * 4);
    } else {
      for (int64_t j = 0; j < d_[kKernelW]; ++j, to += channels_, left += d_[kDilationW])
        if (left < 0 || left >= d_[kW])
          std::memset(to, 0, channels_ * 4);
        else
          std::memcpy(to, row + left * d_[kC], channels_ * 4);
    }
  }

  void multiplied(dnnl::stream& stream, float* matrix, char* packed, float* product,
                  memory& own) const {
    for (int64_t part = 0; part < parts_; ++part)
      (part ? next_ : first_)
          .execute(stream,
                   {{DNNL_ARG_SRC, memory(matrix_, cpu(), matrix + start(part))},
                    {DNNL_ARG_WEIGHTS,
                     memory(kernel_, cpu(), packed + part * aligned(kernel_.get_size()))},
                    {DNNL_ARG_DST, memory(product_, cpu(), product)},
                    {DNNL_ARG_SCRATCHPAD, own}});
    stream.wait();
  }

  // The product of a depthwise convolution.
  void loop(const float* matrix, const float* kernel, float* product) const {
    int64_t taps = width_ / channels_;
#pragma omp parallel for
    for (int64_t pixel = 0; pixel < pixels_; ++pixel) {
      float* to = product + pixel * channels_;
      std::memset(to, 0, channels_ * 4);
      for (int64_t part = 0; part < parts_; ++part)
        for (int64_t tap = 0; tap < taps; ++tap) {
          const float* from = matrix + start(part) + (pixel * taps + tap) * channels_;
          const float* by = kernel + (part * taps + tap) * channels_;
#pragma omp simd
          for (int64_t c = 0; c < channels_; ++c) to[c] += from[c] * by[c];
        }
    }
  }

  // Writes the outputs of one group from `first` on.
  void finish(const float* product, const float* bias, const float* added, float* output,
              int64_t first, float low, float high) const {
#pragma omp parallel for
    for (int64_t pixel = 0; pixel < pixels_; ++pixel) {
      const float* from = product + pixel * outputs_;
      float* to = output + pixel * d_[kO] + first;
#pragma omp simd
      for (int64_t o = 0; o < outputs_; ++o) to[o] = from[o] + bias[first + o];
      if (added) {
        const float* more = added + pixel * d_[kO] + first;
#pragma omp simd
        for (int64_t o = 0; o < outputs_; ++o) to[o] += more[o];
      }
#pragma omp simd
      for (int64_t o = 0; o < outputs_; ++o) to[o] = std::min(std::max(to[o], low), high);
    }
  }
};

}  // namespace architectures
