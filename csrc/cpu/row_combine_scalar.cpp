#include "row_combine_kernels.h"

#include <cstring>

namespace fwdkern {

namespace {

float load(const float* from) { return *from; }

float load(const uint16_t* from) {
    const uint32_t bits = static_cast<uint32_t>(*from) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

template <typename T>
void combine(const char* in, int64_t row_bytes, const int32_t* index, const float* coefficient, int64_t terms,
             int64_t slices, bool accumulate, float* out) {
    if (!accumulate) std::memset(out, 0, slices * sizeof *out);
    for (int64_t j = 0; j < terms; ++j) {
        const T* from = reinterpret_cast<const T*>(in + index[j] * row_bytes);
        for (int64_t s = 0; s < slices; ++s) out[s] += coefficient[j] * load(from + s);
    }
}

}  // namespace

const CombineKernels combine_kernels_scalar = {{combine<float>, combine<uint16_t>}};

}  // namespace fwdkern
