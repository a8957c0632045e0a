// A network of 8-bit integers, computed by one call: what `integers.py` packs.

#pragma once

#include <omp.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <vector>

#include "integers_kernels.h"
#include "integers_winograd.h"

namespace architectures::integers {

// The program: the form of products; the number of values; of each its height, width, channels and
// bits (8, 32, or −32 for float32); the number of given values, which come first; the number of
// results, and which values they are; the nodes. A node is its length, its kind, its result, the
// number of its inputs, these inputs, then what the kind asks for. Sizes lack the batch.
enum Kind {
  kRound = 1,
  kProduct,
  kDeep,
  kSum,
  kScale,
  kTable,
  kView,
  kJoin,
  kLargest,
  kAverage,
  kTotals,
  kPick,
  kShuffle
};

constexpr int64_t kChunk = 1 << 19;  // bytes of the images that a thread takes at once
constexpr int64_t kWorth = 1 << 17;  // products of a call, from which threads are worth it
constexpr int64_t kSlack = 128;      // bytes that a kernel may read beyond its images

// A thread's part of the work on a node.
struct Share {
  int64_t place, count;

  void wait() const {
    if (count > 1) {
#pragma omp barrier
    }
  }
  // Calls `each` for the share's part of so many places.
  template <typename Each>
  void of(int64_t places, Each each) const {
    for (int64_t i = places * place / count; i < places * (place + 1) / count; ++i) each(i);
  }
};

struct Value {
  int64_t height, width, channels, bits;
  int64_t root = -1;    // the value whose memory it shows; its own number for most
  int64_t offset = -1;  // in the arena, for one image; −1: the caller's
  int64_t count() const { return height * width * channels; }
  int64_t bytes() const { return count() * (bits == 8 ? 1 : 4); }
};

struct Node {
  Kind kind;
  int64_t result;
  std::vector<int64_t> inputs, fields;
};

// Reads what a node's fields hold, one after the other.
class Fields {
 public:
  explicit Fields(const std::vector<int64_t>& fields) : fields_(fields) {}
  int64_t next() { return fields_.at(at_++); }
  Range range() {
    auto zero = static_cast<int32_t>(next()), low = static_cast<int32_t>(next());
    return {zero, low, static_cast<int32_t>(next())};
  }
  Scales scales() {
    Scales made;
    int64_t mantissa = next(), shift = next();
    if (mantissa < 0 || mantissa >= INT64_C(1) << 31 || shift < -31 || shift > 31)
      throw std::invalid_argument("a factor that is none");
    int64_t left = std::max<int64_t>(shift, 0), right = 31 + std::max<int64_t>(-shift, 0);
    for (int half = 0; half < 2; ++half)
      for (int i = 0; i < 8; ++i) {
        made.mantissa[half][i] = mantissa;
        made.round[half][i] = INT64_C(1) << (right - 1);
        made.right[half][i] = right;
        made.left[half][i] = left;
      }
    return made;
  }
  Sum sum(bool wide) {
    Sum made;
    made.wide = wide;
    made.own_zero = static_cast<int32_t>(next()), made.own_shift = static_cast<int32_t>(next());
    made.other_zero = static_cast<int32_t>(next()), made.other_shift = static_cast<int32_t>(next());
    made.sign = static_cast<int32_t>(next());
    made.own = scales(), made.other = scales(), made.whole = scales();
    made.range = range();
    return made;
  }
  void end() const {
    if (at_ != fields_.size()) throw std::invalid_argument("a node of other fields than its kind");
  }

 private:
  const std::vector<int64_t>& fields_;
  size_t at_ = 0;
};

// What a convolution is: sizes of the kernel, padding and so on, and where its numbers lie.
struct Geometry {
  int64_t kernel_h, kernel_w, in, out, groups;  // in and out: channels of one group
  int64_t down, across, top, left, bottom, right, dilate_h, dilate_w;
  int64_t zero, tiled, kernel_at, channels_at;  // tiled: by integers_winograd.h

