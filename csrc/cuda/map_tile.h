#pragma once

#include <cstdint>
#include <type_traits>

#include "block.h"
#include "number.h"

// How blocks of threads cover maps [rows, slices]: a thread has kWide elements of a row at a time.
namespace fwdkern::cuda {

constexpr int kMapThreads = 256;
constexpr int kWide = 8;  // one access of 16 bytes in two-byte types, two in float32

// kWide elements of a row: first, first + step, ... as far as they lie before the row's end. Where kAligned, step is 1,
// rows begin at multiples of 16 bytes and end at multiples of kWide elements.
template <bool kAligned>
struct Elements {
    int64_t first, step;

    FWDKERN_HD int64_t operator[](int i) const { return first + i * step; }
};

struct MapTile {
    int64_t rows, slices;
    int across;  // threads of a row, a power of two

    FWDKERN_HD int64_t rows_of_block() const { return kMapThreads / across; }
    FWDKERN_HD int64_t slices_of_block() const { return static_cast<int64_t>(across) * kWide; }
    FWDKERN_HD Grid grid() const { return {blocks_of(rows, rows_of_block()), blocks_of(slices, slices_of_block())}; }

    // May lie beyond the last row, as elements may beyond the last slice.
    FWDKERN_HD int64_t row(int64_t block, int thread) const { return block * rows_of_block() + thread / across; }

    template <bool kAligned>
    FWDKERN_HD Elements<kAligned> elements(int64_t block, int thread) const {
        const int64_t begin = block * slices_of_block();
        const int lane = thread % across;
        // Neighbouring threads access neighbouring elements either way.
        if (kAligned) return {begin + lane * kWide, 1};
        return {begin + lane, across};
    }
};

inline MapTile map_tile(int64_t rows, int64_t slices) {
    int across = 1;
    while (across < kMapThreads && across * kWide < slices) across *= 2;
    return {rows, slices, across};
}

inline bool is_aligned(const Maps& maps, int64_t slices) {
    return (reinterpret_cast<uintptr_t>(maps.data) | static_cast<uintptr_t>(maps.stride * bytes_of(maps.type))) % 16 ==
               0 &&
           slices % kWide == 0;
}

// Calls use(bool constant) with whether all rows are as Elements<true> wants them.
template <class Use>
const char* with_alignment(bool aligned, Use use) {
    return aligned ? use(std::true_type()) : use(std::false_type());
}

// kWide neighbours of a type that fill whole 16 bytes.
template <class T>
union Wide {
    Bits128 part[kWide * sizeof(T) / 16];
    T element[kWide];
};

// 0 for elements beyond `end`.
template <class T, bool kAligned>
FWDKERN_HD void load_wide(const T* row, Elements<kAligned> at, int64_t end, float (&value)[kWide]) {
    if constexpr (kAligned) {
        Wide<T> wide;
        FWDKERN_UNROLL
        for (unsigned i = 0; i < kWide * sizeof(T) / 16; ++i) wide.part[i] = load_16(row + at.first, i);
        FWDKERN_UNROLL
        for (int i = 0; i < kWide; ++i) value[i] = widen(wide.element[i]);
    } else {
        FWDKERN_UNROLL
        for (int i = 0; i < kWide; ++i) value[i] = at[i] < end ? widen(row[at[i]]) : 0.0f;
    }
}

template <class T, bool kAligned>
FWDKERN_HD void store_wide(T* row, Elements<kAligned> at, int64_t end, const float (&value)[kWide]) {
    if constexpr (kAligned) {
        Wide<T> wide;
        FWDKERN_UNROLL
        for (int i = 0; i < kWide; ++i) wide.element[i] = narrow<T>(value[i]);
        FWDKERN_UNROLL
        for (unsigned i = 0; i < kWide * sizeof(T) / 16; ++i) store_16(row + at.first, i, wide.part[i]);
    } else {
        FWDKERN_UNROLL
        for (int i = 0; i < kWide; ++i)
            if (at[i] < end) row[at[i]] = narrow<T>(value[i]);
    }
}

// total += the sum over k of coefficient[k] * row index[k] of maps [rows, end]; all `count` rows are under way at once.
template <int count, class T, bool kAligned>
FWDKERN_HD void add_rows(const Maps& maps, const int32_t* index, const float* coefficient, Elements<kAligned> at,
                         int64_t end, float (&total)[kWide]) {
    float value[count][kWide], factor[count];
    FWDKERN_UNROLL
    for (int k = 0; k < count; ++k) {
        factor[k] = coefficient[k];
        load_wide(static_cast<const T*>(maps.data) + index[k] * maps.stride, at, end, value[k]);
    }
    FWDKERN_UNROLL
    for (int k = 0; k < count; ++k) {
        FWDKERN_UNROLL
        for (int i = 0; i < kWide; ++i) total[i] += factor[k] * value[k][i];
    }
}

// The same for terms begin to end.
template <class T, bool kAligned>
FWDKERN_HD void sum_rows(const Maps& maps, const int32_t* index, const float* coefficient, int64_t begin,
                         int64_t end_term, Elements<kAligned> at, int64_t end, float (&total)[kWide]) {
    constexpr int kTerms = kAligned && sizeof(T) == 2 ? 4 : 2;
    int64_t j = begin;
    for (; j + kTerms <= end_term; j += kTerms)
        add_rows<kTerms, T>(maps, index + j, coefficient + j, at, end, total);
    for (; j < end_term; ++j) add_rows<1, T>(maps, index + j, coefficient + j, at, end, total);
}

// A row of maps whose type is only known at run time: all threads of a launch take the same branch.
template <bool kAligned>
FWDKERN_HD void load_row(const Maps& maps, int64_t row, Elements<kAligned> at, int64_t end, float (&value)[kWide]) {
    if (maps.type == Type::float32)
        load_wide(static_cast<const float*>(maps.data) + row * maps.stride, at, end, value);
    else if (maps.type == Type::bfloat16)
        load_wide(static_cast<const Bfloat16*>(maps.data) + row * maps.stride, at, end, value);
    else
        load_wide(static_cast<const Float16*>(maps.data) + row * maps.stride, at, end, value);
}

template <bool kAligned>
FWDKERN_HD void store_row(const Maps& maps, int64_t row, Elements<kAligned> at, int64_t end,
                          const float (&value)[kWide]) {
    if (maps.type == Type::float32)
        store_wide(static_cast<float*>(maps.data) + row * maps.stride, at, end, value);
    else if (maps.type == Type::bfloat16)
        store_wide(static_cast<Bfloat16*>(maps.data) + row * maps.stride, at, end, value);
    else
        store_wide(static_cast<Float16*>(maps.data) + row * maps.stride, at, end, value);
}

FWDKERN_HD void store_element(const Maps& maps, int64_t row, int64_t column, float value) {
    const int64_t at = row * maps.stride + column;
    if (maps.type == Type::float32)
        static_cast<float*>(maps.data)[at] = value;
    else if (maps.type == Type::bfloat16)
        static_cast<Bfloat16*>(maps.data)[at] = narrow<Bfloat16>(value);
    else
        static_cast<Float16*>(maps.data)[at] = narrow<Float16>(value);
}

}  // namespace fwdkern::cuda
