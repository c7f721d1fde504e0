#pragma once

#include <cstdint>

#include "fwdkern/cuda/maps.h"

namespace fwdkern::cuda {

// out[r, s] = value[r] where s = column[r], else 0; value and column [out rows], column -1 for none.
struct Seed {
    const float* value;
    const int32_t* column;
    Maps out;
    int64_t slices;
};

const char* seed_error(const Seed& call);
const char* seed(const Seed& call, void* stream);
const char* seed_emulated(const Seed& call);

}  // namespace fwdkern::cuda
