// A chain: layers of a network in evaluation that one call computes, each by one oneDNN primitive
// with what follows it (BatchNorm folded into the kernel, a residual addition, bounds).

#pragma once

#include <dnnl.hpp>
#include <omp.h>
#include <xmmintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <unordered_map>
#include <vector>

#include "plain.h"
#include "plan.h"
#include "sparse.h"
#include "unfold.h"

namespace architectures {

// What `chain.py` packs: the number of values; of each its four sizes; the number of values that
// are given, which come first; the number of results, and which values they are; the nodes. A node
// is its length, its kind, its result, the number of its inputs, these inputs, then what the kind
// asks for. Every node but kConcat ends with its lower and upper bound, as the bits of a double.
// A convolution may have its form (see unfold.h) before these.
enum Kind {
  kConvolve = 1,
  kDense,
  kAffine,
  kAdd,
  kConcat,
  kShortcut,
  kTotal,
  kMaxPool,
  kSumPool,
  kSparse,
};

constexpr double kInfinite = 1e300;  // and whatever is beyond
constexpr float kSubnormal = 1e-40f;
constexpr int64_t kLight = 48 << 10;  // cycles below which a chain is not handed to the worker

// While it lives, subnormal numbers are what they are on this thread.
class Subnormals {
 public:
  Subnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ & ~0x8040u); }
  ~Subnormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
};

