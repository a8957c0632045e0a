// Products of matrices [M, K] × [K, N] → [M, N], of one pair or of several.

#pragma once

#include <dnnl.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>

#include "plan.h"

namespace architectures {

// The fields that `products.Product` packs, in this order. An operand that is turned lies in memory
// as [K, M], or [N, K]. Bits are those of the operands, and of the result.
enum ProductField {
  kBitsIn, kBitsOut, kProductPairs, kProductRows, kProductInner, kProductColumns, kTurnLeft,
  kTurnRight, kProductFields
};
using ProductDescriptor = std::array<int64_t, kProductFields>;

inline ProductDescriptor checked_product(const int64_t* fields, size_t count) {
  ProductDescriptor d;
  if (count != kProductFields) throw std::invalid_argument("a product of another version");
  std::copy(fields, fields + count, d.begin());
  bool known = (d[kBitsIn] == 16 || d[kBitsIn] == 32) && (d[kBitsOut] == 16 || d[kBitsOut] == 32);
  bool positive = std::all_of(d.begin() + kProductPairs, d.begin() + kTurnLeft,
                              [](int64_t size) { return size > 0; });
  if (!known || !positive) throw std::invalid_argument("a descriptor of no product");
  return d;
}

struct ProductPlan {
  memory::desc left, right, result, scratch;
  std::string implementation;
  dnnl::matmul product;
  uint64_t used = 0;

  explicit ProductPlan(const ProductDescriptor& d) {
    auto type = [](int64_t bits) {
      return bits == 16 ? memory::data_type::bf16 : memory::data_type::f32;
    };
    auto matrices = [&](int64_t rows, int64_t columns, int64_t bits, bool turned) {
      int64_t across = turned ? rows : 1, down = turned ? 1 : columns;
      if (d[kProductPairs] == 1) return memory::desc({rows, columns}, type(bits), {down, across});
      return memory::desc({d[kProductPairs], rows, columns}, type(bits),
                          {rows * columns, down, across});
    };
    left = matrices(d[kProductRows], d[kProductInner], d[kBitsIn], d[kTurnLeft]);
    right = matrices(d[kProductInner], d[kProductColumns], d[kBitsIn], d[kTurnRight]);
    result = matrices(d[kProductRows], d[kProductColumns], d[kBitsOut], false);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    dnnl::matmul::primitive_desc found(cpu(), left, right, result, attributes);
    scratch = found.scratchpad_desc();
    implementation = found.impl_info_str();
    product = dnnl::matmul(found);
  }
};

}  // namespace architectures