  int64_t tall(int64_t height) const { return height + top + bottom; }
  int64_t wide(int64_t width) const { return width + left + right; }
  bool padded() const { return top || left || bottom || right; }
  bool flat() const { return kernel_h * kernel_w == 1 && down == 1 && across == 1 && !padded(); }
};

struct Step {
  Geometry geometry;
  Ending ending;
  Sum sum;
  Scales scales;
  Range range;
  int32_t zero = 0;
  float scale = 0;
  std::vector<int64_t> numbers;
};

class Network {
 public:
  Network(const int64_t* at, size_t count) {
    parse(at, at + count);
    for (const Node& node : nodes_) steps_.push_back(step(node));
    place();
  }

  const std::vector<Value>& values() const { return values_; }
  int64_t given() const { return given_; }
  const std::vector<int64_t>& results() const { return results_; }
  int64_t packed_bytes() const { return packed_bytes_; }
  int64_t image_bytes() const { return image_bytes_; }  // of the arena

  // Computes the results for so many images; `arena` gives at least so many bytes.
  template <typename Arena>
  void run(const char* packed, const std::vector<char*>& given, const std::vector<char*>& results,
           int64_t batch, Arena arena) const {
    if (batch == 0) return;
    int64_t threads = work_ * batch < kWorth ? 1 : omp_get_max_threads();
    bool together = batch < threads;
    int64_t fits = std::max<int64_t>(1, kChunk / std::max<int64_t>(1, image_bytes_));
    int64_t chunk = together ? batch : std::min(fits, (batch + threads - 1) / threads);
    int64_t each = (chunk * image_bytes_ + kSlack + 63) / 64 * 64;
    char* memory = arena(each * (together ? 1 : threads));
    auto compute = [&](int64_t first, int64_t count, char* mine, Share share) {
      std::vector<char*> at(values_.size());
      for (size_t v = 0; v < at.size(); ++v)
        if (values_[v].offset >= 0) at[v] = mine + values_[v].offset * chunk;
      for (size_t v = 0; v < given.size(); ++v) at[v] = given[v] + first * values_[v].bytes();
      for (size_t i = 0; i < results.size(); ++i)
        at[results_[i]] = results[i] + first * values_[results_[i]].bytes();
      for (size_t v = 0; v < at.size(); ++v) at[v] = at[values_[v].root];
      for (size_t i = 0; i < nodes_.size(); ++i) {
        apply(nodes_[i], steps_[i], packed, at, mine + scratch_at_ * chunk, count, share);
        share.wait();
      }
    };
    if (together) {
#pragma omp parallel num_threads(threads)
      compute(0, batch, memory, {omp_get_thread_num(), omp_get_num_threads()});
      return;
    }
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t first = 0; first < batch; first += chunk)
      compute(first, std::min(chunk, batch - first), memory + omp_get_thread_num() * each, {0, 1});
  }

 private:
  int64_t form_ = 0, given_ = 0, packed_bytes_ = 0;
  int64_t image_bytes_ = 0, scratch_at_ = 0, work_ = 0;
  std::vector<Value> values_;
  std::vector<int64_t> results_;
  std::vector<Node> nodes_;
  std::vector<Step> steps_;

