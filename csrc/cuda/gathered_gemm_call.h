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

// Launches for as many positions at a time as scratch has room for: `launch.terms(body, grid)` lists their terms, then
// `launch.gemm(gemm, shape, arguments, grid)` multiplies. `shared_bytes`: that a block may have.
template <class Launch>
const char* launch_gathered_gemm(const GatheredGemm& call, int64_t shared_bytes, const Launch& launch) {
    const int64_t positions = call.out_rows.positions;
    if (call.slices == 0 || positions == 0 || call.out.rows == 0) return nullptr;
    const int64_t width = call.out_channels / call.groups;
    const int64_t capacity = list_capacity(call.tap_count, call.in_channels, call.groups);
    const int64_t room = call.scratch_bytes / scratch_of_position(capacity, call.groups);
    const int64_t chunk = room < positions ? room : positions;
    const auto terms = static_cast<Term*>(call.scratch);
    const auto count = reinterpret_cast<int32_t*>(terms + chunk * call.groups * capacity);
    const int64_t weight_bytes = effective_precision(call.in.type, call.precision) == Precision::bf16 ? 2 : 4;
    for (int64_t begin = 0; begin < positions; begin += chunk) {
        const int64_t now = chunk < positions - begin ? chunk : positions - begin;
        const int32_t* taps = call.taps ? call.taps + begin * call.tap_count : nullptr;
        const ListTerms list = {call.in_rows, call.in_index,
                                taps, call.tap_count,
                                call.groups, call.in_channels,
                                call.in.stride * bytes_of(call.in.type), width * weight_bytes,
                                capacity, terms, count};
        if (const char* error = launch.terms(list, Grid{now * call.groups, 1})) return error;
        const char* error = with_gemm(call.precision, call.in.type, [&](auto gemm) {
            using G = decltype(gemm);
            const TileShape shape = tile_shape<G::kPrecision, typename G::In>(
                {positions * call.groups, call.out.rows, call.slices, width, shared_bytes});
            const int64_t row_blocks = blocks_of(width, shape.rows);
            const GemmArguments arguments = {call.in, call.out,
                                             {call.out_rows.offset + begin, call.out_rows.channel, now},
                                             call.weight, call.row_scale,
                                             terms, count, capacity, call.groups, width, call.slices,
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
