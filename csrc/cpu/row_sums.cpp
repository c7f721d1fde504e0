#include "fwdkern/row_sums.h"

#include <algorithm>
#include <cmath>

#include "fwdkern/parallel.h"

namespace fwdkern {

namespace {

// Partial sums that a compiler keeps in vectors; elements between two additions to the double.
constexpr int64_t kLanes = 16;
constexpr int64_t kBlock = 512;
// Elements that outweigh waking a thread.
constexpr int64_t kWorkPerThread = 1 << 17;

void sum_row(float* row, int64_t columns, float addend, bool add, float* sum, float* magnitude) {
    double total = 0, total_magnitude = 0;
    for (int64_t begin = 0; begin < columns; begin += kBlock) {
        const int64_t size = std::min(kBlock, columns - begin);
        float* block = row + begin;
        if (add)
            for (int64_t i = 0; i < size; ++i) block[i] += addend;
        float part[kLanes] = {}, part_magnitude[kLanes] = {};
        int64_t i = 0;
        for (; i + kLanes <= size; i += kLanes)
            for (int64_t lane = 0; lane < kLanes; ++lane) {
                part[lane] += block[i + lane];
                part_magnitude[lane] += std::fabs(block[i + lane]);
            }
        for (; i < size; ++i) {
            part[i % kLanes] += block[i];
            part_magnitude[i % kLanes] += std::fabs(block[i]);
        }
        for (int64_t lane = 0; lane < kLanes; ++lane) {
            total += part[lane];
            total_magnitude += part_magnitude[lane];
        }
    }
    *sum = static_cast<float>(total);
    *magnitude = static_cast<float>(total_magnitude);
}

}  // namespace

void row_sums(float* maps, int64_t rows, int64_t columns, const float* addend, float* sum, float* magnitude,
              int threads) {
    threads = static_cast<int>(std::clamp<int64_t>(rows * columns / kWorkPerThread, 1, std::max(threads, 1)));
    parallel_for(threads, rows, [&](int, int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
            sum_row(maps + r * columns, columns, addend ? addend[r] : 0.0f, addend, sum + r, magnitude + r);
    });
}

}  // namespace fwdkern
