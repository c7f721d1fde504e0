#pragma once

#include <cstdint>

#include "fwdkern/cuda/maps.h"

namespace fwdkern::cuda {

// out[r] = sum over j in [offset[r], offset[r + 1]) of coefficient[j] * in[index[j]]   (+ the previous out[r]
// where accumulate); offset [out rows + 1], coefficient and index [terms]. Sums are float32.
struct RowCombine {
    Maps in;
    Maps out;
    const int64_t* offset;
    const int32_t* index;
    const float* coefficient;
    bool accumulate;
    int64_t slices;
};

const char* row_combine_error(const RowCombine& call);
const char* row_combine(const RowCombine& call, void* stream);
const char* row_combine_emulated(const RowCombine& call);

}  // namespace fwdkern::cuda
