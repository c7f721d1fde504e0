#include "fwdkern/parallel.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace fwdkern {

namespace {

constexpr int kMaxThreads = 256;
constexpr int64_t kStepsPerBand = 16;

struct alignas(64) Band {
    std::atomic<int64_t> next;
    int64_t end;
};

struct Job {
    ParallelBody body;
    void* context;
    int threads;
    int64_t step;
    std::atomic<int> joined;
    Band bands[kMaxThreads];

    void divide(ParallelBody body_of, void* context_of, int threads_of, int64_t items) {
        body = body_of;
        context = context_of;
        threads = threads_of;
        step = std::max<int64_t>(1, items / threads / kStepsPerBand);
        joined.store(0, std::memory_order_relaxed);
        for (int i = 0; i < threads; ++i) {
            bands[i].next.store(items * i / threads, std::memory_order_relaxed);
            bands[i].end = items * (i + 1) / threads;
        }
    }

    void work(int thread) {
        for (int i = 0; i < threads; ++i) {
            Band& band = bands[(thread + i) % threads];
            for (;;) {
                const int64_t begin = band.next.fetch_add(step, std::memory_order_relaxed);
                if (begin >= band.end) break;
                body(context, thread, begin, std::min(begin + step, band.end));
            }
        }
    }
};

class Pool {
public:
    // Held by the caller that owns the workers for one job.
    std::mutex owner;
    Job job;

    void run(int threads) {
        while (static_cast<int>(workers_.size()) < threads - 1) {
            const int thread = static_cast<int>(workers_.size()) + 1;
            workers_.emplace_back([this, thread, seen = generation_] { loop(thread, seen); });
        }
        {
            std::lock_guard<std::mutex> lock(mutex_);
            joinable_ = threads;
            ++generation_;
        }
        wake_.notify_all();
        job.work(0);
        std::unique_lock<std::mutex> lock(mutex_);
        // All work is taken: a worker that a busy machine has not woken yet is not waited for.
        joinable_ = 0;
        done_.wait(lock, [this] { return running_ == 0; });
    }

private:
    void loop(int thread, uint64_t seen) {
        for (;;) {
            {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return generation_ != seen; });
                seen = generation_;
                // Others sleep on; they must not look at the job, which may already be the next one.
                if (thread >= joinable_) continue;
                ++running_;
            }
            job.work(thread);
            std::lock_guard<std::mutex> lock(mutex_);
            if (--running_ == 0) done_.notify_one();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::vector<std::thread> workers_;
    uint64_t generation_ = 0;
    int joinable_ = 0;
    int running_ = 0;
};

// A forked child has the parent's pool but not its threads, so it makes its own. Pools are never destroyed:
// joining threads while a process exits is a known source of hangs.
Pool& pool() {
    static std::mutex mutex;
    static Pool* instance = nullptr;
    static pid_t made_by = 0;
    std::lock_guard<std::mutex> lock(mutex);
    if (made_by != getpid()) {
        instance = new Pool;
        made_by = getpid();
    }
    return *instance;
}

// The OpenMP runtime that torch, or another library, has brought into the process, where there is one. Its threads
// spin for milliseconds after each of torch's operators; threads of our own would have to share the cores with them.
using HostParallel = void (*)(void (*work)(void*), void* data, unsigned threads, unsigned flags);

HostParallel host_parallel() {
    static const auto found = reinterpret_cast<HostParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    static const pid_t made_by = getpid();
    // In a forked child the runtime would wait for the parent's threads.
    return made_by == getpid() ? found : nullptr;
}

void join(void* job) {
    Job& own = *static_cast<Job*>(job);
    own.work(own.joined.fetch_add(1, std::memory_order_relaxed));
}

}  // namespace

void parallel_ranges(int threads, int64_t items, ParallelBody body, void* context) {
    threads = static_cast<int>(std::min<int64_t>({threads, items, kMaxThreads}));
    if (threads > 1) {
        if (const HostParallel parallel = host_parallel()) {
            Job job;
            job.divide(body, context, threads, items);
            parallel(join, &job, threads, 0);
            return;
        }
        Pool& workers = pool();
        std::unique_lock<std::mutex> owner(workers.owner, std::try_to_lock);
        if (owner.owns_lock()) {
            workers.job.divide(body, context, threads, items);
            workers.run(threads);
            return;
        }
    }
    if (items > 0) body(context, 0, 0, items);
}

}  // namespace fwdkern
