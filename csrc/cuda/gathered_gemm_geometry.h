#pragma once

#include <cstdint>

#include "fwdkern/cuda/gathered_gemm.h"
#include "number.h"
#include "portable.h"

// Every index that gathered_gemm's kernels compute, for the GPU and for the tests that go through all of them.
//
// A segment is the output rows of one position and group. Its terms, pairs of an input row and a row of weights, are
// the depth of a product whose M are slices, because a row's slices lie together and are many, and whose N are output
// rows, because those are few. A block computes kSlices x kRows of it, kDepth terms in each step.
namespace fwdkern::cuda {

// Where a term's map and its row of weights begin, in bytes from the first.
struct alignas(16) Term {
    int64_t map, weight;
};

constexpr int kWarp = 32;
constexpr int kSwizzledRow = 128;         // bytes of an output row's weights in a step
constexpr int kWords = kSwizzledRow / 4;  // a word is one float32 or tf32 weight, or two in bfloat16
constexpr int kSwizzleAlignment = 1024;   // of a block of weights: eight rows
constexpr int kFragmentBytes = 32;        // of an output row's weights in one instruction
constexpr int kFragments = kSwizzledRow / kFragmentBytes;
constexpr int kFragmentSlices = 16;  // that one warp contributes to an instruction

template <Precision precision, class In_, int slices, int rows, int stages>
struct GemmTile {
    using In = In_;
    static constexpr Precision kPrecision = precision;
    static constexpr bool kTensorCores = precision != Precision::ieee;
    static constexpr int kSlices = slices, kRows = rows, kStages = stages;

    static constexpr int kTermsInWord = precision == Precision::bf16 ? 2 : 1;
    static constexpr int kDepth = kWords * kTermsInWord;
    static constexpr int kWeightBytes = 4 / kTermsInWord;
    // Plain threads have 8 slices x 4 rows each.
    static constexpr int kThreads = kTensorCores ? slices / kFragmentSlices * kWarp : slices / 8 * (rows / 4);
    static constexpr int kWarps = kThreads / kWarp;
    static constexpr int kBlocks = 512 / kThreads;  // of a multiprocessor, with 128 registers for a thread

    // Elements from one term's map to the next in shared memory: what a warp reads together lies in different banks.
    static constexpr int kInStride =
        slices + (!kTensorCores ? 0 : sizeof(In) == 4 && precision == Precision::bf16 ? 4 : 8);
    static constexpr int kPlainStride = rows + 8;  // likewise of float32 weights for plain threads
    static constexpr int kWeightsBytes = kTensorCores ? rows * kSwizzledRow : kWords * kPlainStride * 4;
    static constexpr int kMapsBytes = kDepth * kInStride * static_cast<int>(sizeof(In));
    static constexpr int kStageBytes =
        (kWeightsBytes + kMapsBytes + kSwizzleAlignment - 1) / kSwizzleAlignment * kSwizzleAlignment;
    static constexpr int kLists = 2 * (stages - 1);
    static constexpr int kListBytes = kDepth * static_cast<int>(sizeof(Term));
    // One alignment more, since dynamic shared memory begins anywhere.
    static constexpr int kSharedBytes = kSwizzleAlignment + stages * kStageBytes + kLists * kListBytes;

    static constexpr int kPerCopy = 16 / static_cast<int>(sizeof(In));  // slices that move together
    static constexpr int kCopiesInRow = slices / kPerCopy;
    static constexpr int kMapCopies = kDepth * kCopiesInRow / kThreads;  // of a thread in a step
    // Eight output rows are copied by one warp, or by several that share their words.
    static constexpr int kRowGroups = rows / 8;
    static constexpr int kColumns = kRowGroups > kWarps ? kRowGroups / kWarps : 1;  // output rows of a thread
    static constexpr int kUnitsAtOnce = kWarps > kRowGroups ? kWarps / kRowGroups : 1;
    static constexpr int kWeightCopies = kWords / 4 / kUnitsAtOnce;  // of a thread in a step for each of its rows

