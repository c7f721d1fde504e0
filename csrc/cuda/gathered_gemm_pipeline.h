#pragma once

#include "gathered_gemm_geometry.h"
#include "instructions.h"

namespace fwdkern::cuda {

// What the kernels are told of a call, or of the part of its positions that scratch has room for.
struct GemmArguments {
    Maps in, out;
    RowList out_rows;  // of the part
    const void* weight;
    const float* row_scale;
    const Term* terms;     // [segments, capacity]
    const int32_t* count;  // [segments], terms of each
    int64_t capacity;
    int64_t groups;
    int64_t width;  // output channels of a group
    int64_t slices;
    int row_blocks;  // of a segment
    bool accumulate;
    bool in_aligned, out_aligned;  // rows begin at multiples of 16 bytes; of four elements
};

// A block's share: output rows first .. first + rows of a segment, slices from `slice`.
struct Share {
    int64_t segment, group, first, slice;
    int rows;
};

template <class T>
FWDKERN_HD Share share_of(const GemmArguments& call, int64_t x, int64_t y) {
    const int64_t segment = x / call.row_blocks, position = segment / call.groups, group = segment % call.groups;
    const Span span = rows_of(call.out_rows, position, group, call.groups, call.width);
    const int64_t first = span.begin + x % call.row_blocks * T::kRows, left = span.end - first;
    return {segment, group, first, y * T::kSlices, static_cast<int>(left < T::kRows ? left : T::kRows)};
}

// One thread's copies into the stages, step after step.
template <class T>
struct Loader {
    using In = typename T::In;
    static constexpr bool kThroughRegisters = T::kTermsInWord == 2;  // no asynchronous copy is as small as bfloat16

    const GemmArguments& call;
    const Term* terms;
    int count;  // terms
    uint32_t shared;
    int thread;
    int64_t slice;                       // the first that the thread copies, where maps are aligned
    const char* weights[T::kColumns];  // a column of the first row of weights; null if there is no such output row
    uint32_t held[kThroughRegisters ? T::kColumns * T::kWeightCopies : 1];

    FWDKERN_DEVICE Loader(const GemmArguments& call, const Share& share, uint32_t shared)
        : call(call), terms(call.terms + share.segment * call.capacity), count(call.count[share.segment]),
          shared(shared), thread(thread_in_block()), slice(share.slice) {
        FWDKERN_UNROLL
        for (int i = 0; i < T::kColumns; ++i) {
            const int row = weight_copy<T>(thread, i, 0).row;
            weights[i] = nullptr;
            if (row < share.rows) {
                const int64_t column = call.out_rows.channel[share.first + row] - share.group * call.width;
                weights[i] = static_cast<const char*>(call.weight) + column * T::kWeightBytes;
            }
        }
    }

    FWDKERN_DEVICE int steps() const { return (count + T::kDepth - 1) / T::kDepth; }

    // Terms beyond the last are zeros, and so will be what is copied for them.
    FWDKERN_DEVICE void ask_for_list(int step) const {
        const int term = step * T::kDepth + thread;
        if (step < steps() && thread < T::kDepth)
            copy_async_or_zeros<16>(shared + list_of<T>(step) + thread * static_cast<int>(sizeof(Term)), terms + term,
                                    term < count);
    }

    FWDKERN_DEVICE void ask_for_operands(int step) {
        if (step >= steps()) return;
        const uint32_t list = shared + list_of<T>(step), stage = shared + stage_of<T>(step);
        const int left = count - step * T::kDepth;  // terms
        thread = anew(thread);
        if (call.in_aligned)
            copy_maps(list, stage, left);
        else
            copy_maps_one_by_one(list, stage, left);
        if constexpr (kThroughRegisters)
            hold_weights(list, left);
        else
            copy_weights(list, stage, left);
    }

    // What had to pass through registers and was asked for with the step's other operands.
    FWDKERN_DEVICE void store_operands(int step) {
        if constexpr (kThroughRegisters) {
            if (step >= steps()) return;
            const uint32_t stage = shared + stage_of<T>(step);
            thread = anew(thread);
            FWDKERN_UNROLL
            for (int column = 0; column < T::kColumns; ++column) {
                if (!weights[column]) continue;
                FWDKERN_UNROLL
                for (int i = 0; i < T::kWeightCopies; ++i) {
                    const WeightCopy copy = weight_copy<T>(thread, column, i);
                    store_shared_32(stage + weight_place<T>(copy.row, copy.word), held[column * T::kWeightCopies + i]);
                }
            }
        }
    }

private:
    FWDKERN_DEVICE static int64_t map_of(uint32_t list, int term) {
        return load_shared_64(list + term * static_cast<int>(sizeof(Term)));
    }

