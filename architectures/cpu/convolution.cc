// Convolutions by oneDNN for XLA's CPU backend, called through XLA's foreign function interface.
//
// A convolution relates three arrays: input [N, H, W, C], kernel [KH, KW, C / groups, O] and output
// [N, OH, OW, O]. Given two of them, oneDNN computes the third: the output (forward), the
// gradient with respect to the input (backward data) or to the kernel (backward weights).
//
// All of it happens on one thread of ours, which owns OpenMP's team, the cache of primitives and
// the scratch memory; XLA's threads hand it their calls and sleep until they are done. So calls from
// many threads share one team (each caller would otherwise raise a team of its own), nothing
// needs a lock but the queue, and the team's size, hence every sum's order, is always the same.

#include <dnnl.hpp>
#include <omp.h>
#include <xmmintrin.h>

#include <array>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>

#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using dnnl::memory;
using dnnl::primitive_desc_base;

// What convolution.py packs, in this order. Padding: top, bottom, left, right. Dilation 1 is none.
enum Field {
  kRole, kBits, kN, kH, kW, kC, kKernelH, kKernelW, kO, kOutputH, kOutputW, kStrideH, kStrideW,
  kTop, kBottom, kLeft, kRight, kDilationH, kDilationW, kGroups, kFields
};
enum Role { kInput, kKernel, kOutput };  // which array is computed; the arrays' order everywhere
using Descriptor = std::array<int64_t, kFields>;

constexpr size_t kPlans = 1024;     // distinct convolutions kept; then the longest unused one goes
constexpr size_t kAlignment = 64;   // bytes: a cache line, the widest vector
constexpr size_t kAlone = 1 << 18;  // bytes that one thread moves sooner than a team wakes up

Descriptor checked(const int64_t* fields, size_t count) {
  Descriptor d;
  if (count != kFields) throw std::invalid_argument("a descriptor of another version");
  std::copy(fields, fields + count, d.begin());
  return d;
}

// One thread that runs what others hand in, first come first served. Never ends: it would have to
// outlive every thread of XLA's.
class Worker {
 public:
  void start(int threads) {
    std::lock_guard lock(mutex_);
    if (started_) return;
    started_ = true;
    std::thread([this, threads] { serve(threads); }).detach();
  }

  // Runs `job` there, waits, and passes on what it throws.
  void run(const std::function<void()>& job) {
    Task task{&job};
    std::unique_lock lock(mutex_);
    if (!started_) throw std::runtime_error("called before it was started");
    queue_.push_back(&task);
    arrived_.notify_one();
    task.finished.wait(lock, [&] { return task.done; });
    if (task.error) std::rethrow_exception(task.error);
  }

 private:
  struct Task {
    const std::function<void()>* job;
    std::condition_variable finished = {};
    bool done = false;
    std::exception_ptr error = nullptr;
  };

  void serve(int threads) {
    // As XLA's own threads do; OpenMP's threads inherit it. Subnormal numbers are slow.
    _mm_setcsr(_mm_getcsr() | 0x8040);  // flush to zero, denormals are zero
    if (threads > 0) omp_set_num_threads(threads);
    std::unique_lock lock(mutex_);
    for (;;) {
      arrived_.wait(lock, [&] { return !queue_.empty(); });
      Task* task = queue_.front();
      queue_.pop_front();
      lock.unlock();
      try {
        (*task->job)();
      } catch (...) {
        task->error = std::current_exception();
      }
      lock.lock();
      task->done = true;
      task->finished.notify_one();  // under the lock: the task dies when its owner wakes up
    }
  }

  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Task*> queue_;
  bool started_ = false;
};

// Memory that grows to the largest request and stays.
class Arena {
 public:
  char* at_least(size_t bytes) {
    if (bytes > size_) {
      std::free(data_);
      size_ = (bytes + kAlignment - 1) / kAlignment * kAlignment;
      data_ = static_cast<char*>(std::aligned_alloc(kAlignment, size_));
      if (!data_) {
        size_ = 0;
        throw std::bad_alloc();
      }
    }
    return data_;
  }

 private:
  char* data_ = nullptr;
  size_t size_ = 0;
};

dnnl::engine& cpu() {
  static auto* engine = new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return *engine;
}

// The arrays of a convolution as they lie in memory, row-major as XLA has them.
struct Layout {
  memory::desc input, kernel, output;

