#pragma once

#include <cstdint>

#include "fwdkern/cuda/maps.h"

namespace fwdkern::cuda {

// out[k, s] = sum over j in [offset[s], offset[s + 1]) of coefficient[j] * pulled[index[j], k]; pulled
// [in rows, targets], out [targets, slices], offset [slices + 1], coefficient and index [terms]. Sums are float32.
struct Contract {
    Maps pulled;
    Maps out;
    const int64_t* offset;
    const int32_t* index;
    const float* coefficient;
    int64_t slices;
};

const char* contract_error(const Contract& call);
const char* contract(const Contract& call, void* stream);
const char* contract_emulated(const Contract& call);

}  // namespace fwdkern::cuda