    FWDKERN_DEVICE static int64_t weights_of(uint32_t list, int term) {
        return load_shared_64(list + term * static_cast<int>(sizeof(Term)) + 8);
    }

    FWDKERN_DEVICE void copy_maps(uint32_t list, uint32_t stage, int left) const {
        const int64_t first = slice + map_copy<T>(thread, 0).slice, slices = call.slices - first;
        if (slices >= T::kPerCopy)
            copy_maps<true>(list, stage, left, first, 16);
        else
            copy_maps<false>(list, stage, left, slices > 0 ? first : 0,
                             slices > 0 ? static_cast<int>(slices * sizeof(In)) : 0);
    }

    // Copies of some of their bytes take more instructions.
    template <bool whole>
    FWDKERN_DEVICE void copy_maps(uint32_t list, uint32_t stage, int left, int64_t first, int bytes) const {
        const char* maps = static_cast<const char*>(call.in.data) + first * static_cast<int64_t>(sizeof(In));
        constexpr int kTogether = T::kMapCopies < 4 ? T::kMapCopies : 4;
        FWDKERN_UNROLL
        for (int i = 0; i < T::kMapCopies; i += kTogether) {
            int64_t map[kTogether];
            FWDKERN_UNROLL
            for (int j = 0; j < kTogether; ++j) map[j] = map_of(list, map_copy<T>(thread, i + j).term);
            FWDKERN_UNROLL
            for (int j = 0; j < kTogether; ++j) {
                const MapCopy copy = map_copy<T>(thread, i + j);
                const uint32_t target = stage + map_place<T>(copy.term, copy.slice);
                if (whole)
                    copy_async_or_zeros<16>(target, maps + map[j], copy.term < left);
                else
                    copy_async<16>(target, maps + map[j], copy.term < left ? bytes : 0);
            }
        }
    }

    FWDKERN_DEVICE void copy_maps_one_by_one(uint32_t list, uint32_t stage, int left) const {
        FWDKERN_UNROLL_BY(1)
        for (int element = thread; element < T::kDepth * T::kSlices; element += T::kThreads) {
            const int term = element / T::kSlices, within = element % T::kSlices;
            const bool there = term < left && slice + within < call.slices;
            const char* source = static_cast<const char*>(call.in.data) + map_of(list, term) +
                                 (there ? (slice + within) * static_cast<int64_t>(sizeof(In)) : 0);
            if constexpr (sizeof(In) == 4)
                copy_async_or_zeros<4>(stage + map_place<T>(term, within), source, there);
            else
                store_shared_16(stage + map_place<T>(term, within), there ? load_global_16(source) : uint16_t{0});
        }
    }

    FWDKERN_DEVICE void copy_weights(uint32_t list, uint32_t stage, int left) const {
        constexpr int kTogether = T::kWeightCopies < 4 ? T::kWeightCopies : 4;
        FWDKERN_UNROLL
        for (int column = 0; column < T::kColumns; ++column) {
            if (!weights[column]) continue;
            FWDKERN_UNROLL
            for (int i = 0; i < T::kWeightCopies; i += kTogether) {
                int64_t row[kTogether];
                FWDKERN_UNROLL
                for (int j = 0; j < kTogether; ++j)
                    row[j] = weights_of(list, weight_copy<T>(thread, column, i + j).word);
                FWDKERN_UNROLL
                for (int j = 0; j < kTogether; ++j) {
                    const WeightCopy copy = weight_copy<T>(thread, column, i + j);
                    copy_async_or_zeros<4>(stage + weight_place<T>(copy.row, copy.word), weights[column] + row[j],
                                           copy.word < left);
                }
            }
        }
    }

    FWDKERN_DEVICE void hold_weights(uint32_t list, int left) {
        FWDKERN_UNROLL
        for (int column = 0; column < T::kColumns; ++column) {
            FWDKERN_UNROLL
            for (int i = 0; i < T::kWeightCopies; ++i) held[column * T::kWeightCopies + i] = 0;
            if (!weights[column]) continue;
            FWDKERN_UNROLL
            for (int i = 0; i < T::kWeightCopies; ++i) {
                const int term = weight_copy<T>(thread, column, i).word * 2;
                uint32_t low = 0, high = 0;
                if (term < left) low = load_global_16(weights[column] + weights_of(list, term));
                if (term + 1 < left) high = load_global_16(weights[column] + weights_of(list, term + 1));
                held[column * T::kWeightCopies + i] = low | high << 16;
            }
        }
    }
};

}  // namespace fwdkern::cuda
