#pragma once

#include "check.h"
#include "gathered_gemm_pipeline.h"
#include "gathered_gemm_terms.h"
#include "gathered_gemm_tiles.h"

namespace fwdkern::cuda {

inline bool is_aligned(const Maps& maps, int64_t bytes) {
    return reinterpret_cast<uintptr_t>(maps.data) % bytes == 0 && maps.stride * bytes_of(maps.type) % bytes == 0;
}

// Calls use(Gemm()) for what a call multiplies.
template <class Use>
auto with_gemm(Precision precision, Type in, Use use) {
    switch (effective_precision(in, precision)) {
        case Precision::tf32:
            if (in == Type::float32) return use(Gemm<Precision::tf32, float>());
            if (in == Type::bfloat16) return use(Gemm<Precision::tf32, Bfloat16>());
            return use(Gemm<Precision::tf32, Float16>());
        case Precision::bf16:
            if (in == Type::float32) return use(Gemm<Precision::bf16, float>());
            return use(Gemm<Precision::bf16, Bfloat16>());
        default:
            if (in == Type::float32) return use(Gemm<Precision::ieee, float>());
            if (in == Type::bfloat16) return use(Gemm<Precision::ieee, Bfloat16>());
            return use(Gemm<Precision::ieee, Float16>());
    }
}

inline int64_t scratch_of_position(int64_t capacity, int64_t groups) {
    return groups * (capacity * static_cast<int64_t>(sizeof(Term)) + static_cast<int64_t>(sizeof(int32_t)));
}

// Bytes of one weight.
inline int64_t weight_bytes_of(const GatheredGemm& call) {
    return effective_precision(call.in.type, call.precision) == Precision::bf16 ? 2 : 4;
}

// The lists of `chunk` positions in scratch.
struct ListsInScratch {
    int64_t capacity, chunk;
    Term* terms;
    int32_t* count;

    ListsInScratch(void* scratch, int64_t bytes, int64_t positions, int64_t list_capacity, int64_t groups)
        : capacity(list_capacity), chunk(bytes / scratch_of_position(capacity, groups)) {
        if (chunk > positions) chunk = positions;
        terms = static_cast<Term*>(scratch);
        count = reinterpret_cast<int32_t*>(terms + chunk * groups * capacity);
    }
};

// `launch.terms(body, grid)` lists the terms of the positions.
template <class Launch>
const char* launch_list_terms(const TermLists& call, const Launch& launch) {
    if (call.positions == 0) return nullptr;
    const ListsInScratch lists(call.scratch, call.scratch_bytes, call.positions,
                               list_capacity(call.tap_count, call.in_channels, call.groups), call.groups);
    const ListTerms body = {call.in_rows, call.in_index, call.taps, call.tap_count, call.groups, call.in_channels,
                            call.map_bytes, call.weight_bytes, lists.capacity, lists.terms, lists.count};
    return launch.terms(body, Grid{call.positions * call.groups, 1});
}

// Launches for as many positions at a time as scratch has room for: lists their terms, unless they are listed, then
// `launch.gemm(gemm, shape, arguments, grid)` multiplies. `shared_bytes`: that a block may have.
template <class Launch>
const char* launch_gathered_gemm(const GatheredGemm& call, int64_t shared_bytes, const Launch& launch) {
    const int64_t positions = call.out_rows.positions;
    if (call.slices == 0 || positions == 0 || call.out.rows == 0) return nullptr;
    const int64_t width = call.out_channels / call.groups;
    const ListsInScratch lists(call.scratch, call.scratch_bytes, positions,
                               list_capacity(call.tap_count, call.in_channels, call.groups), call.groups);
    for (int64_t begin = 0; begin < positions; begin += lists.chunk) {
        const int64_t now = lists.chunk < positions - begin ? lists.chunk : positions - begin;
        const ListTerms list = {call.in_rows, call.in_index,
                                call.taps ? call.taps + begin * call.tap_count : nullptr, call.tap_count,
                                call.groups, call.in_channels,
                                call.in.stride * bytes_of(call.in.type), width * weight_bytes_of(call),
                                lists.capacity, lists.terms, lists.count};
        if (const char* error = call.listed ? nullptr : launch.terms(list, Grid{now * call.groups, 1})) return error;
        const char* error = with_gemm(call.precision, call.in.type, [&](auto gemm) {
            using G = decltype(gemm);
            const TileShape shape = tile_shape<G::kPrecision, typename G::In>(
                {positions * call.groups, call.out.rows, call.slices, width, shared_bytes});
            const int64_t row_blocks = blocks_of(width, shape.rows);
            const GemmArguments arguments = {call.in, call.out,
                                             {call.out_rows.offset + begin, call.out_rows.channel, now},
                                             call.weight, call.row_scale,
                                             lists.terms, lists.count, lists.capacity, call.groups, width, call.slices,
                                             static_cast<int>(row_blocks), call.accumulate,
                                             is_aligned(call.in, 16),
                                             is_aligned(call.out, 4 * bytes_of(call.out.type))};
            return launch.gemm(gemm, shape, arguments,
                               Grid{now * call.groups * row_blocks, blocks_of(call.slices, shape.slices)});
        });
        if (error) return error;
    }
    return nullptr;
}

}  // namespace fwdkern::cuda
