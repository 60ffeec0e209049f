// Launches and shared memory.
#pragma once

#include <tuple>
#include <type_traits>

#include "emulator.h"

// A static variable of a function, or of an instance of a function template, is an address of its own.
#define FR_SHARED(T, name)                             \
  static const char name##_declaration = 0;            \
  auto& name = *static_cast<std::type_identity_t<T>*>( \
      ::emulation::static_shared(&name##_declaration, sizeof(std::type_identity_t<T>)))
#define FR_DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(::emulation::dynamic_shared())

namespace fused_rank {

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, void*, const A&... arguments) {
  struct Call {
    void (*kernel)(P...);
    std::tuple<std::remove_cv_t<P>...> arguments;
  };
  const Call call{kernel, {arguments...}};
  if (emulation::observer) {
    const auto address = reinterpret_cast<const void*>(kernel);
    const bool done = std::apply(
        [&](const auto&... each) {
          const emulation::Parameter parameters[] = {{&each, sizeof each}...};
          return emulation::observer(address, grid, block, shared_bytes, parameters, sizeof...(each));
        },
        call.arguments);
    if (done) return;
  }
  const auto one_thread = [](const void* pointer) {
    const Call& call = *static_cast<const Call*>(pointer);
    std::apply(call.kernel, call.arguments);
  };
  emulation::run_grid(grid, block, shared_bytes, {one_thread, &call});
}

}  // namespace fused_rank
