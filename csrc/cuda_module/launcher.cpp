// The kernels' entry points as torch operators for CUDA tensors, on LibTorch's stable ABI; it knows none of them by name.
// All have one schema: arrays (which the kernel reads or fills), integers, numbers and the name of a term. Questions have no arrays.
#include <cuda_runtime_api.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <string>
#include <utility>
#include <vector>

#include "../cuda/entries.h"

namespace fused_rank {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

ArrayType type_of(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float:
      return ArrayType::f32;
    case ScalarType::Double:
      return ArrayType::f64;
    case ScalarType::Int:
      return ArrayType::i32;
    case ScalarType::Long:
      return ArrayType::i64;
    case ScalarType::Byte:
      return ArrayType::u8;
    default:
      break;
  }
  STD_TORCH_CHECK(false, "fused_rank: a kernel's arrays are float32, float64, int32, int64 or uint8");
}

void call(const Entry& entry, const std::vector<Tensor>& tensors, const std::vector<int64_t>& sizes,
          const std::vector<double>& numbers, const std::string& term) {
  STD_TORCH_CHECK(!tensors.empty(), "fused_rank: ", entry.name, ": no arrays");
  const int32_t device = tensors[0].get_device_index();
  std::vector<Array> arrays;
  for (const Tensor& t : tensors) {
    STD_TORCH_CHECK(t.is_cuda() && t.get_device_index() == device && t.is_contiguous(),
                    "fused_rank: ", entry.name, ": arrays must be contiguous and on one CUDA device");
    arrays.push_back({t.numel() > 0 ? t.mutable_data_ptr() : nullptr, type_of(t), t.numel()});
  }
  const torch::stable::accelerator::DeviceGuard guard(device);
  // The CUDA runtime is linked statically: this copy of it has a current device of its own.
  const cudaError_t error = cudaSetDevice(device);
  STD_TORCH_CHECK(error == cudaSuccess, "fused_rank: ", entry.name, ": ", cudaGetErrorString(error));
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  try {
    entry.run(Arguments(entry.name, arrays, sizes, numbers, term), stream);
  } catch (const std::exception& problem) {
    STD_TORCH_CHECK(false, "fused_rank: ", entry.name, ": ", problem.what());
  }
}

template <size_t I>
void call_entry(std::vector<Tensor> arrays, std::vector<int64_t> sizes, std::vector<double> numbers,
                std::string term) {
  call(kEntries[I], arrays, sizes, numbers, term);
}

template <size_t I>
std::vector<int64_t> answer(std::vector<int64_t> sizes, std::vector<double> numbers, std::string term) {
  return kQuestions[I].answer(Arguments(kQuestions[I].name, {}, sizes, numbers, term));
}

// Which architectures' code this binary holds, and the CUDA release that compiled it.
std::string runtime_info() {
  return "cuda=" FUSED_RANK_CUDA_VERSION " architectures=" FUSED_RANK_CUDA_ARCHITECTURES;
}

using Library = torch::stable::detail::StableLibrary;

template <size_t... I>
void define_entries(Library& m, std::index_sequence<I...>) {
  constexpr const char* schema = "(Tensor(a!)[] arrays, int[] sizes, float[] numbers, str term) -> ()";
  (m.def((std::string(kEntries[I].name) + schema).c_str()), ...);
}
template <size_t... I>
void define_questions(Library& m, std::index_sequence<I...>) {
  constexpr const char* schema = "(int[] sizes, float[] numbers, str term) -> int[]";
  (m.def((std::string(kQuestions[I].name) + schema).c_str()), ...);
}
template <size_t... I>
void implement_entries(Library& m, std::index_sequence<I...>) {
  (m.impl(kEntries[I].name, TORCH_BOX(&call_entry<I>)), ...);
}
template <size_t... I>
void implement_questions(Library& m, std::index_sequence<I...>) {
  (m.impl(kQuestions[I].name, TORCH_BOX(&answer<I>)), ...);
}

constexpr auto kEveryEntry = std::make_index_sequence<std::size(kEntries)>();
constexpr auto kEveryQuestion = std::make_index_sequence<std::size(kQuestions)>();

}  // namespace
}  // namespace fused_rank

STABLE_TORCH_LIBRARY(fused_rank_cuda_kernels, m) {
  fused_rank::define_entries(m, fused_rank::kEveryEntry);
  fused_rank::define_questions(m, fused_rank::kEveryQuestion);
  m.def("runtime_info() -> str");
}

STABLE_TORCH_LIBRARY_IMPL(fused_rank_cuda_kernels, CUDA, m) {
  fused_rank::implement_entries(m, fused_rank::kEveryEntry);
}

STABLE_TORCH_LIBRARY_IMPL(fused_rank_cuda_kernels, CompositeExplicitAutograd, m) {
  fused_rank::implement_questions(m, fused_rank::kEveryQuestion);
  m.impl("runtime_info", TORCH_BOX(&fused_rank::runtime_info));
}