  void parse(const int64_t* at, const int64_t* end) {
    auto next = [&] {
      if (at == end) throw std::invalid_argument("a program that is cut off");
      return *at++;
    };
    auto value = [&] {
      int64_t index = next();
      if (index < 0 || index >= static_cast<int64_t>(values_.size()))
        throw std::invalid_argument("a program of values that it lacks");
      return index;
    };
    form_ = next(), packed_bytes_ = next();
    values_.resize(next());
    for (Value& v : values_) {
      v.height = next(), v.width = next(), v.channels = next(), v.bits = next();
      v.root = &v - values_.data();
    }
    given_ = next();
    if (given_ < 0 || given_ > static_cast<int64_t>(values_.size()))
      throw std::invalid_argument("a program of values that it lacks");
    std::vector<bool> ready(values_.size());
    std::fill_n(ready.begin(), given_, true);
    results_.resize(next());
    for (int64_t& result : results_) result = value();
    for (int64_t result : results_)
      if (result < given_ || std::count(results_.begin(), results_.end(), result) > 1)
        throw std::invalid_argument("a result that is given, or is one twice");
    while (at != end) {
      const int64_t* stop = at + next();
      if (stop > end || stop <= at) throw std::invalid_argument("a node that is cut off");
      Node node;
      node.kind = static_cast<Kind>(next());
      node.result = value();
      node.inputs.resize(next());
      for (int64_t& input : node.inputs) input = value();
      while (at != stop) node.fields.push_back(next());
      if (node.inputs.empty() || node.result < given_)
        throw std::invalid_argument("a node without inputs, or one that makes what is given");
      for (int64_t input : node.inputs)
        if (!ready[input]) throw std::invalid_argument("a node that comes before its inputs");
      ready[node.result] = true;
      nodes_.push_back(std::move(node));
    }
    for (int64_t result : results_)
      if (!ready[result]) throw std::invalid_argument("a result that no node makes");
  }

  bool is_wide(int64_t value) const { return values_[value].bits != 8; }

  Step step(const Node& node) {
    Step made;
    Fields fields(node.fields);
    const Value &in = values_[node.inputs[0]], &out = values_[node.result];
    auto need = [](bool holds) {
      if (!holds) throw std::invalid_argument("a node of other sizes than its values");
    };
    bool alike = in.count() == out.count();
    switch (node.kind) {
      case kRound: {
        int64_t bits = fields.next();
        std::memcpy(&made.scale, &bits, 4);
        made.range = fields.range();
        need(alike && in.bits == -32 && out.bits == 8);
        break;
      }
      case kProduct:
      case kDeep:
        product(node, fields, made);
        need(in.bits == 8);
        break;
      case kSum:
        need(node.inputs.size() == 2 && alike && values_[node.inputs[1]].count() == out.count());
        made.sum = fields.sum(is_wide(node.inputs[1]));
        break;
      case kScale:
      case kTotals:
        need(node.kind == kScale ? alike : in.channels == out.count());
        made.zero = static_cast<int32_t>(fields.next());
        made.scales = fields.scales();
        made.range = fields.range();
        break;
      case kTable:
        need(alike && in.bits == 8 && out.bits == 8);
        made.numbers = {fields.next()};
        need(made.numbers[0] >= 0 && made.numbers[0] + 256 <= packed_bytes_);
        break;
      case kView:
        need(in.bytes() == out.bytes());
        need(std::find(results_.begin(), results_.end(), node.result) == results_.end());
        values_[node.result].root = in.root;
        break;
      case kJoin: {
        int64_t channels = 0;
        for (int64_t input : node.inputs) {
          const Value& one = values_[input];
          need(one.bits == out.bits && one.height == out.height && one.width == out.width);
          channels += one.channels;
        }
        need(channels == out.channels);
        break;
      }
      case kLargest:
      case kAverage:  // window, strides, top, left, fill
        for (int i = 0; i < 7; ++i) made.numbers.push_back(fields.next());
        if (node.kind == kAverage) made.range = fields.range();
        need(in.channels == out.channels && in.bits == out.bits && made.numbers[0] > 0 &&
             made.numbers[1] > 0 && made.numbers[2] > 0 && made.numbers[3] > 0);
        break;
      case kPick:  // of each axis: begin, stride, places before, count; then the fill
        for (int i = 0; i < 13; ++i) made.numbers.push_back(fields.next());
        for (int axis = 0; axis < 3; ++axis) {
          const int64_t* of = &made.numbers[4 * axis];
          int64_t from = axis == 0 ? in.height : axis == 1 ? in.width : in.channels;
          int64_t to = axis == 0 ? out.height : axis == 1 ? out.width : out.channels;
          need(of[0] >= 0 && of[1] > 0 && of[2] >= 0 && of[3] > 0 && of[2] + of[3] <= to &&
               of[0] + (of[3] - 1) * of[1] < from);
        }
        need(in.bits == out.bits);
        break;
      case kShuffle:
        made.numbers = {fields.next()};
        need(alike && in.bits == out.bits && in.channels == out.channels &&
             made.numbers[0] > 0 && in.channels % made.numbers[0] == 0);
        break;
      default:
        throw std::invalid_argument("a node of no kind");
    }
    fields.end();
    return made;
  }

