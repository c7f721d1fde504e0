#pragma once

#include <cstdint>

#include "fwdkern/isa.h"
#include "fwdkern/maps.h"

namespace fwdkern {

// out[r] = sum over j in [offset[r], offset[r + 1]) of coefficient[j] * in[index[j]]   (+ the previous out[r]
// where accumulate); offset [out rows + 1], coefficient and index [terms].
struct RowCombine {
    Maps in;
    Maps out;
    const int64_t* offset;
    const int32_t* index;
    const float* coefficient;
    int64_t terms;
    bool accumulate;
    int64_t slices;
};

// Null if offsets and indices are consistent and in range, else what is wrong.
const char* row_combine_error(const RowCombine& call);

// The call must be free of errors. Bit for bit the same for any thread count.
void row_combine(const RowCombine& call, Isa isa, int threads);

}  // namespace fwdkern
