// Convolutions that oneDNN computes for XLA's CPU backend, which calls them through XLA's foreign
// function interface.
//
// A convolution relates three arrays: input [N, H, W, C], kernel [KH, KW, C / groups, O] and output
// [N, OH, OW, O]. Given two of them, oneDNN computes the third: the output (forward), the
// gradient with respect to the input (backward data) or to the kernel (backward weights).
//
// One thread of ours does all of this. It owns OpenMP's team, the cache of primitives and the
// scratch memory; XLA's threads hand it their calls and sleep until the calls are done. So calls
// from many threads share one team (otherwise each caller would start a team of its own), only the
// queue needs a lock, and the team always has the same size, so every sum has the same order.

#include <dnnl.hpp>
#include <omp.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "chain.h"
#include "instructions.h"
#include "integers.h"
#include "plan.h"
#include "product.h"
#include "sparse.h"
#include "worker.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using namespace architectures;

constexpr size_t kPlans = 1024;  // plans kept; beyond them the least recently used one is dropped
constexpr size_t kChains = 64;   // chains kept, likewise

// While it lives, subnormal numbers are zeros on this thread, as they are on the worker.
class Flushed {
 public:
  Flushed() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~Flushed() { _mm_setcsr(before_); }

 private:
  unsigned before_;
};

// Memory that grows to the largest request and is given back with its owner.
class Arena {
 public:
  ~Arena() { std::free(data_); }
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

// Removes the entry that was used before all others.
template <typename Map, typename Used>
void forget_oldest(Map& map, Used used) {
  auto oldest = map.begin();
  for (auto it = map.begin(); it != map.end(); ++it)
    if (used(it->second) < used(oldest->second)) oldest = it;
  map.erase(oldest);
}

// Everything below runs on the worker alone.
class Convolutions {
 public:
  // Computes the array in the descriptor's role from the two others, once for each replicate.
  void execute(const Descriptor& d, int64_t replicates, std::array<char*, 3> arrays,
               std::array<int64_t, 3> step) {
    Plan& plan = planned(d);
    char* kernel = arena_.at_least(plan.kernel_bytes + plan.scratch.get_size());
    memory scratch(plan.scratch, cpu(), kernel + plan.kernel_bytes);
    for (int64_t r = 0; r < replicates; ++r) {
      memory input(plan.layout.input, cpu(), arrays[0] + r * step[0]);
      memory given(plan.layout.kernel, cpu(), arrays[1] + r * step[1]);
      memory output(plan.layout.output, cpu(), arrays[2] + r * step[2]);
      memory reordered = plan.reorders ? memory(plan.reordered, cpu(), kernel) : given;
      bool back = d[kRole] == kKernel;
      if (plan.reorders && !back) move(plan, given, reordered);
      plan.convolution.execute(
          stream_, {{d[kRole] == kInput ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, input},
                    {back ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, reordered},
                    {d[kRole] == kOutput ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, output},
                    {DNNL_ARG_SCRATCHPAD, scratch}});
      if (plan.reorders && back) move(plan, reordered, given);
    }
    stream_.wait();
  }