  void product(const Node& node, Fields& fields, Step& made) {
    const Value &in = values_[node.inputs[0]], &out = values_[node.result];
    Geometry& g = made.geometry;
    for (int64_t* field :
         {&g.kernel_h, &g.kernel_w, &g.in, &g.out, &g.groups, &g.down, &g.across, &g.top, &g.left,
          &g.bottom, &g.right, &g.dilate_h, &g.dilate_w, &g.zero, &g.tiled, &g.kernel_at,
          &g.channels_at})
      *field = fields.next();
    made.ending.left = fields.next() != 0;
    made.ending.wide = out.bits != 8;
    made.ending.range = fields.range();
    made.ending.adds = node.inputs.size() == 2;
    made.ending.sum = {};
    if (made.ending.adds) made.ending.sum = fields.sum(is_wide(node.inputs[1]));
    int64_t tall = (g.kernel_h - 1) * g.dilate_h + 1, wide = (g.kernel_w - 1) * g.dilate_w + 1;
    bool fits = std::min({g.kernel_h, g.kernel_w, g.in, g.out, g.groups, g.down, g.across,
                          g.dilate_h, g.dilate_w}) > 0 &&
                std::min({g.top, g.left, g.bottom, g.right}) >= 0 &&
                g.in * g.groups == in.channels && g.out * g.groups == out.channels &&
                (out.height - 1) * g.down + tall <= g.tall(in.height) &&
                (out.width - 1) * g.across + wide <= g.wide(in.width) &&
                (!made.ending.adds || values_[node.inputs[1]].count() == out.count()) &&
                (node.kind == kProduct || (g.in == 1 && g.out == 1)) &&
                (!g.tiled || (form_ == kWords && g.kernel_h == 3 && g.kernel_w == 3 &&
                              g.groups == 1 && g.in % 2 == 0 && g.down * g.across == 1 &&
                              g.dilate_h * g.dilate_w == 1));
    if (!fits) throw std::invalid_argument("a convolution of other sizes than its values");
    int64_t kernel = node.kind == kDeep ? deep_bytes(g) : kernel_bytes(g);
    int64_t blocks = node.kind == kDeep ? (g.groups + 31) / 32 * 2 : g.groups * blocks_of(g);
    int64_t channels = blocks * static_cast<int64_t>(sizeof(Channels));
    if (g.kernel_at < 0 || g.kernel_at + kernel > packed_bytes_ || g.channels_at < 0 ||
        g.channels_at % 64 || g.channels_at + channels > packed_bytes_)
      throw std::invalid_argument("a convolution of weights that are not there");
    if (g.tiled) {  // the copy ends where the last tiles do
      g.bottom += out.height % 2;
      g.right += out.width % 2;
    }
    work_ += out.count() * g.kernel_h * g.kernel_w * g.in;
  }

  static int64_t blocks_of(const Geometry& g) { return (g.out + 15) / 16; }

  // Bytes of one number in the copy of the input.
  int64_t size() const { return form_ == kWords ? 2 : 1; }

