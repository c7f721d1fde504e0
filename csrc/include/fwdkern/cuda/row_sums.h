#pragma once

#include <cstdint>

#include "fwdkern/cuda/maps.h"

namespace fwdkern::cuda {

// Of every row of float32 maps: adds addend[row] to its elements if addend is not null, then sums the elements, and
// their magnitudes, of each part of the row.
struct RowSums {
    Maps maps;
    int64_t columns;
    const float* addend;
    float* sum;        // [rows, parts], parts as row_sum_parts says
    float* magnitude;  // likewise
};

// How many parts a row has.
int64_t row_sum_parts(int64_t columns);

const char* row_sums_error(const RowSums& call);
const char* row_sums(const RowSums& call, void* stream);
const char* row_sums_emulated(const RowSums& call);

}  // namespace fwdkern::cuda
