// One thread for everything that oneDNN does.

#pragma once

#include <omp.h>
#include <xmmintrin.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace architectures {

// One thread that runs what others hand in, first come first served. Never ends: it would have to
// outlive every thread of XLA's.
class Worker {
 public:
  void start(int threads) {
    std::lock_guard lock(mutex_);
    if (started_) return;
    started_ = true;
    std::thread([this, threads] { serve(threads); }).detach();
  }

  // Runs `job` there, waits, and passes on what it throws.
  void run(const std::function<void()>& job) {
    Task task{&job};
    std::unique_lock lock(mutex_);
    if (!started_) throw std::runtime_error("called before it was started");
    queue_.push_back(&task);
    arrived_.notify_one();
    task.finished.wait(lock, [&] { return task.done; });
    if (task.error) std::rethrow_exception(task.error);
  }

 private:
  struct Task {
    const std::function<void()>* job;
    std::condition_variable finished = {};
    bool done = false;
    std::exception_ptr error = nullptr;
  };

  void serve(int threads) {
    // As XLA's own threads do; OpenMP's threads inherit it. Subnormal numbers are slow.
    _mm_setcsr(_mm_getcsr() | 0x8040);  // flush to zero, denormals are zero
    if (threads > 0) omp_set_num_threads(threads);
    std::unique_lock lock(mutex_);
    for (;;) {
      arrived_.wait(lock, [&] { return !queue_.empty(); });
      Task* task = queue_.front();
      queue_.pop_front();
      lock.unlock();
      try {
        (*task->job)();
      } catch (...) {
        task->error = std::current_exception();
      }
      lock.lock();
      task->done = true;
      task->finished.notify_one();  // under the lock: the task dies when its owner wakes up
    }
  }

  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Task*> queue_;
  bool started_ = false;
};

}  // namespace architectures