  // Of each sum, how many products of four bytes go together, and how often.
  int64_t steps_of(const Geometry& g) const {
    bool merged = g.groups == 1 && g.dilate_w == 1;
    return ((merged ? g.kernel_w : 1) * g.in * size() + 3) / 4;
  }
  int64_t taps_of(const Geometry& g) const {
    return g.groups == 1 && g.dilate_w == 1 ? 1 : g.kernel_w;
  }
  int64_t kernel_bytes(const Geometry& g) const {
    if (g.tiled) return 16 * blocks_of(g) * (g.in / 2) * 64;
    return g.groups * blocks_of(g) * g.kernel_h * taps_of(g) * steps_of(g) * 64;
  }
  static int64_t deep_bytes(const Geometry& g) {
    return (g.groups + 31) / 32 * ((g.kernel_h * g.kernel_w + 1) / 2) * 128;
  }

  bool copies(const Node& node, const Geometry& g) const {
    return node.kind == kDeep || form_ == kWords || g.padded() || g.in % 4 != 0;
  }

  // Gives each value between the nodes a place, which it has until nobody needs it.
  void place() {
    std::vector<int64_t> last(values_.size(), -1);
    std::vector<bool> callers(values_.size(), false);
    for (int64_t v = 0; v < given_; ++v) callers[v] = true;
    for (int64_t v : results_) callers[v] = true;
    int64_t scratch = 0;
    for (size_t i = 0; i < nodes_.size(); ++i) {
      const Node& node = nodes_[i];
      for (int64_t input : node.inputs) last[values_[input].root] = i;
      const Geometry& g = steps_[i].geometry;
      if ((node.kind == kProduct || node.kind == kDeep) && copies(node, g)) {
        const Value& in = values_[node.inputs[0]];
        int64_t one = node.kind == kDeep ? 2 : size();
        scratch = std::max(scratch, g.tall(in.height) * g.wide(in.width) * in.channels * one);
      }
    }
    std::map<int64_t, int64_t> busy;  // offset → end
    std::vector<int64_t> living;
    for (size_t i = 0; i < nodes_.size(); ++i) {
      int64_t v = nodes_[i].result;
      if (!callers[v] && values_[v].root == v) {
        int64_t bytes = (values_[v].bytes() + kSlack + 63) / 64 * 64, at = 0;
        for (auto [from, to] : busy) {
          if (from - at >= bytes) break;
          at = std::max(at, to);
        }
        values_[v].offset = at;
        busy[at] = at + bytes;
        scratch_at_ = std::max(scratch_at_, at + bytes);
        living.push_back(v);
      }
      for (size_t j = living.size(); j-- > 0;)
        if (last[living[j]] <= static_cast<int64_t>(i)) {
          busy.erase(values_[living[j]].offset);
          living.erase(living.begin() + j);
        }
    }
    image_bytes_ = scratch_at_ + (scratch + 63) / 64 * 64;
  }

