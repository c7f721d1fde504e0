#pragma once

// The only header of the instruction-set files beside recurrent_cells.h; it must not define functions.
#include <cstdint>

namespace fwdkern {

struct RecurrentKernels {
    int rows;   // best number of rows of a product
    int panel;  // columns of a panel of the weight
    // out[r] = weight @ in[r]; in [rows, depth] contiguous, packed [panels, depth, panel], out [rows, panels * panel].
    void (*multiply)(const float* in, int64_t rows, int64_t depth, const float* packed, int64_t panels, float* out);
    // out = in * gain, gain may be null.
    void (*scale)(const float* in, const float* gain, int64_t count, float* out);
    // out += keep * before + gain * product, keep may be null.
    void (*finish)(const float* product, const float* gain, const float* keep, const float* before, int64_t count,
                   float* out);
    // One step of one example, by cell. driven and recurrent [gates * hidden]; fields: where each of the cell's fields
    // goes, [hidden]; state and exposed [hidden] are overwritten.
    void (*step[4])(const float* driven, const float* recurrent, int64_t hidden, float* const* fields, float* state,
                    float* exposed);
};

extern const RecurrentKernels recurrent_kernels_scalar;
extern const RecurrentKernels recurrent_kernels_avx2;
extern const RecurrentKernels recurrent_kernels_avx512;

}  // namespace fwdkern
