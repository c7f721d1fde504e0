#include "max_pool_kernels.h"

namespace fwdkern {

namespace {

void largest(const float* const* from, const uint8_t* place, int64_t count, int64_t channels, float* out,
             uint8_t* winner) {
    for (int64_t c = 0; c < channels; ++c) {
        float best = from[0][c];
        uint8_t at = place[0];
        for (int64_t j = 1; j < count; ++j) {
            const float value = from[j][c];
            if (value > best || value != value) {
                best = value;
                at = place[j];
            }
        }
        out[c] = best;
        winner[c] = at;
    }
}

void pulled(const float* const* from, const uint8_t* const* winner, const uint8_t* place, int64_t count,
            int64_t channels, float* in) {
    for (int64_t c = 0; c < channels; ++c) {
        float sum = 0;
        for (int64_t j = 0; j < count; ++j)
            if (winner[j][c] == place[j]) sum += from[j][c];
        in[c] = sum;
    }
}

}  // namespace

const PoolKernels pool_kernels_scalar = {largest, pulled};

}  // namespace fwdkern
