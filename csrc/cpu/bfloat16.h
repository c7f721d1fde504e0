#pragma once

#include <cstdint>

namespace fwdkern {

void widen(const uint16_t* from, int64_t count, float* to);

// To nearest, ties to even; NaN stays NaN.
void round_to_bfloat16(const float* from, int64_t count, uint16_t* to);

}  // namespace fwdkern
