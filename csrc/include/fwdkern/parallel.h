#pragma once

#include <cstdint>

namespace fwdkern {

using ParallelBody = void (*)(void* context, int thread, int64_t begin, int64_t end);

// Calls body on disjoint ranges that cover [0, items), on at most `threads` threads, the caller being thread 0.
// Each thread works through a contiguous band in steps and then helps with the bands of others, so a body whose
// result for one item does not depend on the range it came in is deterministic. The body must not throw.
// A call from inside a body, or while another caller has the pool, runs on the caller alone.
void parallel_ranges(int threads, int64_t items, ParallelBody body, void* context);

template <typename F>
void parallel_for(int threads, int64_t items, const F& body) {
    parallel_ranges(
        threads, items,
        [](void* context, int thread, int64_t begin, int64_t end) {
            (*static_cast<const F*>(context))(thread, begin, end);
        },
        const_cast<F*>(&body));
}

}  // namespace fwdkern
