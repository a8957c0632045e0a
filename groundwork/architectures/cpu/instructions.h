// The name of what oneDNN computes with on this CPU.

#pragma once

#include <dnnl.hpp>

#include <map>
#include <string>

namespace architectures {

// As in `ONEDNN_MAX_CPU_ISA`, in lower case; newer ones as a number.
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
  int found = dnnl_get_effective_cpu_isa();
  auto name = names.find(found);
  return name == names.end() ? std::to_string(found) : name->second;
}

}  // namespace architectures
