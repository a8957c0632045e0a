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

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <new>
#include <string>

#include "instructions.h"
#include "plan.h"
#include "worker.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using namespace architectures;

constexpr size_t kPlans = 1024;  // distinct convolutions kept; then the longest unused one goes

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
    if (mapped.size() != 2 || replicates < 1)
      return ffi::Error::InvalidArgument("not what goes with a descriptor");
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

// Both write an answer of at most `bytes`; below 0, it says what went wrong.

// Writes what bits depend on: oneDNN's version, the instructions it uses, the size of its team.
extern "C" int architectures_about(char* answer, int64_t bytes) {
  try {
    int threads = 0;
    worker().run([&] { threads = omp_get_max_threads(); });
    const dnnl_version_t* v = dnnl_version();
    std::snprintf(answer, bytes, "oneDNN %d.%d.%d (%s) on %d threads", v->major, v->minor, v->patch,
                  instructions().c_str(), threads);
    return 0;
  } catch (const std::exception& error) {
    std::snprintf(answer, bytes, "%s", error.what());
    return -1;
  }
}

// Writes the name of oneDNN's implementation; 0 if there is none that is faster than a plain loop
// (or none at all: then why).
extern "C" int architectures_implementation(char* answer, int64_t bytes, const int64_t* fields,
                                            int64_t count) {
  try {
    Descriptor d = checked(fields, count);
    std::string found;
    worker().run([&] { found = Plan(d, false).implementation; });
    std::snprintf(answer, bytes, "%s", found.c_str());
    return found.rfind("ref", 0) != 0;
  } catch (const std::exception& error) {
    std::snprintf(answer, bytes, "%s", error.what());
    return dynamic_cast<const std::runtime_error*>(&error) ? -1 : 0;  // no worker; oneDNN's refusal
  }
}