 private:
  Plan& planned(const Descriptor& d) {
    auto entry = plans_.find(d);
    if (entry == plans_.end()) {
      if (plans_.size() >= kPlans) forget_oldest(plans_, [](const Plan& p) { return p.used; });
      entry = plans_.emplace(d, Plan(d, true)).first;
    }
    entry->second.used = ++clock_;
    return entry->second;
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

// The products that have been met, on the worker too.
class Products {
 public:
  ProductPlan& planned(const ProductDescriptor& d) {
    auto entry = plans_.find(d);
    if (entry == plans_.end()) {
      if (plans_.size() >= kPlans)
        forget_oldest(plans_, [](const ProductPlan& p) { return p.used; });
      entry = plans_.emplace(d, ProductPlan(d)).first;
    }
    entry->second.used = ++clock_;
    return entry->second;
  }

  void execute(const ProductDescriptor& d, char* left, char* right, char* result) {
    ProductPlan& plan = planned(d);
    char* scratch = arena_.at_least(plan.scratch.get_size());
    plan.product.execute(stream_, {{DNNL_ARG_SRC, memory(plan.left, cpu(), left)},
                                   {DNNL_ARG_WEIGHTS, memory(plan.right, cpu(), right)},
                                   {DNNL_ARG_DST, memory(plan.result, cpu(), result)},
                                   {DNNL_ARG_SCRATCHPAD, memory(plan.scratch, cpu(), scratch)}});
    stream_.wait();
  }

 private:
  dnnl::stream stream_{cpu()};
  std::map<ProductDescriptor, ProductPlan> plans_;
  Arena arena_;
  uint64_t clock_ = 0;
};

// The chains that have been met. They are made on the worker, and those that are not light run there.
class Chains {
 public:
  // Returns a chain, which is made if it is new; null if it is new and this is not the worker.
  std::shared_ptr<Chain> planned(const int64_t* fields, size_t count, bool is_worker) {
    std::vector<int64_t> key(fields, fields + count);
    {
      std::lock_guard lock(mutex_);
      if (auto entry = chains_.find(key); entry != chains_.end()) {
        entry->second.used = ++clock_;
        return entry->second.chain;
      }
    }
    if (!is_worker) return nullptr;
    auto made = std::make_shared<Chain>(fields, count);
    std::lock_guard lock(mutex_);
    if (chains_.size() >= kChains) forget_oldest(chains_, [](const Kept& k) { return k.used; });
    chains_.emplace(std::move(key), Kept{made, ++clock_});
    return made;
  }

  void pack(Chain& chain, const std::vector<char*>& weights, char* packed) {
    chain.pack(stream_, weights, packed);
  }

  void run(Chain& chain, char* packed, const std::vector<char*>& given,
           const std::vector<char*>& results) {
    chain.run(&stream_, packed, given, results, arena_.at_least(chain.arena_bytes()));
  }

 private:
  dnnl::stream stream_{cpu()};
  struct Kept {
    std::shared_ptr<Chain> chain;
    uint64_t used = 0;
  };

  std::mutex mutex_;
  std::map<std::vector<int64_t>, Kept> chains_;
  Arena arena_;
  uint64_t clock_ = 0;
};

// The networks of integers that have been met, on the worker too.
class IntegerNetworks {
 public:
  integers::Network& planned(const int64_t* fields, size_t count) {
    std::vector<int64_t> key(fields, fields + count);
    auto entry = networks_.find(key);
    if (entry == networks_.end()) {
      if (networks_.size() >= kChains)
        forget_oldest(networks_, [](const Kept& kept) { return kept.used; });
      Kept made{std::make_unique<integers::Network>(fields, count)};
      entry = networks_.emplace(std::move(key), std::move(made)).first;
    }
    entry->second.used = ++clock_;
    return *entry->second.network;
  }

  char* arena(int64_t bytes) { return arena_.at_least(bytes); }

 private:
  struct Kept {
    std::unique_ptr<integers::Network> network;
    uint64_t used = 0;
  };

  std::map<std::vector<int64_t>, Kept> networks_;
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

Products& products() {
  static auto* all = new Products;
  return *all;
}

Chains& chains() {
  static auto* all = new Chains;
  return *all;
}

IntegerNetworks& integer_networks() {
  static auto* all = new IntegerNetworks;
  return *all;
}

// Returns how many elements the three arrays have, so that a wrong descriptor is an error instead
// of a write past the end.
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

// Returns the data of all arrays but the first few, each of which must have so many bytes.
template <typename Buffers, typename Bytes>
std::vector<char*> data(Buffers& buffers, size_t first, const std::vector<Bytes>& bytes) {
  if (buffers.size() != first + bytes.size())
    throw std::invalid_argument("not as many arrays as a chain has");
  std::vector<char*> all;
  for (size_t i = 0; i < bytes.size(); ++i) {
    auto buffer = buffers.template get<ffi::AnyBuffer>(first + i);
    if (!buffer.has_value()) throw std::invalid_argument("no array");
    ffi::AnyBuffer array = [&] {
      if constexpr (std::is_same_v<Buffers, ffi::RemainingRets>)
        return **buffer;
      else
        return *buffer;
    }();
    if (static_cast<int64_t>(array.size_bytes()) != static_cast<int64_t>(bytes[i]))
      throw std::invalid_argument("an array is not what the chain says");
    all.push_back(static_cast<char*>(array.untyped_data()));
  }
  return all;
}

ffi::Error multiply(ffi::AnyBuffer left, ffi::AnyBuffer right, ffi::Result<ffi::AnyBuffer> result,
                    ffi::Span<const int64_t> descriptor) {
  try {
    ProductDescriptor d = checked_product(descriptor.begin(), descriptor.size());
    auto fits = [&](ffi::AnyBuffer array, int64_t rows, int64_t columns, int64_t bits) {
      auto type = bits == 16 ? ffi::DataType::BF16 : ffi::DataType::F32;
      return array.element_type() == type &&
             static_cast<int64_t>(array.element_count()) == d[kProductPairs] * rows * columns;
    };
    if (!fits(left, d[kProductRows], d[kProductInner], d[kBitsIn]) ||
        !fits(right, d[kProductInner], d[kProductColumns], d[kBitsIn]) ||
        !fits(*result, d[kProductRows], d[kProductColumns], d[kBitsOut]))
      return ffi::Error::InvalidArgument("an array is not what the descriptor says");
    worker().run([&] {
      products().execute(d, static_cast<char*>(left.untyped_data()),
                         static_cast<char*>(right.untyped_data()),
                         static_cast<char*>(result->untyped_data()));
    });
    return ffi::Error::Success();
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("oneDNN: ") + error.what());
  }
}

ffi::Error pack(ffi::RemainingArgs weights, ffi::Result<ffi::AnyBuffer> packed,
                ffi::Span<const int64_t> program) {
  try {
    worker().run([&] {
      auto made = chains().planned(program.begin(), program.size(), true);
      Chain& chain = *made;
      if (static_cast<int64_t>(packed->size_bytes()) != chain.packed_bytes)
        throw std::invalid_argument("packed by another version");
      chains().pack(chain, data(weights, 0, chain.weights()),
                    static_cast<char*>(packed->untyped_data()));
    });
    return ffi::Error::Success();
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("oneDNN: ") + error.what());
  }
}

ffi::Error run_chain(ffi::RemainingArgs arrays, ffi::RemainingRets results,
                     ffi::Span<const int64_t> program) {
  try {
    auto run = [&](Chain& chain, const auto& by) {
      std::vector<char*> packed = data(arrays, 0, chain.arrays());
      std::vector<char*> given(packed.begin() + 1, packed.end());
      by(packed[0], given, data(results, 0, chain.results()));
    };
    auto known = chains().planned(program.begin(), program.size(), false);
    if (known && known->light()) {
      static thread_local Arena arena;
      Flushed flushed;
      run(*known, [&](char* packed, const auto& given, const auto& made) {
        known->run(nullptr, packed, given, made, arena.at_least(known->arena_bytes()));
      });
      return ffi::Error::Success();
    }
    worker().run([&] {
      auto chain = known ? known : chains().planned(program.begin(), program.size(), true);
      run(*chain, [&](char* packed, const auto& given, const auto& made) {
        chains().run(*chain, packed, given, made);
      });
    });
    return ffi::Error::Success();
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("oneDNN: ") + error.what());
  }
}

ffi::Error run_integers(ffi::RemainingArgs arrays, ffi::RemainingRets results,
                        ffi::Span<const int64_t> program, int64_t batch) {
  try {
    worker().run([&] {
      auto& networks = integer_networks();
      integers::Network& network = networks.planned(program.begin(), program.size());
      std::vector<int64_t> bytes = {network.packed_bytes()}, made;
      for (int64_t v = 0; v < network.given(); ++v)
        bytes.push_back(batch * network.values()[v].bytes());
      for (int64_t v : network.results()) made.push_back(batch * network.values()[v].bytes());
      std::vector<char*> given = data(arrays, 0, bytes);
      network.run(given[0], {given.begin() + 1, given.end()}, data(results, 0, made), batch,
                  [&](int64_t size) { return networks.arena(size); });
    });
    return ffi::Error::Success();
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("integers: ") + error.what());
  }
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(architectures_pack, pack,
                              ffi::Ffi::Bind()
                                  .RemainingArgs()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<ffi::Span<const int64_t>>("program"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(architectures_chain, run_chain,
                              ffi::Ffi::Bind()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<ffi::Span<const int64_t>>("program"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(architectures_integers, run_integers,
                              ffi::Ffi::Bind()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<ffi::Span<const int64_t>>("program")
                                  .Attr<int64_t>("batch"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(architectures_convolution, convolve,
                              ffi::Ffi::Bind()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<ffi::Span<const int64_t>>("descriptor")
                                  .Attr<int64_t>("replicates")
                                  .Attr<ffi::Span<const int64_t>>("mapped"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(architectures_product, multiply,
                              ffi::Ffi::Bind()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<ffi::Span<const int64_t>>("descriptor"));

// Returns the form in which this CPU multiplies integers fastest, see integers_kernels.h.
extern "C" int architectures_integer_form() { return integers::form(); }

// Plans a network of integers as a call does, and returns the bytes of an image, plus one; −1 if it
// is refused.
extern "C" int64_t architectures_integers_planned(const int64_t* fields, int64_t count) {
  try {
    int64_t bytes = 0;
    worker().run([&] { bytes = integer_networks().planned(fields, count).image_bytes() + 1; });
    return bytes;
  } catch (const std::exception&) {
    return -1;
  }
}

// The functions below write an answer of at most `bytes` bytes; if they return a negative number,
// the answer says what went wrong.

// Writes what the bits of results depend on: oneDNN's version, the instructions that it uses, and
// the size of its team.
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

// Returns whether oneDNN's instructions here multiply numbers of bfloat16; writes nothing.
extern "C" int architectures_multiply_bfloat16(char*, int64_t) { return multiply_bfloat16(); }

// Writes the name of oneDNN's implementation and returns 1, or 0 if it is no faster than a plain
// loop; if there is none at all, writes why and returns 0.
extern "C" int architectures_implementation(char* answer, int64_t bytes, const int64_t* fields,
                                            int64_t count) {
  try {
    Descriptor d = checked(fields, count);
    std::string name;
    worker().run([&] { name = Plan(d, false).implementation; });
    std::snprintf(answer, bytes, "%s", name.c_str());
    return name.rfind("ref", 0) != 0;
  } catch (const std::exception& error) {
    std::snprintf(answer, bytes, "%s", error.what());
    // a runtime_error says that there is no worker; anything else is oneDNN's refusal
    return dynamic_cast<const std::runtime_error*>(&error) ? -1 : 0;
  }
}

// As `architectures_implementation`, of a product.
extern "C" int architectures_product_by(char* answer, int64_t bytes, const int64_t* fields,
                                        int64_t count) {
  try {
    ProductDescriptor d = checked_product(fields, count);
    std::string name;
    worker().run([&] { name = products().planned(d).implementation; });
    std::snprintf(answer, bytes, "%s", name.c_str());
    return name.rfind("ref", 0) != 0;
  } catch (const std::exception& error) {
    std::snprintf(answer, bytes, "%s", error.what());
    return dynamic_cast<const std::runtime_error*>(&error) ? -1 : 0;
  }
}

// Writes the names of the implementations of a chain's nodes, one on each line, and returns how many
// bytes its packed weights take.
extern "C" int64_t architectures_packed(char* answer, int64_t bytes, const int64_t* fields,
                                        int64_t count) {
  try {
    int64_t packed = 0;
    worker().run([&] {
      auto chain = chains().planned(fields, count, true);
      packed = chain->packed_bytes;
      std::snprintf(answer, bytes, "%s", chain->implementations().c_str());
    });
    return packed;
  } catch (const std::exception& error) {
    std::snprintf(answer, bytes, "%s", error.what());
    return -1;
  }
}

// Writes how many bytes of memory each of a chain's nodes needs beside its values, one on each line,
// and returns how many nodes there are.
extern "C" int64_t architectures_scratch(char* answer, int64_t bytes, const int64_t* fields,
                                         int64_t count) {
  try {
    int64_t nodes = 0;
    worker().run([&] {
      auto chain = chains().planned(fields, count, true);
      nodes = chain->program.nodes.size();
      std::snprintf(answer, bytes, "%s", chain->scratches().c_str());
    });
    return nodes;
  } catch (const std::exception& error) {
    std::snprintf(answer, bytes, "%s", error.what());
    return -1;
  }
}

// Returns how much is stored of a kernel in a sparse layer's form, whose fields say nothing of it yet.
extern "C" int64_t architectures_stored(char* answer, int64_t bytes, const int64_t* fields,
                                        int64_t count, const float* kernel) {
  try {
    if (count != kSparseFields) throw std::invalid_argument("not the fields of a sparse layer");
    return Sparse(fields).stored_of(kernel, nullptr);
  } catch (const std::exception& error) {
    std::snprintf(answer, bytes, "%s", error.what());
    return -1;
  }
}
