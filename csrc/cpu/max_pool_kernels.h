#pragma once

// The only header of the instruction-set files; it must not define functions.
#include <cstdint>

namespace fwdkern {

struct PoolKernels {
    // One window: out[c] = the largest of from[j][c] over j < count, winner[c] = place[j] of the first of them.
    void (*largest)(const float* const* from, const uint8_t* place, int64_t count, int64_t channels, float* out,
                    uint8_t* winner);
    // One input position: in[c] = sum over j < count of from[j][c] where winner[j][c] == place[j].
    void (*pulled)(const float* const* from, const uint8_t* const* winner, const uint8_t* place, int64_t count,
                   int64_t channels, float* in);
};

extern const PoolKernels pool_kernels_scalar;
extern const PoolKernels pool_kernels_avx2;
extern const PoolKernels pool_kernels_avx512;

}  // namespace fwdkern
