// The kernels' entry points as a Python module, called as fused_rank/cuda/kernels.py does.
#include <dlfcn.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <tuple>

#include "emulator.h"
#include "entries.h"

namespace {

using namespace fused_rank;
namespace py = pybind11;
using Described = std::tuple<uintptr_t, std::string, int64_t>;  // address, type, elements

ArrayType type_named(const std::string& name) {
  static const std::map<std::string, ArrayType> types = {{"float32", ArrayType::f32},
                                                         {"float64", ArrayType::f64},
                                                         {"int32", ArrayType::i32},
                                                         {"int64", ArrayType::i64},
                                                         {"uint8", ArrayType::u8}};
  const auto found = types.find(name);
  if (found == types.end()) throw std::invalid_argument("kernels take no arrays of " + name);
  return found->second;
}

template <size_t N, class Named>
const Named& find(const Named (&table)[N], const std::string& name) {
  for (const Named& each : table)
    if (name == each.name) return each;
  throw std::invalid_argument("no kernel is called " + name);
}

void run(const std::string& name, const std::vector<Described>& described, const std::vector<int64_t>& sizes,
         const std::vector<double>& numbers, const std::string& term) {
  std::vector<Array> arrays;
  for (const auto& [address, type, count] : described)
    arrays.push_back({reinterpret_cast<void*>(address), type_named(type), count});
  find(kEntries, name).run(Arguments(name.c_str(), arrays, sizes, numbers, term), nullptr);
}

std::vector<int64_t> ask(const std::string& name, const std::vector<int64_t>& sizes,
                         const std::vector<double>& numbers, const std::string& term) {
  return find(kQuestions, name).answer(Arguments(name.c_str(), {}, sizes, numbers, term));
}

PyObject* watching =
    nullptr;  // called with address in the module, grid, block, shared bytes, parameters as bytes

bool watch(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes,
           const emulation::Parameter* parameters, size_t count) {
  Dl_info module;
  if (dladdr(kernel, &module) == 0) throw std::runtime_error("a kernel in no module");
  py::list bytes;
  for (size_t i = 0; i < count; ++i)
    bytes.append(py::bytes(static_cast<const char*>(parameters[i].bytes), parameters[i].size));
  const auto address = reinterpret_cast<uintptr_t>(kernel) - reinterpret_cast<uintptr_t>(module.dli_fbase);
  return py::handle(watching)(address, py::make_tuple(grid.x, grid.y, grid.z),
                              py::make_tuple(block.x, block.y, block.z), shared_bytes, bytes)
      .cast<bool>();
}

// `callback` sees each launch before it happens, and returns whether it has run the kernel. None: nobody.
void observe(py::object callback) {
  Py_XDECREF(watching);
  watching = callback.is_none() ? nullptr : callback.release().ptr();
  emulation::observer = watching ? watch : nullptr;
}

std::vector<std::string> entries() {
  std::vector<std::string> names;
  for (const Entry& entry : kEntries) names.emplace_back(entry.name);
  return names;
}

}  // namespace

PYBIND11_MODULE(fused_rank_cuda_emulated, m) {
  m.def("run", run);
  m.def("ask", ask);
  m.def("entries", entries);
  m.def("observe", observe);
  m.def("set_seed", emulation::set_seed);
  m.def("blocks_run", emulation::blocks_run);
}