  explicit Layout(const Descriptor& d) {
    auto type = d[kBits] == 16 ? memory::data_type::bf16 : memory::data_type::f32;
    auto last = memory::format_tag::nhwc;  // of dimensions that oneDNN always names N, C, H, W
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

// A primitive for one descriptor, with the reorder of the kernel into oneDNN's layout or back.
struct Plan {
  Layout layout;
  memory::desc own_kernel, scratch;  // own_kernel: what oneDNN asked for
  std::string implementation;
  dnnl::primitive convolution;
  dnnl::reorder reorder;
  bool reorders = false, small = false;
  size_t kernel_bytes = 0;  // of own_kernel where it is not the caller's, rounded up
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
    reorders = own_kernel != layout.kernel;
    if (!reorders) return;
    kernel_bytes = (own_kernel.get_size() + kAlignment - 1) / kAlignment * kAlignment;
    bool back = d[kRole] == kKernel;
    Alone alone(small = kernel_bytes <= kAlone);
    reorder::primitive_desc moved(cpu(), back ? own_kernel : layout.kernel, cpu(),
                                  back ? layout.kernel : own_kernel);
    if (build) reorder = dnnl::reorder(moved);
  }

 private:
  void take(const primitive_desc_base& description, memory::desc kernel_layout) {
    own_kernel = kernel_layout;
    scratch = description.scratchpad_desc();
    implementation = description.impl_info_str();
  }
};

// Everything below runs on the worker alone.
class Convolutions {
 public:
  // Computes the array of the descriptor's role from the two others, once a replicate.
  void execute(const Descriptor& d, int64_t replicates, std::array<char*, 3> arrays,
               std::array<int64_t, 3> step) {
    Plan& plan = planned(d);
    char* kernel = arena_.at_least(plan.kernel_bytes + plan.scratch.get_size());
    memory scratch(plan.scratch, cpu(), kernel + plan.kernel_bytes);
    for (int64_t r = 0; r < replicates; ++r) {
      memory input(plan.layout.input, cpu(), arrays[0] + r * step[0]);
      memory given(plan.layout.kernel, cpu(), arrays[1] + r * step[1]);
      memory output(plan.layout.output, cpu(), arrays[2] + r * step[2]);
      memory own = plan.reorders ? memory(plan.own_kernel, cpu(), kernel) : given;
      bool back = d[kRole] == kKernel;
      if (plan.reorders && !back) move(plan, given, own);
      plan.convolution.execute(
          stream_, {{d[kRole] == kInput ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, input},
                    {back ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, own},
                    {d[kRole] == kOutput ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, output},
                    {DNNL_ARG_SCRATCHPAD, scratch}});
      if (plan.reorders && back) move(plan, own, given);
    }
    stream_.wait();
  }

 private:
  Plan& planned(const Descriptor& d) {
    auto found = plans_.find(d);
    if (found == plans_.end()) {
      if (plans_.size() >= kPlans) {
        auto oldest = plans_.begin();
        for (auto it = plans_.begin(); it != plans_.end(); ++it)
          if (it->second.used < oldest->second.used) oldest = it;
        plans_.erase(oldest);
      }
      found = plans_.emplace(d, Plan(d, true)).first;
    }
    found->second.used = ++clock_;
    return found->second;
  }

  void move(Plan& plan, memory& from, memory& to) {
    Alone alone(plan.small);
    plan.reorder.execute(stream_, from, to);
  }

  dnnl::stream stream_{cpu()};
  std::map<Descriptor, Plan> plans_;
  Arena arena_;
  uint64_t clock_ = 0;
};

Worker& worker() {
  static auto* worker = new Worker;
  return *worker;
}

Convolutions& convolutions() {
  static auto* all = new Convolutions;
  return *all;
}

// Elements of the three arrays: a wrong descriptor is an error, not a write past the end.
std::array<int64_t, 3> elements(const Descriptor& d) {
  return {d[kN] * d[kH] * d[kW] * d[kC],
          d[kKernelH] * d[kKernelW] * (d[kC] / d[kGroups]) * d[kO],
          d[kN] * d[kOutputH] * d[kOutputW] * d[kO]};
}

ffi::Error convolve(ffi::AnyBuffer first, ffi::AnyBuffer second, ffi::Result<ffi::AnyBuffer> result,
                    ffi::Span<const int64_t> descriptor, int64_t replicates,
                    ffi::Span<const int64_t> mapped) {
  try {
    Descriptor d = checked(descriptor.begin(), descriptor.size());
    auto type = d[kBits] == 16 ? ffi::DataType::BF16 : ffi::DataType::F32;
    std::array<int64_t, 3> size = elements(d);
    std::array<char*, 3> arrays;
    std::array<int64_t, 3> step;  // bytes from one replicate to the next
    int64_t given = 0;
    for (int64_t role = kInput; role <= kOutput; ++role) {
      bool missing = role == d[kRole];
      ffi::AnyBuffer buffer = missing ? *result : given++ == 0 ? first : second;
      bool moves = missing ? replicates > 1 : mapped[given - 1] != 0;
      if (buffer.element_type() != type ||
          static_cast<int64_t>(buffer.element_count()) != size[role] * (moves ? replicates : 1))
        return ffi::Error::InvalidArgument("an array is not what the descriptor says");
      arrays[role] = static_cast<char*>(buffer.untyped_data());
      step[role] = moves ? size[role] * d[kBits] / 8 : 0;
    }
    worker().run([&] { convolutions().execute(d, replicates, arrays, step); });
    return ffi::Error::Success();
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("oneDNN: ") + error.what());
  }
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(architectures_convolution, convolve,
                              ffi::Ffi::Bind()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<ffi::Span<const int64_t>>("descriptor")
                                  .Attr<int64_t>("replicates")
                                  .Attr<ffi::Span<const int64_t>>("mapped"));

// Starts the worker with a team of `threads` (0: OpenMP's own choice); once a process.
extern "C" void architectures_start(int threads) { worker().start(threads); }

// Writes what bits depend on: oneDNN's version and the size of its team.
extern "C" void architectures_about(char* text, int64_t bytes) {
  int threads = 0;
  worker().run([&] { threads = omp_get_max_threads(); });
  const dnnl_version_t* v = dnnl_version();
  std::snprintf(text, bytes, "oneDNN %d.%d.%d on %d threads", v->major, v->minor, v->patch, threads);
}

// Writes the name of oneDNN's implementation; 0 if there is none that is faster than a plain loop.
extern "C" int architectures_implementation(const int64_t* fields, int64_t count, char* name,
                                            int64_t bytes) {
  try {
    Descriptor d = checked(fields, count);
    std::string found;
    worker().run([&] { found = Plan(d, false).implementation; });
    std::strncpy(name, found.c_str(), bytes - 1);
    name[bytes - 1] = 0;
    return found.rfind("ref", 0) != 0;
  } catch (const std::exception& error) {
    std::strncpy(name, error.what(), bytes - 1);
    name[bytes - 1] = 0;
    return 0;
  }
}