  void apply(const Node& node, const Step& step, const char* packed,
             const std::vector<char*>& at, char* scratch, int64_t images, Share share) const {
    const Value &in = values_[node.inputs[0]], &out = values_[node.result];
    const char* from = at[node.inputs[0]];
    char* to = at[node.result];
    int64_t rows = images * out.height, in_bytes = in.bits == 8 ? 1 : 4;
    int64_t bytes = out.bits == 8 ? 1 : 4, row = out.width * out.channels;
    switch (node.kind) {
      case kRound:
        share.of(rows, [&](int64_t r) {
          round_all(from + r * row * 4, step.scale, step.range, row, to + r * row);
        });
        return;
      case kProduct:
      case kDeep:
        multiply(node, step, packed, at, scratch, images, share);
        return;
      case kSum: {
        const char* other = at[node.inputs[1]];
        int64_t other_bytes = step.sum.wide ? 4 : 1;
        share.of(rows, [&](int64_t r) {
          add_all(from + r * row * in_bytes, in_bytes == 4, other + r * row * other_bytes,
                  step.sum, row, bytes == 4, to + r * row * bytes);
        });
        return;
      }
      case kScale:
        share.of(rows, [&](int64_t r) {
          scale_all(from + r * row * in_bytes, in_bytes == 4, step.zero, step.scales, step.range,
                    row, bytes == 4, to + r * row * bytes);
        });
        return;
      case kTable: {
        const char* table = packed + step.numbers[0];
        share.of(rows, [&](int64_t r) {
          for (int64_t i = r * row; i < (r + 1) * row; ++i)
            to[i] = table[static_cast<uint8_t>(from[i])];
        });
        return;
      }
      case kTotals:
        share.of(images, [&](int64_t n) {
          int64_t pixels = in.height * in.width, width = in.channels;
          total_all(from + n * pixels * width * in_bytes, in_bytes == 4, step.zero, pixels, width,
                    step.scales, step.range, bytes == 4, to + n * width * bytes);
        });
        return;
      case kJoin: {
        int64_t before = 0;
        for (int64_t input : node.inputs) {
          int64_t part = values_[input].channels * bytes;
          share.of(rows * out.width, [&](int64_t p) {
            std::memcpy(to + p * out.channels * bytes + before, at[input] + p * part, part);
          });
          before += part;
        }
        return;
      }
      case kLargest:
      case kAverage:
        share.of(rows, [&](int64_t r) {
          if (bytes == 1)
            pool<uint8_t>(node.kind, step, in, out, from, to, r);
          else
            pool<int32_t>(node.kind, step, in, out, from, to, r);
        });
        return;
      case kPick:
        share.of(images, [&](int64_t n) {
          if (bytes == 1)
            pick<uint8_t>(step, in, out, from + n * in.count(), to + n * out.count());
          else
            pick<int32_t>(step, in, out, from + n * in.count() * 4, to + n * out.count() * 4);
        });
        return;
      case kShuffle: {
        int64_t groups = step.numbers[0], width = out.channels / groups;
        share.of(rows * out.width, [&](int64_t p) {
          const char* one = from + p * out.channels * bytes;
          char* shuffled = to + p * out.channels * bytes;
          for (int64_t c = 0; c < out.channels; ++c)
            std::memcpy(shuffled + c * bytes, one + (c % groups * width + c / groups) * bytes,
                        bytes);
        });
        return;
      }
      case kView:
        return;
    }
  }

  // One row of a pooled value. Codes of 8 bits are those of the signed ones, plus 128.
  template <typename Code>
  static void pool(Kind kind, const Step& step, const Value& in, const Value& out,
                   const char* from, char* to, int64_t r) {
    const Code* codes = reinterpret_cast<const Code*>(from);
    Code* pooled = reinterpret_cast<Code*>(to) + r * out.width * out.channels;
    const std::vector<int64_t>& n = step.numbers;
    int64_t image = r / out.height, y = r % out.height, width = in.channels;
    auto each = [&](int64_t x, auto with) {  // the pixels of a window, null outside
      for (int64_t i = y * n[2] - n[4]; i < y * n[2] - n[4] + n[0]; ++i)
        for (int64_t j = x * n[3] - n[5]; j < x * n[3] - n[5] + n[1]; ++j) {
          bool inside = i >= 0 && i < in.height && j >= 0 && j < in.width;
          with(inside ? codes + ((image * in.height + i) * in.width + j) * width : nullptr);
        }
    };
    std::vector<int32_t> sums(kind == kAverage ? width : 0);
    for (int64_t x = 0; x < out.width; ++x, pooled += width) {
      if (kind == kLargest) {
        std::fill(pooled, pooled + width, static_cast<Code>(n[6]));
        each(x, [&](const Code* one) {
          if (!one) return;
#pragma omp simd
          for (int64_t c = 0; c < width; ++c) pooled[c] = std::max(pooled[c], one[c]);
        });
        continue;
      }
      constexpr int32_t kSigned = sizeof(Code) == 1 ? 128 : 0;
      std::fill(sums.begin(), sums.end(), 0);
      each(x, [&](const Code* one) {
        for (int64_t c = 0; c < width; ++c)
          sums[c] += (one ? one[c] : static_cast<int32_t>(n[6])) - kSigned;
      });
      int32_t area = static_cast<int32_t>(n[0] * n[1]);
      for (int64_t c = 0; c < width; ++c) {
        int32_t size = (std::abs(sums[c]) + area / 2) / area;
        int32_t mean = (sums[c] < 0 ? -size : size) + kSigned;
        pooled[c] = static_cast<Code>(std::clamp(mean, step.range.low, step.range.high));
      }
    }
  }

