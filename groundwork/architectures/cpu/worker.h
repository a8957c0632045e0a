// The one thread on which oneDNN does everything.

#pragma once

#include <omp.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace architectures {

// A thread that runs what other threads hand in, first come, first served. It never ends, since it
// would have to outlive all of XLA's threads.
class Worker {
 public:
  // Runs `job` on the thread, waits for it, and throws what it throws.
  void run(const std::function<void()>& job) {
    Task task{&job};
    pid_t owner = owner_;
    if (owner != 0 && owner != getpid())  // a forked child has no copy of the thread
      throw std::runtime_error("forked after oneDNN was used: start processes by spawn");
    std::unique_lock lock(mutex_);
    if (owner_ == 0) {
      std::thread([this] { serve(); }).detach();
      owner_ = getpid();
    }
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

  // oneDNN waits for as many threads as OpenMP says it may have, so it must get as many.
  static void form_team() {
    omp_set_dynamic(0);
    if (omp_get_max_active_levels() < 1) omp_set_max_active_levels(1);
    omp_set_num_threads(std::min(omp_get_max_threads(), omp_get_num_procs()));
    int formed = 1;
#pragma omp parallel
#pragma omp single
    formed = omp_get_num_threads();
    omp_set_num_threads(formed);
  }

  void serve() {
    // Subnormal numbers are slow: flush them to zero and read them as zero, as XLA's threads do.
    // OpenMP's threads inherit this.
    _mm_setcsr(_mm_getcsr() | 0x8040);
    form_team();
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
      task->finished.notify_one();  // under the lock, as the task dies when its owner wakes up
    }
  }

  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Task*> queue_;
  std::atomic<pid_t> owner_ = 0;  // the process that started the thread, at the first job
};

}  // namespace architectures
