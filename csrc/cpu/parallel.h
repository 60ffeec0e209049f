// Threads, as the engine sees them: a fixed number of workers that draw tasks from a common counter.
// Which worker runs a task is left to chance, so no result may depend on it: a task writes only what it alone owns.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace fused_rank {

class Workers {
 public:
  virtual ~Workers() = default;
  virtual int count() const = 0;

  // f(task, worker) for every task in [0, tasks).
  template <class F>
  void for_each(int64_t tasks, F&& f) {
    if (tasks <= 0) return;
    if (tasks == 1 || count() == 1) {
      for (int64_t t = 0; t < tasks; ++t) f(t, 0);
      return;
    }
    std::atomic<int64_t> next{0};
    run_all([&](int worker) {
      for (int64_t t; (t = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) f(t, worker);
    });
  }

  // f(begin, end) over [0, n) in pieces of `grain`.
  template <class F>
  void for_ranges(int64_t n, int64_t grain, F&& f) {
    for_each((n + grain - 1) / grain,
             [&](int64_t t, int) { f(t * grain, t * grain + grain < n ? t * grain + grain : n); });
  }

 protected:
  virtual void run_all(
      const std::function<void(int)>& body) = 0;  // body(worker) once on each worker, then join
};

}  // namespace fused_rank
