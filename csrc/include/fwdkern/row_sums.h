#pragma once

#include <cstdint>

namespace fwdkern {

// Of every row of maps [rows, columns], contiguous: adds addend[row] to its elements if addend is not null, then
// sum[row] of the elements and magnitude[row] of their absolute values, rounding as pairwise summation does.
void row_sums(float* maps, int64_t rows, int64_t columns, const float* addend, float* sum, float* magnitude,
              int threads);

}  // namespace fwdkern
