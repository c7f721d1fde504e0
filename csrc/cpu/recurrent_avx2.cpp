#include "recurrent_cells.h"
#include "recurrent_kernels.h"

#include <immintrin.h>

namespace fwdkern {

namespace {

constexpr int kLanes = 8;
constexpr int kVectors = 2;
constexpr int kPanel = kLanes * kVectors;
constexpr int kRows = 6;  // 6 x 2 sums + 2 weights + 1 input in 16 registers

// Rows of the product in some panels side by side: one row alone needs several of them to keep the units busy.
template <int Rows, int Panels>
void tile(const float* in, int64_t depth, const float* packed, int64_t panels, float* out) {
    constexpr int kSums = Panels * kVectors;
    __m256 sum[Rows][kSums];
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 16
        for (int v = 0; v < kSums; ++v) sum[r][v] = _mm256_setzero_ps();
    for (int64_t k = 0; k < depth; ++k) {
        __m256 weight[kSums];
#pragma GCC unroll 16
        for (int v = 0; v < kSums; ++v)
            weight[v] = _mm256_loadu_ps(packed + (v / kVectors * depth + k) * kPanel + v % kVectors * kLanes);
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) {
            const __m256 value = _mm256_set1_ps(in[r * depth + k]);
#pragma GCC unroll 16
            for (int v = 0; v < kSums; ++v) sum[r][v] = _mm256_fmadd_ps(value, weight[v], sum[r][v]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 16
        for (int v = 0; v < kSums; ++v) _mm256_storeu_ps(out + r * panels * kPanel + v * kLanes, sum[r][v]);
}

template <int Rows, int Panels>
void rows_of(const float* in, int64_t depth, const float* packed, int64_t panels, float* out) {
    int64_t p = 0;
    for (; p + Panels <= panels; p += Panels)
        tile<Rows, Panels>(in, depth, packed + p * depth * kPanel, panels, out + p * kPanel);
    for (; p < panels; ++p) tile<Rows, 1>(in, depth, packed + p * depth * kPanel, panels, out + p * kPanel);
}

using Tile = void (*)(const float*, int64_t, const float*, int64_t, float*);

constexpr Tile kFew[kRows - 1] = {rows_of<1, 3>, rows_of<2, 2>, rows_of<3, 1>, rows_of<4, 1>, rows_of<5, 1>};
constexpr Tile kRest[kRows - 1] = {tile<1, 1>, tile<2, 1>, tile<3, 1>, tile<4, 1>, tile<5, 1>};

void multiply(const float* in, int64_t rows, int64_t depth, const float* packed, int64_t panels, float* out) {
    if (rows < kRows) {
        kFew[rows - 1](in, depth, packed, panels, out);
        return;
    }
    // A panel stays in the first cache while all rows meet it.
    for (int64_t p = 0; p < panels; ++p) {
        const float* weight = packed + p * depth * kPanel;
        int64_t r = 0;
        for (; r + kRows <= rows; r += kRows)
            tile<kRows, 1>(in + r * depth, depth, weight, panels, out + (r * panels + p) * kPanel);
        if (r < rows) kRest[rows - r - 1](in + r * depth, depth, weight, panels, out + (r * panels + p) * kPanel);
    }
}

}  // namespace

const RecurrentKernels recurrent_kernels_avx2 = {
    kRows, kPanel, multiply, scale, finish, {step_tanh, step_relu, step_lstm, step_gru}};

}  // namespace fwdkern
