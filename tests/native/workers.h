// Threads without a pool: started for every call and joined at its end, so that a race detector sees just the
// ordering that the engine itself asks for.
#pragma once

#include <thread>
#include <vector>

#include "cpu/parallel.h"

namespace fused_rank {

class ThreadWorkers : public Workers {
 public:
  explicit ThreadWorkers(int count) : count_(count) {}
  int count() const override { return count_; }

 protected:
  void run_all(const std::function<void(int)>& body) override {
    std::vector<std::thread> threads;
    for (int worker = 0; worker < count_; ++worker)
      threads.emplace_back([&, worker] { run_one(body, worker); });
    for (std::thread& thread : threads) thread.join();
  }
  virtual void run_one(const std::function<void(int)>& body, int worker) { body(worker); }

 private:
  int count_;
};

}  // namespace fused_rank
