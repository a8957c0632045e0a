// The description of a convolution, and the oneDNN primitive that computes it.

#pragma once

#include <dnnl.hpp>
#include <omp.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace architectures {

using dnnl::memory;

// The fields that `Geometry.descriptor` packs, in this order. Padding is top, bottom, left, right;
// a dilation of 1 is none.
enum Field {
  kRole, kBits, kN, kH, kW, kC, kKernelH, kKernelW, kO, kOutputH, kOutputW, kStrideH, kStrideW,
  kTop, kBottom, kLeft, kRight, kDilationH, kDilationW, kGroups, kFields
};
enum Role { kInput, kKernel, kOutput };  // the array to compute; also the order of arrays
using Descriptor = std::array<int64_t, kFields>;

constexpr size_t kAlignment = 64;   // bytes of a cache line and of the widest vector
constexpr size_t kAlone = 1 << 18;  // bytes that one thread has moved before a team has woken up

inline Descriptor checked(const int64_t* fields, size_t count) {
  Descriptor d;
  if (count != kFields) throw std::invalid_argument("a descriptor of another version");
  std::copy(fields, fields + count, d.begin());
  auto positive = [&](int from, int to) {
    return std::all_of(d.begin() + from, d.begin() + to, [](int64_t field) { return field > 0; });
  };
  bool known = d[kRole] >= kInput && d[kRole] <= kOutput && (d[kBits] == 16 || d[kBits] == 32);
  if (!known || !positive(kN, kTop) || !positive(kDilationH, kFields))
    throw std::invalid_argument("a descriptor of no convolution");
  return d;
}

inline dnnl::engine& cpu() {
  static auto* engine = new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return *engine;
}

// The arrays of a convolution as they lie in memory: row-major, as in XLA.
struct Layout {
  memory::desc input, kernel, output;

  explicit Layout(const Descriptor& d) {
    auto type = d[kBits] == 16 ? memory::data_type::bf16 : memory::data_type::f32;
    auto last = memory::format_tag::nhwc;  // channels last; dims are always N, C, H, W to oneDNN
    input = {{d[kN], d[kC], d[kH], d[kW]}, type, last};
    output = {{d[kN], d[kO], d[kOutputH], d[kOutputW]}, type, last};
    int64_t g = d[kGroups], o = d[kO] / g, i = d[kC] / g, h = d[kKernelH], w = d[kKernelW];
    memory::dims row_major = {1, w * i * d[kO], i * d[kO], d[kO]};  // O, H, W, I of [H, W, I, O]
    memory::dims strides = {row_major[0], row_major[3], row_major[1], row_major[2]};
    memory::dims dims = {o, i, h, w};
    if (g > 1) {
      dims.insert(dims.begin(), g);
      strides.insert(strides.begin(), o);
    }
    kernel = {dims, type, strides};
  }
};

// While it lives, oneDNN computes on this thread alone.
class Alone {
 public:
  explicit Alone(bool alone) : team_(omp_get_max_threads()) {
    if (alone) omp_set_num_threads(1);
  }
  ~Alone() { omp_set_num_threads(team_); }

 private:
  int team_;
};

// A primitive for one descriptor, and the reorder of the kernel into oneDNN's layout or back.
struct Plan {
  Layout layout;
  memory::desc reordered, scratch;  // reordered: the kernel in the layout that oneDNN asked for
  std::string implementation;
  dnnl::primitive convolution;
  dnnl::reorder reorder;
  bool reorders = false, small = false;
  size_t kernel_bytes = 0;  // of the reordered kernel, rounded up; 0 if it is the caller's as it is
  uint64_t used = 0;

  explicit Plan(const Descriptor& d, bool build) : layout(d) {
    using namespace dnnl;
    auto direct = algorithm::convolution_direct;
    memory::desc free(layout.kernel.get_dims(), layout.kernel.get_data_type(),
                      memory::format_tag::any);
    memory::dims strides = {d[kStrideH], d[kStrideW]}, before = {d[kTop], d[kLeft]};
    memory::dims after = {d[kBottom], d[kRight]};
    memory::dims dilation = {d[kDilationH] - 1, d[kDilationW] - 1};
    primitive_attr attributes;
    attributes.set_scratchpad_mode(scratchpad_mode::user);

    convolution_forward::primitive_desc forward(
        cpu(), prop_kind::forward_training, direct, layout.input, free, layout.output, strides,
        dilation, before, after, attributes);
    if (d[kRole] == kOutput) {
      take(forward, forward.weights_desc());
      if (build) convolution = convolution_forward(forward);
    } else if (d[kRole] == kInput) {
      convolution_backward_data::primitive_desc backward(
          cpu(), direct, layout.input, free, layout.output, strides, dilation, before, after,
          forward, attributes);
      take(backward, backward.weights_desc());
      if (build) convolution = convolution_backward_data(backward);
    } else {
      convolution_backward_weights::primitive_desc backward(
          cpu(), direct, layout.input, free, layout.output, strides, dilation, before, after,
          forward, attributes);
      take(backward, backward.diff_weights_desc());
      if (build) convolution = convolution_backward_weights(backward);
    }
    reorders = reordered != layout.kernel;
    if (!reorders) return;
    kernel_bytes = (reordered.get_size() + kAlignment - 1) / kAlignment * kAlignment;
    bool back = d[kRole] == kKernel;
    Alone alone(small = kernel_bytes <= kAlone);
    reorder::primitive_desc moved(cpu(), back ? reordered : layout.kernel, cpu(),
                                  back ? layout.kernel : reordered);
    if (build) reorder = dnnl::reorder(moved);
  }

 private:
  void take(const dnnl::primitive_desc_base& description, memory::desc kernel_layout) {
    reordered = kernel_layout;
    scratch = description.scratchpad_desc();
    implementation = description.impl_info_str();
  }
};

}  // namespace architectures
