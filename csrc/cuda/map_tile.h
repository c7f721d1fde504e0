#pragma once

#include <cstdint>

#include "block.h"
#include "number.h"

// How blocks of threads cover maps [rows, slices]: a thread has kWide elements of a row at a time.
namespace fwdkern::cuda {

constexpr int kMapThreads = 256;
constexpr int kWide = 8;  // one access of 16 bytes in two-byte types, two in float32

// Elements first, first + step, ... of a row, as far as they lie before `slices`.
struct Elements {
    int64_t first, step;

    FWDKERN_HD bool all_before(int64_t slices) const { return first + (kWide - 1) * step < slices; }
    FWDKERN_HD int64_t operator[](int i) const { return first + i * step; }
};

struct MapTile {
    int64_t rows, slices;
    int across;    // threads of a row, a power of two
    bool aligned;  // every row begins at a multiple of 16 bytes, so that kWide neighbours move together

    FWDKERN_HD int64_t rows_of_block() const { return kMapThreads / across; }
    FWDKERN_HD int64_t slices_of_block() const { return static_cast<int64_t>(across) * kWide; }
    FWDKERN_HD Grid grid() const {
        return {blocks_of(rows, rows_of_block()), blocks_of(slices, slices_of_block())};
    }

    // May lie beyond the last row.
    FWDKERN_HD int64_t row(int64_t block, int thread) const { return block * rows_of_block() + thread / across; }

    FWDKERN_HD Elements elements(int64_t block, int thread) const {
        const int64_t begin = block * slices_of_block();
        const int lane = thread % across;
        return aligned ? Elements{begin + lane * kWide, 1} : Elements{begin + lane, across};
    }
};

inline bool is_aligned(const Maps& maps) {
    return (reinterpret_cast<uintptr_t>(maps.data) | maps.stride * bytes_of(maps.type)) % 16 == 0;
}

inline MapTile map_tile(int64_t rows, int64_t slices, bool aligned) {
    int across = 1;
    while (across < kMapThreads && across * kWide < slices) across *= 2;
    return {rows, slices, across, aligned};
}

struct alignas(16) Bits128 {
    uint32_t word[4];
};

// kWide elements of a row; 0 for those beyond `slices`.
template <class T>
FWDKERN_HD void load_wide(const T* row, Elements at, int64_t slices, float (&value)[kWide]) {
    if (at.step == 1 && at.all_before(slices)) {
        union {
            Bits128 part[kWide * sizeof(T) / 16];
            T element[kWide];
        } wide;
        FWDKERN_UNROLL
        for (unsigned i = 0; i < kWide * sizeof(T) / 16; ++i)
            wide.part[i] = reinterpret_cast<const Bits128*>(row + at.first)[i];
        FWDKERN_UNROLL
        for (int i = 0; i < kWide; ++i) value[i] = widen(wide.element[i]);
        return;
    }
    FWDKERN_UNROLL
    for (int i = 0; i < kWide; ++i) value[i] = at[i] < slices ? widen(row[at[i]]) : 0.0f;
}

template <class T>
FWDKERN_HD void store_wide(T* row, Elements at, int64_t slices, const float (&value)[kWide]) {
    if (at.step == 1 && at.all_before(slices)) {
        union {
            Bits128 part[kWide * sizeof(T) / 16];
            T element[kWide];
        } wide;
        FWDKERN_UNROLL
        for (int i = 0; i < kWide; ++i) wide.element[i] = narrow<T>(value[i]);
        FWDKERN_UNROLL
        for (unsigned i = 0; i < kWide * sizeof(T) / 16; ++i)
            reinterpret_cast<Bits128*>(row + at.first)[i] = wide.part[i];
        return;
    }
    FWDKERN_UNROLL
    for (int i = 0; i < kWide; ++i)
        if (at[i] < slices) row[at[i]] = narrow<T>(value[i]);
}

// A row of maps whose type is only known at run time: all threads of a launch take the same branch.
FWDKERN_HD void load_row(const Maps& maps, int64_t row, Elements at, int64_t slices, float (&value)[kWide]) {
    if (maps.type == Type::float32)
        load_wide(static_cast<const float*>(maps.data) + row * maps.stride, at, slices, value);
    else if (maps.type == Type::bfloat16)
        load_wide(static_cast<const Bfloat16*>(maps.data) + row * maps.stride, at, slices, value);
    else
        load_wide(static_cast<const Float16*>(maps.data) + row * maps.stride, at, slices, value);
}

FWDKERN_HD void store_row(const Maps& maps, int64_t row, Elements at, int64_t slices, const float (&value)[kWide]) {
    if (maps.type == Type::float32)
        store_wide(static_cast<float*>(maps.data) + row * maps.stride, at, slices, value);
    else if (maps.type == Type::bfloat16)
        store_wide(static_cast<Bfloat16*>(maps.data) + row * maps.stride, at, slices, value);
    else
        store_wide(static_cast<Float16*>(maps.data) + row * maps.stride, at, slices, value);
}

}  // namespace fwdkern::cuda
