#include "gathered_gemm_kernels.h"

#include <immintrin.h>

namespace fwdkern {

namespace {

constexpr int kRows = 6;
constexpr int kVectors = 2;  // 6 x 2 sums + 2 inputs + 2 weights in 16 registers
constexpr int kLanes = 8;

void pack(const float* const* weight_rows, int64_t depth, const int32_t* columns, const int32_t* panel_begin,
          int64_t panels, int64_t, float* packed) {
    for (int64_t p = 0; p < panels; ++p) {
        const int32_t* column = columns + panel_begin[p];
        const int rows = panel_begin[p + 1] - panel_begin[p];
        for (int64_t k = 0; k < depth; ++k, packed += kRows)
            for (int m = 0; m < rows; ++m) packed[m] = weight_rows[k][column[m]];
    }
}

alignas(32) constexpr int32_t kMasks[2 * kLanes] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

__m256i mask_of(int lanes) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kMasks + kLanes - lanes));
}

__m256 load(const float* from) { return _mm256_loadu_ps(from); }

__m256 load(const uint16_t* from) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

__m256 load_tail(__m256i mask, int, const float* from) { return _mm256_maskload_ps(from, mask); }

// AVX2 has no masked load of 16-bit lanes.
__m256 load_tail(__m256i, int lanes, const uint16_t* from) {
    alignas(16) uint16_t buffer[kLanes] = {};
    for (int i = 0; i < lanes; ++i) buffer[i] = from[i];
    return load(buffer);
}

template <typename T, int Rows, int Vectors, bool Tail>
void tile(const float* packed, const void* const* in_rows, int64_t depth, int64_t begin, int last,
          const float* scale, bool accumulate, float* out, int64_t out_stride) {
    const __m256i mask = mask_of(last);
    __m256 sum[Rows][Vectors];
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m)
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) sum[m][v] = _mm256_setzero_ps();
    for (int64_t k = 0; k < depth; ++k) {
        const T* in = static_cast<const T*>(in_rows[k]) + begin;
        __m256 value[Vectors];
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v)
            value[v] = Tail && v + 1 == Vectors ? load_tail(mask, last, in + v * kLanes) : load(in + v * kLanes);
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) {
            const __m256 weight = _mm256_set1_ps(packed[k * kRows + m]);
#pragma GCC unroll 8
            for (int v = 0; v < Vectors; ++v) sum[m][v] = _mm256_fmadd_ps(weight, value[v], sum[m][v]);
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) {
        const __m256 factor = _mm256_set1_ps(scale ? scale[m] : 1.0f);
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) {
            const __m256i here = Tail && v + 1 == Vectors ? mask : mask_of(kLanes);
            float* to = out + m * out_stride + begin + v * kLanes;
            const __m256 before = accumulate ? _mm256_maskload_ps(to, here) : _mm256_setzero_ps();
            _mm256_maskstore_ps(to, here, _mm256_fmadd_ps(factor, sum[m][v], before));
        }
    }
}

using Tile = void (*)(const float*, const void* const*, int64_t, int64_t, int, const float*, bool, float*, int64_t);

template <typename T, int Rows>
constexpr Tile kTilesOfRows[2 * kVectors] = {tile<T, Rows, 1, false>, tile<T, Rows, 2, false>,
                                             tile<T, Rows, 1, true>, tile<T, Rows, 2, true>};

template <typename T>
constexpr const Tile* kTiles[kRows] = {kTilesOfRows<T, 1>, kTilesOfRows<T, 2>, kTilesOfRows<T, 3>,
                                       kTilesOfRows<T, 4>, kTilesOfRows<T, 5>, kTilesOfRows<T, 6>};

template <typename T>
void multiply(const float* packed, const void* const* in_rows, int64_t depth, int rows, int64_t slices,
              const float* scale, bool accumulate, float* out, int64_t out_stride) {
    const Tile* tiles = kTiles<T>[rows - 1];
    const int64_t vectors = (slices + kLanes - 1) / kLanes;
    const int last = static_cast<int>(slices - (vectors - 1) * kLanes);
    for (int64_t begin = 0; begin < vectors; begin += kVectors) {
        const int width = vectors - begin < kVectors ? static_cast<int>(vectors - begin) : kVectors;
        const bool tail = begin + width == vectors && last < kLanes;
        tiles[width - 1 + (tail ? kVectors : 0)](packed, in_rows, depth, begin * kLanes, tail ? last : kLanes, scale,
                                                 accumulate, out, out_stride);
    }
}

}  // namespace

const GemmKernels gemm_kernels_avx2 = {kRows, 256, pack, {multiply<float>, multiply<uint16_t>}};

}  // namespace fwdkern
