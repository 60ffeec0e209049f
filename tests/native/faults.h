// Faults to seed, one for each thing that has to be able to notice one.
#pragma once

#include <cstdlib>
#include <cstring>

#include "cpu/pair_matrix.h"
#include "workers.h"

namespace fused_rank {

enum class Fault {
  none,
  out_of_bounds,  // AddressSanitizer: the order names a row that is not there
  bad_bool,       // UBSan: a flag that is neither true nor false
  race,           // ThreadSanitizer: two threads take themselves for the same worker, and share its scratch
  wrong_number,   // the comparison with the definition: another parameter
};
inline Fault fault = Fault::none;

inline Fault fault_named(const char* name) {
  const char* names[] = {"none", "out_of_bounds", "bad_bool", "race", "wrong_number"};
  for (int f = 0; f < 5; ++f)
    if (std::strcmp(name, names[f]) == 0) return static_cast<Fault>(f);
  std::abort();
}

inline void seed_fault(PairInput& input) {
  if (fault == Fault::out_of_bounds) input.order.query.back() = static_cast<int32_t>(input.query.rows);
  const unsigned char neither = 7;
  if (fault == Fault::bad_bool) std::memcpy(&input.normalize, &neither, 1);
}

class SharingWorkers final : public ThreadWorkers {
 public:
  using ThreadWorkers::ThreadWorkers;

 private:
  void run_one(const std::function<void(int)>& body, int worker) override {
    body(fault == Fault::race ? 0 : worker);
  }
};

}  // namespace fused_rank
