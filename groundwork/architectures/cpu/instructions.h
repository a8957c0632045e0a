// The instructions with which oneDNN computes on this CPU.

#pragma once

#include <dnnl.hpp>

#include <map>
#include <string>

namespace architectures {

// Returns the name as `ONEDNN_MAX_CPU_ISA` takes it, in lower case; newer ones are a number.
inline std::string instructions() {
  static const std::map<int, std::string> names = {
      {dnnl_cpu_isa_sse41, "sse41"},
      {dnnl_cpu_isa_avx, "avx"},
      {dnnl_cpu_isa_avx2, "avx2"},
      {dnnl_cpu_isa_avx2_vnni, "avx2_vnni"},
      {dnnl_cpu_isa_avx2_vnni_2, "avx2_vnni_2"},
      {dnnl_cpu_isa_avx512_core, "avx512_core"},
      {dnnl_cpu_isa_avx512_core_vnni, "avx512_core_vnni"},
      {dnnl_cpu_isa_avx512_core_bf16, "avx512_core_bf16"},
      {dnnl_cpu_isa_avx512_core_fp16, "avx512_core_fp16"},
      {dnnl_cpu_isa_avx512_core_amx, "avx512_core_amx"},
      {dnnl_cpu_isa_avx512_core_amx_fp16, "avx512_core_amx_fp16"},
  };
  int isa = dnnl_get_effective_cpu_isa();
  auto name = names.find(isa);
  return name == names.end() ? std::to_string(isa) : name->second;
}

// Do they multiply numbers of bfloat16? Where they do not, oneDNN widens them in its inner loops.
// Each set of instructions has the bits of those that it contains.
inline bool multiply_bfloat16() {
  int needed = dnnl_cpu_isa_avx512_core_bf16;
  return (dnnl_get_effective_cpu_isa() & needed) == needed;
}

}  // namespace architectures
