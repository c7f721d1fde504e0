#include "fwdkern/parallel.h"

#include <atomic>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

namespace {

bool covers_once(int threads, int64_t items) {
    std::vector<std::atomic<int>> visits(items);
    std::atomic<bool> thread_in_range{true};
    fwdkern::parallel_for(threads, items, [&](int thread, int64_t begin, int64_t end) {
        if (thread < 0 || thread >= threads) thread_in_range = false;
        for (int64_t i = begin; i < end; ++i) ++visits[i];
    });
    for (const auto& v : visits)
        if (v != 1) return false;
    return thread_in_range;
}

}  // namespace

int main() {
    for (int round = 0; round < 50; ++round)
        for (int threads : {1, 4, 2, 7})
            for (int64_t items : {0, 1, 3, 1000}) CHECK(covers_once(threads, items));

    // Callers that come while the pool is taken work alone.
    std::vector<std::thread> callers;
    std::atomic<int> good{0};
    for (int i = 0; i < 4; ++i)
        callers.emplace_back([&] {
            for (int round = 0; round < 200; ++round) good += covers_once(3, 100);
        });
    for (auto& caller : callers) caller.join();
    CHECK(good == 800);

    fwdkern::parallel_for(3, 30, [&](int, int64_t, int64_t) { CHECK(covers_once(2, 10)); });

    const pid_t child = fork();
    if (child == 0) _exit(covers_once(3, 100) ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
