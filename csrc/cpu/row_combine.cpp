#include "fwdkern/row_combine.h"

#include <algorithm>
#include <vector>

#include "bfloat16.h"
#include "fwdkern/parallel.h"
#include "kernels_of.h"

namespace fwdkern {

namespace {

// Multiply-adds that outweigh waking a thread; fewer than in a matrix product, since they wait for memory.
constexpr int64_t kWorkPerThread = 1 << 17;

}  // namespace

const char* row_combine_error(const RowCombine& call) {
    if (call.offset[0] != 0 || call.offset[call.out.rows] != call.terms)
        return "the offsets do not run from 0 to the number of terms";
    for (int64_t r = 0; r < call.out.rows; ++r)
        if (call.offset[r] > call.offset[r + 1]) return "the offsets do not ascend";
    for (int64_t j = 0; j < call.terms; ++j)
        if (call.index[j] < 0 || call.index[j] >= call.in.rows) return "an index is out of range";
    return nullptr;
}

void row_combine(const RowCombine& call, Isa isa, int threads) {
    if (call.slices == 0) return;
    const auto combine = combine_kernels_of(isa).combine[static_cast<int>(call.in.storage)];
    const int64_t row_bytes = call.in.stride * (call.in.storage == Storage::float32 ? 4 : 2);
    const bool narrow = call.out.storage == Storage::bfloat16;
    const int64_t work = (call.terms + call.out.rows) * call.slices;
    threads = static_cast<int>(std::clamp<int64_t>(work / kWorkPerThread, 1, std::max(threads, 1)));
    std::vector<std::vector<float>> sums(threads, std::vector<float>(narrow ? call.slices : 0));
    parallel_for(threads, call.out.rows, [&](int thread, int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            const int64_t first = call.offset[r];
            float* out = narrow ? sums[thread].data() : reinterpret_cast<float*>(call.out.row(r));
            uint16_t* stored = reinterpret_cast<uint16_t*>(call.out.row(r));
            if (narrow && call.accumulate) widen(stored, call.slices, out);
            combine(static_cast<const char*>(call.in.data), row_bytes, call.index + first, call.coefficient + first,
                    call.offset[r + 1] - first, call.slices, call.accumulate, out);
            if (narrow) round_to_bfloat16(out, call.slices, stored);
        }
    });
}

}  // namespace fwdkern