  template <typename Code>
  static void pick(const Step& step, const Value& in, const Value& out,
                   const char* from, char* to) {
    const Code* codes = reinterpret_cast<const Code*>(from);
    Code* picked = reinterpret_cast<Code*>(to);
    const int64_t *h = &step.numbers[0], *w = &step.numbers[4], *c = &step.numbers[8];
    std::fill(picked, picked + out.count(), static_cast<Code>(step.numbers[12]));
    for (int64_t i = 0; i < h[3]; ++i)
      for (int64_t j = 0; j < w[3]; ++j) {
        const Code* one =
            codes + ((h[0] + i * h[1]) * in.width + w[0] + j * w[1]) * in.channels + c[0];
        Code* at = picked + ((h[2] + i) * out.width + w[2] + j) * out.channels + c[2];
        for (int64_t k = 0; k < c[3]; ++k) at[k] = one[k * c[1]];
      }
  }

  // Copies the input with its padding, as words less their zero or as bytes.
  void copy(const Node& node, const Geometry& g, const char* from, char* scratch,
            int64_t images, Share share) const {
    const Value& in = values_[node.inputs[0]];
    bool words = node.kind == kDeep || form_ == kWords;
    int64_t one = words ? 2 : 1, pixel = in.channels * one;
    int64_t tall = g.tall(in.height), wide = g.wide(in.width);
    int fill = words ? 0 : static_cast<int>(g.zero);
    share.of(images * tall, [&](int64_t r) {
      int64_t y = r % tall - g.top, n = r / tall;
      char* to = scratch + r * wide * pixel;
      if (y < 0 || y >= in.height) {
        std::memset(to, fill, wide * pixel);
        return;
      }
      const char* line = from + (n * in.height + y) * in.width * in.channels;
      std::memset(to, fill, g.left * pixel);
      if (words)
        widen(line, in.width * in.channels, static_cast<int32_t>(g.zero), to + g.left * pixel);
      else
        std::memcpy(to + g.left * pixel, line, in.width * pixel);
      std::memset(to + (g.left + in.width) * pixel, fill, g.right * pixel);
    });
    share.wait();
  }

