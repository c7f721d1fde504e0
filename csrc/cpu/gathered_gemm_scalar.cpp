#include "gathered_gemm_kernels.h"

#include <cstring>

namespace fwdkern {

namespace {

constexpr int kRows = 4;
constexpr int kSlices = 8;

void pack(const float* const* weight_rows, int64_t depth, const int32_t* columns, const int32_t* panel_begin,
          int64_t panels, int64_t, float* packed) {
    for (int64_t p = 0; p < panels; ++p) {
        const int32_t* column = columns + panel_begin[p];
        const int rows = panel_begin[p + 1] - panel_begin[p];
        for (int64_t k = 0; k < depth; ++k, packed += kRows)
            for (int m = 0; m < rows; ++m) packed[m] = weight_rows[k][column[m]];
    }
}

float load(const float* from) { return *from; }

float load(const uint16_t* from) {
    const uint32_t bits = static_cast<uint32_t>(*from) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

template <typename T>
void multiply(const float* packed, const void* const* in_rows, int64_t depth, int rows, int64_t slices,
              const float* scale, bool accumulate, float* out, int64_t out_stride) {
    for (int64_t begin = 0; begin < slices; begin += kSlices) {
        const int width = slices - begin < kSlices ? static_cast<int>(slices - begin) : kSlices;
        float sum[kRows][kSlices] = {};
        for (int64_t k = 0; k < depth; ++k) {
            const T* in = static_cast<const T*>(in_rows[k]) + begin;
            for (int m = 0; m < rows; ++m)
                for (int s = 0; s < width; ++s) sum[m][s] += packed[k * kRows + m] * load(in + s);
        }
        for (int m = 0; m < rows; ++m) {
            float* to = out + m * out_stride + begin;
            const float factor = scale ? scale[m] : 1.0f;
            for (int s = 0; s < width; ++s) to[s] = factor * sum[m][s] + (accumulate ? to[s] : 0.0f);
        }
    }
}

}  // namespace

const GemmKernels gemm_kernels_scalar = {kRows, 256, pack, {multiply<float>, multiply<uint16_t>}};

}  // namespace fwdkern
