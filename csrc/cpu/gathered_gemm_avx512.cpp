#include "gathered_gemm_kernels.h"

#include <immintrin.h>

namespace fwdkern {

namespace {

constexpr int kRows = 8;
constexpr int kVectors = 3;  // 8 x 3 sums + 3 inputs + 1 weight in 32 registers
constexpr int kLanes = 16;

// Eight ascending columns mostly lie within two vectors, from which one two-source permutation picks them;
// panels of wider spread take several such windows.
constexpr int kWindow = 2 * kLanes;
constexpr int kWindowsAtOnce = 128;
constexpr int kWeightRowsAtOnce = 4;

struct Window {
    __m512i index;
    int64_t base;
    int64_t panel;
    __mmask8 lanes;
};

template <int Rows>
void pack_rows(const float* const* weight_rows, int64_t k, int64_t depth, const Window* windows, int count,
               __mmask16 low, __mmask16 high, float* packed) {
    for (int w = 0; w < count; ++w) {
        const Window& window = windows[w];
        float* to = packed + (window.panel * depth + k) * kRows;
#pragma GCC unroll 4
        for (int r = 0; r < Rows; ++r) {
            const float* from = weight_rows[k + r] + window.base;
            const __m512 values = _mm512_permutex2var_ps(_mm512_maskz_loadu_ps(low, from), window.index,
                                                         _mm512_maskz_loadu_ps(high, from + kLanes));
            _mm256_mask_storeu_ps(to + r * kRows, window.lanes, _mm512_castps512_ps256(values));
        }
    }
}

// A weight row is read once for all panels: by panels, every line of it would be fetched again and out of order.
void pack_windows(const float* const* weight_rows, int64_t depth, const Window* windows, int count, int64_t width,
                  float* packed) {
    const __mmask16 low = width >= kLanes ? 0xffff : static_cast<__mmask16>((1u << width) - 1);
    const __mmask16 high = width >= kWindow  ? 0xffff
                           : width <= kLanes ? 0
                                             : static_cast<__mmask16>((1u << (width - kLanes)) - 1);
    int64_t k = 0;
    for (; k + kWeightRowsAtOnce <= depth; k += kWeightRowsAtOnce)
        pack_rows<kWeightRowsAtOnce>(weight_rows, k, depth, windows, count, low, high, packed);
    for (; k < depth; ++k) pack_rows<1>(weight_rows, k, depth, windows, count, low, high, packed);
}

void pack(const float* const* weight_rows, int64_t depth, const int32_t* columns, const int32_t* panel_begin,
          int64_t panels, int64_t width, float* packed) {
    Window windows[kWindowsAtOnce];
    int count = 0;
    for (int64_t panel = 0; panel < panels; ++panel) {
        int m = panel_begin[panel];
        const int end = panel_begin[panel + 1];
        const __mmask8 all = static_cast<__mmask8>((1u << (end - m)) - 1);
        const __m256i column = _mm256_maskz_loadu_epi32(all, columns + m);
        while (m < end) {
            // A window that would reach beyond the row starts earlier instead.
            const int64_t last = width > kWindow ? width - kWindow : 0;
            const int64_t base = columns[m] < last ? columns[m] : last;
            const __m256i local = _mm256_sub_epi32(column, _mm256_set1_epi32(static_cast<int>(base)));
            const __mmask8 here = _mm256_mask_cmplt_epu32_mask(all, local, _mm256_set1_epi32(kWindow));
            if (count == kWindowsAtOnce) {
                pack_windows(weight_rows, depth, windows, count, width, packed);
                count = 0;
            }
            windows[count++] = {_mm512_castsi256_si512(local), base, panel, here};
            while (m < end && columns[m] < base + kWindow) ++m;
        }
    }
    pack_windows(weight_rows, depth, windows, count, width, packed);
}

__m512 load(__mmask16 mask, const float* from) { return _mm512_maskz_loadu_ps(mask, from); }

__m512 load(__mmask16 mask, const uint16_t* from) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

template <typename T, int Rows, int Vectors>
void tile(const float* packed, const void* const* in_rows, int64_t depth, int64_t begin, __mmask16 tail,
          const float* scale, bool accumulate, float* out, int64_t out_stride) {
    __m512 sum[Rows][Vectors];
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m)
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) sum[m][v] = _mm512_setzero_ps();
    for (int64_t k = 0; k < depth; ++k) {
        const T* in = static_cast<const T*>(in_rows[k]) + begin;
        __m512 value[Vectors];
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) value[v] = load(v + 1 < Vectors ? 0xffff : tail, in + v * kLanes);
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) {
            const __m512 weight = _mm512_set1_ps(packed[k * kRows + m]);
#pragma GCC unroll 8
            for (int v = 0; v < Vectors; ++v) sum[m][v] = _mm512_fmadd_ps(weight, value[v], sum[m][v]);
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) {
        const __m512 factor = _mm512_set1_ps(scale ? scale[m] : 1.0f);
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) {
            const __mmask16 mask = v + 1 < Vectors ? 0xffff : tail;
            float* to = out + m * out_stride + begin + v * kLanes;
            const __m512 before = accumulate ? _mm512_maskz_loadu_ps(mask, to) : _mm512_setzero_ps();
            _mm512_mask_storeu_ps(to, mask, _mm512_fmadd_ps(factor, sum[m][v], before));
        }
    }
}

template <typename T>
using Tile = void (*)(const float*, const void* const*, int64_t, int64_t, __mmask16, const float*, bool, float*,
                      int64_t);

template <typename T, int Rows>
constexpr Tile<T> kTilesOfRows[kVectors] = {tile<T, Rows, 1>, tile<T, Rows, 2>, tile<T, Rows, 3>};

template <typename T>
constexpr const Tile<T>* kTiles[kRows] = {kTilesOfRows<T, 1>, kTilesOfRows<T, 2>, kTilesOfRows<T, 3>,
                                          kTilesOfRows<T, 4>, kTilesOfRows<T, 5>, kTilesOfRows<T, 6>,
                                          kTilesOfRows<T, 7>, kTilesOfRows<T, 8>};

template <typename T>
void multiply(const float* packed, const void* const* in_rows, int64_t depth, int rows, int64_t slices,
              const float* scale, bool accumulate, float* out, int64_t out_stride) {
    const Tile<T>* tiles = kTiles<T>[rows - 1];
    const int64_t vectors = (slices + kLanes - 1) / kLanes;
    const int64_t blocks = (vectors + kVectors - 1) / kVectors;
    const int last = static_cast<int>(slices - (vectors - 1) * kLanes);
    const __mmask16 tail = static_cast<__mmask16>((1u << last) - 1);
    for (int64_t block = 0; block < blocks; ++block) {
        // Blocks of nearly equal width: 4 vectors as 2 + 2 keep the units busier than 3 + 1.
        const int64_t begin = vectors * block / blocks;
        const int64_t end = vectors * (block + 1) / blocks;
        tiles[end - begin - 1](packed, in_rows, depth, begin * kLanes, end == vectors ? tail : 0xffff, scale,
                               accumulate, out, out_stride);
    }
}

}  // namespace

const GemmKernels gemm_kernels_avx512 = {kRows, 256, pack, {multiply<float>, multiply<uint16_t>}};

}  // namespace fwdkern