    static_assert(kThreads % kWarp == 0 && kThreads >= kDepth, "a thread loads a term");
    static_assert(kThreads % kCopiesInRow == 0 && kDepth * kCopiesInRow % kThreads == 0, "even shares of maps");
    static_assert(kWords / 4 % kUnitsAtOnce == 0, "even shares of weights");
    static_assert(kRowGroups * kUnitsAtOnce == kWarps * kColumns, "warps and groups of rows divide each other");
    static_assert(!kTensorCores || (slices % 64 == 0 && rows % 16 == 0), "warpgroups, and pairs of fragments");
    static_assert(stages * kStageBytes >= slices * rows * 4, "sums are turned over where operands were");
};

// -- pipeline --------------------------------------------------------------------------------------------------------

// In a step's turn the operands of step + stages - 1 are asked for, and the list of terms that as many steps later will
// be needed to ask for operands.
template <class T>
FWDKERN_HD int operands_asked_in(int step) {
    return step + T::kStages - 1;
}

template <class T>
FWDKERN_HD int list_asked_in(int step) {
    return step + T::kLists;
}

// Offsets in shared memory.
template <class T>
FWDKERN_HD uint32_t stage_of(int step) {
    return static_cast<uint32_t>(step % T::kStages * T::kStageBytes);
}

template <class T>
FWDKERN_HD uint32_t list_of(int step) {
    return static_cast<uint32_t>(T::kStages * T::kStageBytes + step % T::kLists * T::kListBytes);
}

// -- copies ----------------------------------------------------------------------------------------------------------

// Copy i of a thread: kPerCopy slices of a term's map, the same ones for every i.
struct MapCopy {
    int term, slice;
};

template <class T>
FWDKERN_HD MapCopy map_copy(int thread, int i) {
    return {thread / T::kCopiesInRow + i * (T::kThreads / T::kCopiesInRow), thread % T::kCopiesInRow * T::kPerCopy};
}

// Where an element of a step's maps lies in its stage, behind the weights.
template <class T>
FWDKERN_HD uint32_t map_place(int term, int slice) {
    constexpr int kSize = sizeof(typename T::In);
    return static_cast<uint32_t>(T::kWeightsBytes + (term * T::kInStride + slice) * kSize);
}

// The word that a thread copies for one of its output rows as its i-th. A warp takes eight rows by four words, which
// are 32 banks.
struct WeightCopy {
    int row, word;
};

template <class T>
FWDKERN_HD WeightCopy weight_copy(int thread, int column, int i) {
    const int warp = thread / kWarp, lane = thread % kWarp;
    return {(warp % T::kRowGroups + column * T::kWarps) * 8 + lane / 4,
            (warp / T::kRowGroups + i * T::kUnitsAtOnce) * 4 + lane % 4};
}

// Weights for tensor cores stand row by row, in units of 16 bytes that each row of eight permutes in its own way, as
// "128-byte swizzling" in the PTX manual.
FWDKERN_HD uint32_t swizzled(int row, int unit) {
    return static_cast<uint32_t>(row * kSwizzledRow + ((unit ^ (row % 8)) * 16));
}

template <class T>
FWDKERN_HD uint32_t weight_place(int row, int word) {
    if (T::kTensorCores) return swizzled(row, word / 4) + static_cast<uint32_t>(word % 4 * 4);
    return static_cast<uint32_t>((word * T::kPlainStride + row) * 4);
}

// -- operands of tensor cores ----------------------------------------------------------------------------------------

// What a lane holds of a warp's 16 slices x 32 bytes of depth, register by register, for mma.sync and wgmma alike.
// Registers hold one tf32 number each; of bfloat16 two, of this term and the next.
struct FragmentElement {
    int slice, term;
};

template <class T>
FWDKERN_HD FragmentElement map_fragment(int lane, int fragment, int reg) {
    const int group = lane / 4, within = lane % 4;
    return {group + reg % 2 * 8, (fragment * 8 + reg / 2 * 4 + within) * T::kTermsInWord};
}

// The row of eight slices whose address a lane gives, so that ldmatrix.trans.x4 leaves bfloat16 maps as above.
FWDKERN_HD FragmentElement matrix_row_of_maps(int lane, int fragment) {
    const int matrix = lane / 8;
    return {matrix % 2 * 8, fragment * 16 + matrix / 2 * 8 + lane % 8};
}

// The unit of 16 bytes whose address a lane gives, so that ldmatrix.x4 leaves the weights of 16 output rows as mma.sync
// wants them: registers 0 and 1 for the first eight rows, 2 and 3 for the others.
struct WeightUnit {
    int row, unit;
};

FWDKERN_HD WeightUnit matrix_row_of_weights(int lane, int pair, int fragment) {
    const int matrix = lane / 8;
    return {pair * 16 + matrix / 2 * 8 + lane % 8, fragment * 2 + matrix % 2};
}

// How wgmma is told of a stage's weights, which begin at a multiple of 1024 bytes of shared memory: address, bytes from
// eight rows to the next eight (both in units of 16), 128-byte swizzling. The other distance means nothing here.
FWDKERN_HD uint64_t weights_descriptor(uint32_t address) {
    constexpr uint64_t kIgnored = 1, kSwizzle128 = 1;
    return (address & 0x3ffff) >> 4 | kIgnored << 16 | uint64_t{8 * kSwizzledRow / 16} << 32 | kSwizzle128 << 62;
}

// The same, of the weights for one instruction.
FWDKERN_HD uint64_t fragment_descriptor(uint64_t descriptor, int fragment) {
    return descriptor + static_cast<uint64_t>(fragment * kFragmentBytes / 16);
}

// -- results ---------------------------------------------------------------------------------------------------------

// Sum i of a lane's four for eight output rows of a warp's 16 slices.
struct SumElement {
    int slice, row;
};

FWDKERN_HD SumElement sum_of(int lane, int i) { return {lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2}; }

// Bytes from the beginning of a warp's own part of shared memory, in which it turns its sums over: row by row, in units
// of four slices that each row permutes in its own way.
FWDKERN_HD uint32_t turned_place(int row, int slice) {
    return static_cast<uint32_t>((row * kFragmentSlices + ((slice / 4 ^ (row / 2 % 4)) * 4) + slice % 4) * 4);
}

// The four slices that a lane then writes, of every eighth row.
FWDKERN_HD SumElement written_by(int lane) { return {lane % 4 * 4, lane / 4}; }

// Plain threads: four output rows from `row`, slices slice .. slice + 4 and as many half a block further.
template <class T>
FWDKERN_HD SumElement plain_sums_of(int thread) {
    constexpr int kAcross = T::kSlices / 8;
    return {thread % kAcross * 4, thread / kAcross * 4};
}

// -- segments --------------------------------------------------------------------------------------------------------

struct Span {
    int64_t begin, end;
};

// The first of the ascending channels [begin, end) that is not below `low`.
FWDKERN_HD int64_t lower_bound(const int32_t* channel, Span rows, int64_t low) {
    while (rows.begin < rows.end) {
        const int64_t middle = rows.begin + (rows.end - rows.begin) / 2;
        if (channel[middle] < low)
            rows.begin = middle + 1;
        else
            rows.end = middle;
    }
    return rows.begin;
}

// The rows of a position whose channels belong to a group of `width` channels.
FWDKERN_HD Span rows_of(const RowList& list, int64_t position, int64_t group, int64_t groups, int64_t width) {
    const Span all = {list.offset[position], list.offset[position + 1]};
    if (groups == 1) return all;
    return {lower_bound(list.channel, all, group * width), lower_bound(list.channel, all, (group + 1) * width)};
}

// Terms that a segment may have; its list has room for them.
FWDKERN_HD int64_t list_capacity(int64_t tap_count, int64_t in_channels, int64_t groups) {
    return tap_count * (in_channels / groups);
}

}  // namespace fwdkern::cuda