  void multiply(const Node& node, const Step& step, const char* packed,
                const std::vector<char*>& at, char* scratch, int64_t images, Share share) const {
    const Value &in = values_[node.inputs[0]], &out = values_[node.result];
    const Geometry& g = step.geometry;
    const Ending& ending = step.ending;
    const char* from = at[node.inputs[0]];
    if (copies(node, g)) {
      copy(node, g, from, scratch, images, share);
      from = scratch;
    }
    const char* other = ending.adds ? at[node.inputs[1]] : at[node.result];
    int64_t other_bytes = ending.sum.wide ? 4 : 1, bytes = ending.wide ? 4 : 1;
    int64_t one = node.kind == kDeep ? 2 : size(), pixel = in.channels * one;
    int64_t line = g.wide(in.width) * pixel, plane = g.tall(in.height) * line;
    // Rows of pixels: a row of an image each, or so many of all pixels.
    constexpr int64_t kRow = 64;
    int64_t all = images * out.height * out.width;
    int64_t rows = g.flat() ? (all + kRow - 1) / kRow : images * out.height;
    auto start = [&](int64_t r) {
      if (g.flat()) return r * kRow * pixel;
      return r / out.height * plane + r % out.height * g.down * line;
    };
    auto first = [&](int64_t r) { return g.flat() ? r * kRow : r * out.width; };
    auto count = [&](int64_t r) { return g.flat() ? std::min(kRow, all - r * kRow) : out.width; };
    auto* channels = reinterpret_cast<const Channels*>(packed + g.channels_at);
    if (node.kind == kDeep) {
      int64_t pairs = (g.kernel_h * g.kernel_w + 1) / 2;
      std::vector<int64_t> taps(2 * pairs, 0);
      for (int64_t t = 0; t < g.kernel_h * g.kernel_w; ++t)
        taps[t] = t / g.kernel_w * g.dilate_h * line + t % g.kernel_w * g.dilate_w * pixel;
      int64_t blocks = (g.groups + 31) / 32;
      share.of(rows * blocks, [&](int64_t i) {
        int64_t r = i / blocks, b = i % blocks, left = g.groups - 32 * b;
        int64_t index = first(r) * out.channels + 32 * b, n = count(r);
        const char *x = from + start(r) + 64 * b, *kernel = packed + g.kernel_at + b * pairs * 128;
        const char* beside = other + index * other_bytes;
        char* to = at[node.result] + index * bytes;
        __mmask16 low = first_of(left), high = left > 16 ? first_of(left - 16) : 0;
        auto tiles = [&](auto compute, int64_t pixels) {
          for (; n >= pixels; n -= pixels) {
            compute(taps.data(), pairs, g.across * pixel, ending, x, kernel, channels + 2 * b,
                    beside, to, out.channels, low, high);
            x += pixels * g.across * pixel;
            beside += pixels * out.channels * other_bytes;
            to += pixels * out.channels * bytes;
          }
        };
        tiles(deep_tile<4>, 4);
        tiles(deep_tile<1>, 1);
      });
      return;
    }
    if (g.tiled) {
      Tiles tiles = {g.in, g.out, out.height, out.width, pixel, line, plane};
      int64_t total = images * tiles.down() * tiles.across();
      int64_t most = share.count > 1 ? kTiles / 4 : kTiles;
      share.of((total + most - 1) / most, [&](int64_t i) {
        tile_all(tiles, ending, from, packed + g.kernel_at, channels, other, at[node.result],
                 i * most, std::min(total, (i + 1) * most));
      });
      return;
    }
    Window window = {g.across * pixel, g.dilate_h * line, g.dilate_w * pixel,
                     g.kernel_h,       taps_of(g),        steps_of(g)};
    int64_t blocks = blocks_of(g), block = window.rows * window.taps * window.steps * 64;
    std::vector<std::array<int64_t, 2>> parts;  // first block and number of blocks
    for (int64_t b = 0; b < blocks;) {
      int64_t many = blocks - b >= 4 ? 4 : blocks - b >= 2 ? 2 : 1;
      parts.push_back({b, many});
      b += many;
    }
    int64_t each = parts.size();
    share.of(g.groups * each * rows, [&](int64_t i) {
      int64_t r = i % rows, group = i / rows / each;
      auto [b, many] = parts[i / rows % each];
      int64_t index = first(r) * out.channels + group * g.out + 16 * b;
      int64_t left = g.out - 16 * (b + many - 1), place = group * blocks + b;
      pixels_of(form_, many)(window, ending, count(r), from + start(r) + group * g.in * one,
                             packed + g.kernel_at + place * block, channels + place,
                             other + index * other_bytes, at[node.result] + index * bytes,
                             out.channels, first_of(left));
    });
  }
};

// Returns the fastest form that this CPU has.
inline Form form() {
  __builtin_cpu_init();
  bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (!wide) return kPortable;
  return __builtin_cpu_supports("avx512vnni") ? kBytes : kWords;
}

}  // namespace architectures::integers