inline int64_t rounded(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

struct Node {
  Kind kind;
  int64_t result;
  std::vector<int64_t> inputs, fields;

  double bound(int which) const {
    double value;
    std::memcpy(&value, &fields[fields.size() - 2 + which], sizeof value);
    return value;
  }
  Bounds bounds() const {
    double low = bound(0), high = bound(1);
    return {low > -kInfinite ? static_cast<float>(low) : -INFINITY,
            high < kInfinite ? static_cast<float>(high) : INFINITY};
  }
  int weights() const { return kind <= kAffine || kind == kSparse ? 2 : 0; }
};

struct Value {
  std::array<int64_t, 4> sizes;  // N, H, W, C
  int64_t offset = -1;           // in the arena; -1: the caller's
  int64_t count() const { return sizes[0] * sizes[1] * sizes[2] * sizes[3]; }
};

struct Program {
  std::vector<Value> values;
  int64_t given;
  std::vector<int64_t> results;
  std::vector<Node> nodes;

  Program(const int64_t* at, size_t count) {
    const int64_t* end = at + count;
    auto next = [&] {
      if (at == end) throw std::invalid_argument("a chain that is cut off");
      return *at++;
    };
    auto value = [&] {
      int64_t index = next();
      if (index < 0 || index >= static_cast<int64_t>(values.size()))
        throw std::invalid_argument("a chain of values that it lacks");
      return index;
    };
    values.resize(next());
    for (Value& v : values)
      for (int64_t& size : v.sizes) size = next();
    given = next();
    if (given < 0 || given > static_cast<int64_t>(values.size()))
      throw std::invalid_argument("a chain of values that it lacks");
    results.resize(next());
    for (int64_t& result : results) result = value();
    std::vector<bool> made(values.size());
    std::fill_n(made.begin(), given, true);
    while (at != end) {
      const int64_t* stop = at + next();
      if (stop > end || stop <= at) throw std::invalid_argument("a node that is cut off");
      Node node;
      node.kind = static_cast<Kind>(next());
      node.result = value();
      node.inputs.resize(next());
      for (int64_t& input : node.inputs) input = value();
      while (at != stop) node.fields.push_back(next());
      for (int64_t input : node.inputs)
        if (!made[input]) throw std::invalid_argument("a node that comes before its inputs");
      if (made[node.result]) throw std::invalid_argument("a value that is made twice");
      made[node.result] = true;
      nodes.push_back(std::move(node));
    }
    for (int64_t result : results)
      if (result < given || !made[result] || std::count(results.begin(), results.end(), result) > 1)
        throw std::invalid_argument("a result that no node makes, or that is one twice");
  }
};

// A node's primitive and where its weights lie in the packed ones.
struct Step {
  dnnl::primitive primitive;
  memory::desc input, given, packed, output, bias, scratch;
  std::string implementation;
  std::shared_ptr<Unfolded> unfolded;  // in the place of a primitive
  std::shared_ptr<const Sparse> sparse;
  int64_t kernel_at = 0, bias_at = 0;

  int64_t kernel_bytes() const { return unfolded ? unfolded->packed_bytes : packed.get_size(); }
  int64_t scratch_bytes() const { return unfolded ? unfolded->scratch_bytes() : scratch.get_size(); }
};

class Chain {
 public:
  Program program;
  int64_t packed_bytes = 0;

  explicit Chain(const int64_t* fields, size_t count) : program(fields, count) {
    Subnormals kept;
    for (const Node& node : program.nodes) {
      Step step;
      check(node);
      if (node.kind == kConvolve) convolution(node, step);
      if (node.kind == kDense) dense(node, step);
      if (node.kind == kSparse) sparse(node, step);
      if (node.kind == kAffine) step.given = step.packed = step.bias = channels(node.result);
      if (node.weights()) {
        step.kernel_at = packed_bytes;
        step.bias_at = packed_bytes + rounded(step.kernel_bytes());
        packed_bytes = step.bias_at + rounded(step.bias.get_size());
      }
      scratch_bytes_ = std::max(scratch_bytes_, rounded(step.scratch_bytes()));
      steps_.push_back(step);
    }
    light_ = cycles() < kLight;
    place();
  }

  std::string implementations() const {
    std::string all;
    for (const Step& step : steps_) all += step.implementation + "\n";
    return all;
  }

  // Returns the bytes of memory that each node needs beside its values.
  std::string scratches() const {
    std::string all;
    for (const Step& step : steps_) all += std::to_string(step.scratch_bytes()) + "\n";
    return all;
  }

  // Moves kernels into oneDNN's layouts.
  void pack(dnnl::stream& stream, const std::vector<char*>& weights, char* packed) {
    size_t next = 0;
    for (size_t i = 0; i < steps_.size(); ++i) {
      if (!program.nodes[i].weights()) continue;
      Step& step = steps_[i];
      memory from(step.given, cpu(), weights.at(next++));
      memory to(step.packed, cpu(), packed + step.kernel_at);
      if (step.unfolded)
        step.unfolded->pack(stream, weights[next - 1], packed + step.kernel_at);
      else if (step.sparse)
        step.sparse->pack(static_cast<float*>(from.get_data_handle()), packed + step.kernel_at);
      else if (step.given == step.packed)
        std::memcpy(packed + step.kernel_at, from.get_data_handle(), step.packed.get_size());
      else
        dnnl::reorder(from, to).execute(stream, from, to);
      std::memcpy(packed + step.bias_at, weights.at(next++), step.bias.get_size());
    }
    stream.wait();
  }

  // Bytes of the weights, as they are given.
  std::vector<int64_t> weights() const {
    std::vector<int64_t> all;
    for (size_t i = 0; i < steps_.size(); ++i)
      if (program.nodes[i].weights()) {
        all.push_back(steps_[i].given.get_size());
        all.push_back(steps_[i].bias.get_size());
      }
    return all;
  }

  // Bytes of what goes into a call: packed weights, and the given values.
  std::vector<int64_t> arrays() const {
    std::vector<int64_t> all = {packed_bytes};
    for (int64_t i = 0; i < program.given; ++i) all.push_back(4 * program.values[i].count());
    return all;
  }

  std::vector<int64_t> results() const {
    std::vector<int64_t> all;
    for (int64_t value : program.results) all.push_back(4 * program.values[value].count());
    return all;
  }

  int64_t arena_bytes() const { return scratch_bytes_ + values_bytes_; }

  // Is it done before a team has woken up, and is no part of it oneDNN's? Then any thread may run
  // it, without a stream.
  bool light() const { return light_; }

  void run(dnnl::stream* stream, char* packed, const std::vector<char*>& given,
           const std::vector<char*>& results, char* arena) {
    Alone alone(light_);  // XLA's threads start no teams
    std::vector<char*> at(program.values.size());
    for (size_t i = 0; i < at.size(); ++i)
      if (program.values[i].offset >= 0) at[i] = arena + scratch_bytes_ + program.values[i].offset;
    for (size_t i = 0; i < given.size(); ++i) at[i] = given[i];
    for (size_t i = 0; i < results.size(); ++i) at[program.results[i]] = results[i];
    for (size_t i = 0; i < steps_.size(); ++i) {
      const Node& node = program.nodes[i];
      Step& step = steps_[i];
      if (step.unfolded) {
        unfolded(*stream, node, step, packed, at, arena);
      } else if (node.kind == kConvolve || node.kind == kDense) {
        std::unordered_map<int, memory> arguments = {
            {DNNL_ARG_SRC, memory(step.input, cpu(), at[node.inputs[0]])},
            {DNNL_ARG_WEIGHTS, memory(step.packed, cpu(), packed + step.kernel_at)},
            {DNNL_ARG_BIAS, memory(step.bias, cpu(), packed + step.bias_at)},
            {DNNL_ARG_DST, memory(step.output, cpu(), at[node.result])},
            {DNNL_ARG_SCRATCHPAD, memory(step.scratch, cpu(), arena)}};
        if (node.inputs.size() > 1)
          arguments[DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1] =
              memory(step.output, cpu(), at[node.inputs[1]]);
        step.primitive.execute(*stream, arguments);
      } else if (node.kind == kSparse) {
        auto floats = [&](size_t i) {
          return i < node.inputs.size() ? reinterpret_cast<float*>(at[node.inputs[i]]) : nullptr;
        };
        step.sparse->run(packed + step.kernel_at, reinterpret_cast<float*>(packed + step.bias_at),
                         floats(0), floats(1), reinterpret_cast<float*>(at[node.result]),
                         static_cast<float>(node.bound(0)), static_cast<float>(node.bound(1)), arena,
                         light_);
      } else {
        simple(node, step, packed, at);
      }
    }
    if (stream) stream->wait();
  }

 private:
  std::vector<Step> steps_;
  int64_t scratch_bytes_ = 0, values_bytes_ = 0;
  bool light_ = false;

  memory::desc channels(int64_t value) const {
    return {{program.values[value].sizes[3]}, memory::data_type::f32, memory::format_tag::x};
  }

  memory::desc images(int64_t value) const {
    auto [n, h, w, c] = program.values[value].sizes;
    return {{n, c, h, w}, memory::data_type::f32, memory::format_tag::nhwc};
  }

  static dnnl::primitive_attr attributes(const Node& node, const memory::desc& output) {
    dnnl::post_ops after;
    if (node.inputs.size() > 1) after.append_binary(dnnl::algorithm::binary_add, output);
    // oneDNN's own ReLU and clip make 0 of NaN. With a slope, ReLU multiplies what is below 0 by it,
    // and where subnormal numbers count as zeros (see worker.h) this one makes zeros, and NaN of NaN.
    auto linear = [&](float slope, float shift) {
      if (slope != 1 || shift != 0)
        after.append_eltwise(dnnl::algorithm::eltwise_linear, slope, shift);
    };
    auto relu = [&] { after.append_eltwise(dnnl::algorithm::eltwise_relu, kSubnormal, 0); };
    if (double low = node.bound(0); low > -kInfinite) {  // low + relu(x − low)
      linear(1, static_cast<float>(-low));
      relu();
      linear(1, static_cast<float>(low));
    }
    if (double high = node.bound(1); high < kInfinite) {  // high − relu(high − x)
      linear(-1, static_cast<float>(high));
      relu();
      linear(-1, static_cast<float>(high));
    }
    dnnl::primitive_attr made;
    made.set_post_ops(after);
    made.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return made;
  }

  void convolution(const Node& node, Step& step) {
    if (node.fields.size() != kFields + 2 && node.fields.size() != kFields + 3)
      throw std::invalid_argument("a convolution that is cut off");
    Descriptor d = checked(node.fields.data(), kFields);
    int64_t form = node.fields.size() == kFields + 3 ? node.fields[kFields] : int64_t{kDirect};
    if (form < kDirect || form > kMec) throw std::invalid_argument("a convolution of no form");
    Layout layout(d);
    if (layout.input != images(node.inputs[0]) || layout.output != images(node.result))
      throw std::invalid_argument("a convolution of other sizes than its values");
    step.input = layout.input, step.given = layout.kernel, step.output = layout.output;
    step.bias = channels(node.result);
    if (form != kDirect) {
      step.unfolded = std::make_shared<Unfolded>(d, static_cast<Form>(form));
      step.implementation = step.unfolded->implementation;
      return;
    }
    memory::desc free(layout.kernel.get_dims(), memory::data_type::f32, memory::format_tag::any);
    dnnl::convolution_forward::primitive_desc found(
        cpu(), dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
        layout.input, free, step.bias, layout.output, {d[kStrideH], d[kStrideW]},
        {d[kDilationH] - 1, d[kDilationW] - 1}, {d[kTop], d[kLeft]}, {d[kBottom], d[kRight]},
        attributes(node, layout.output));
    step.packed = found.weights_desc();
    step.scratch = found.scratchpad_desc();
    step.implementation = found.impl_info_str();
    step.primitive = dnnl::convolution_forward(found);
  }

  void dense(const Node& node, Step& step) {
    if (node.fields.size() != 5) throw std::invalid_argument("a product that is cut off");
    int64_t rows = node.fields[0], in = node.fields[1], out = node.fields[2];
    if (rows * in != program.values[node.inputs[0]].count() ||
        rows * out != program.values[node.result].count())
      throw std::invalid_argument("a product of other sizes than its values");
    auto type = memory::data_type::f32;
    step.input = {{rows, in}, type, memory::format_tag::ab};
    step.given = {{out, in}, type, memory::format_tag::ba};
    step.output = {{rows, out}, type, memory::format_tag::ab};
    step.bias = channels(node.result);
    dnnl::inner_product_forward::primitive_desc found(
        cpu(), dnnl::prop_kind::forward_inference, step.input,
        memory::desc({out, in}, type, memory::format_tag::any), step.bias, step.output,
        attributes(node, step.output));
    step.packed = found.weights_desc();
    step.scratch = found.scratchpad_desc();
    step.implementation = found.impl_info_str();
    step.primitive = dnnl::inner_product_forward(found);
  }

  void sparse(const Node& node, Step& step) {
    step.sparse = std::make_shared<const Sparse>(node.fields.data());
    const Descriptor& d = step.sparse->descriptor();
    auto type = memory::data_type::u8;
    auto bytes = [&](int64_t count) {
      return memory::desc({count}, type, memory::format_tag::a);
    };
    step.given = bytes(4 * d[kKernelH] * d[kKernelW] * (d[kC] / d[kGroups]) * d[kO]);
    step.packed = bytes(step.sparse->bytes());
    step.bias = channels(node.result);
    step.scratch = bytes(rounded(step.sparse->scratch_bytes(omp_get_max_threads())));
    step.implementation = sparse_kernels().name;
  }

  // About how many cycles of one core a call takes; very many if oneDNN has a part in it.
  int64_t cycles() const {
    int64_t all = 0;
    for (size_t i = 0; i < steps_.size(); ++i) {
      const Node& node = program.nodes[i];
      if (node.kind == kConvolve || node.kind == kDense) return INT64_MAX;
      int64_t numbers = program.values[node.result].count();
      for (int64_t input : node.inputs) numbers += program.values[input].count();
      all += steps_[i].sparse ? steps_[i].sparse->cycles() : numbers;
    }
    return all;
  }

  // Refuses nodes that would write or read beyond their values.
  void check(const Node& node) const {
    const auto& out = program.values[node.result].sizes;
    auto sizes = [&](int64_t input) { return program.values[input].sizes; };
    auto as_many = [&](int64_t input) {  // a view may have another shape
      return program.values[input].count() == program.values[node.result].count();
    };
    auto fits = [&] {
      if (node.inputs.empty() || node.result < program.given) return false;
      switch (node.kind) {
        case kConvolve:
        case kDense:
          return node.inputs.size() == 1 || (node.inputs.size() == 2 && as_many(node.inputs[1]));
        case kSparse: {
          if (node.fields.size() != kSparseFields + 2) return false;
          Descriptor d = checked(node.fields.data(), kFields);
          return d[kN] * d[kH] * d[kW] * d[kC] == program.values[node.inputs[0]].count() &&
                 d[kN] * d[kOutputH] * d[kOutputW] * d[kO] == program.values[node.result].count() &&
                 (node.inputs.size() == 1 || as_many(node.inputs[1])) && out[3] == d[kO];
        }
        case kAffine:
          return node.fields.size() == 2 && as_many(node.inputs[0]);
        case kAdd:
          return node.fields.size() == 2 && node.inputs.size() == 2 && as_many(node.inputs[0]) &&
                 as_many(node.inputs[1]);
        case kConcat: {
          int64_t channels = 0;
          for (int64_t input : node.inputs) {
            auto one = sizes(input);
            channels += one[3];
            if (one[0] != out[0] || one[1] != out[1] || one[2] != out[2]) return false;
          }
          return channels == out[3];
        }
        case kShortcut: {
          auto in = sizes(node.inputs[0]);
          if (node.fields.size() != 5) return false;
          int64_t down = node.fields[0], across = node.fields[1], before = node.fields[2];
          return down > 0 && across > 0 && before >= 0 && before + in[3] <= out[3] &&
                 in[0] == out[0] && (out[1] - 1) * down < in[1] && (out[2] - 1) * across < in[2];
        }
        case kTotal: {
          auto in = sizes(node.inputs[0]);
          return node.fields.size() == 2 && in[0] == out[0] && in[3] == out[3] && out[1] == 1 &&
                 out[2] == 1;
        }
        case kMaxPool:
        case kSumPool: {
          auto in = sizes(node.inputs[0]);
          bool ahead = node.fields.size() == 8 && node.fields[2] > 0 && node.fields[3] > 0;
          return ahead && in[0] == out[0] && in[3] == out[3];
        }
      }
      return false;
    };
    if (!fits()) throw std::invalid_argument("a node of other sizes than its values");
  }

  // Gives each value between the nodes a place, which it has until nobody needs it.
  void place() {
    std::vector<int64_t> last(program.values.size(), -1);
    for (size_t i = 0; i < program.nodes.size(); ++i)
      for (int64_t input : program.nodes[i].inputs) last[input] = i;
    auto callers = [&](int64_t v) {
      return v < program.given ||
             std::find(program.results.begin(), program.results.end(), v) != program.results.end();
    };
    std::map<int64_t, int64_t> busy;  // offset → end
    std::vector<int64_t> living;
    for (size_t i = 0; i < program.nodes.size(); ++i) {
      int64_t v = program.nodes[i].result;
      if (!callers(v)) {
        int64_t bytes = rounded(program.values[v].count() * 4), at = 0;
        for (auto [from, to] : busy) {
          if (from - at >= bytes) break;
          at = std::max(at, to);
        }
        program.values[v].offset = at;
        busy[at] = at + bytes;
        values_bytes_ = std::max(values_bytes_, at + bytes);
        living.push_back(v);
      }
      for (size_t j = living.size(); j-- > 0;)
        if (last[living[j]] <= static_cast<int64_t>(i)) {
          busy.erase(program.values[living[j]].offset);
          living.erase(living.begin() + j);
        }
    }
  }

  // A convolution whose windows are unfolded.
  void unfolded(dnnl::stream& stream, const Node& node, const Step& step, char* packed,
                const std::vector<char*>& at, char* arena) {
    auto floats = [](char* bytes) { return reinterpret_cast<float*>(bytes); };
    const float* added = node.inputs.size() > 1 ? floats(at[node.inputs[1]]) : nullptr;
    step.unfolded->run(stream, floats(at[node.inputs[0]]), packed + step.kernel_at,
                       floats(packed + step.bias_at), added, floats(at[node.result]),
                       static_cast<float>(node.bound(0)), static_cast<float>(node.bound(1)), arena);
  }

  // Everything that is bound by memory.
  void simple(const Node& node, const Step& step, char* packed, const std::vector<char*>& at) {
    auto images = [&](int64_t v) {
      return Images{reinterpret_cast<float*>(at[v]), program.values[v].sizes};
    };
    Images to = images(node.result), from = images(node.inputs[0]);
    const std::vector<int64_t>& f = node.fields;
    switch (node.kind) {
      case kConcat: {
        std::vector<Images> all;
        for (int64_t input : node.inputs) all.push_back(images(input));
        return concat(to, all);
      }
      case kTotal:
        return total(to, from, node.bounds());
      case kAdd:
        return add(to, from, images(node.inputs[1]), node.bounds());
      case kAffine:
        return affine(to, from, reinterpret_cast<float*>(packed + step.kernel_at),
                      reinterpret_cast<float*>(packed + step.bias_at), node.bounds());
      case kShortcut:
        return shortcut(to, from, f[0], f[1], f[2]);
      default:
        return pool(to, from, {f[0], f[1], f[2], f[3], f[4], f[5]}, node.kind == kMaxPool,
                    node.bounds());
    }
  }
};

}  // namespace architectures
