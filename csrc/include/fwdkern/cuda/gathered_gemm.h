#pragma once

#include <cstdint>

#include "fwdkern/cuda/maps.h"

namespace fwdkern::cuda {

// Compressed sparse rows: the rows of position p are offset[p] .. offset[p + 1], channels strictly ascending.
struct RowList {
    const int64_t* offset;
    const int32_t* channel;
    int64_t positions;
};

// What both operands are rounded to before they meet; sums are float32.
enum class Precision : int { ieee = 0, tf32 = 1, bf16 = 2 };

// out[r] = row_scale[r] * sum over taps t and rows i of position taps[q, t] of
//          weight[t, channel of i, channel of r] * in[i]      (+ the previous out[r] where accumulate)
// for every row r of every output position q. Channels meet only inside their group. float16 maps are multiplied in
// tf32, which holds them exactly, where bf16 is asked for; weights are then wanted in tf32.
struct GatheredGemm {
    Maps in;
    RowList in_rows;
    Maps out;  // `rows` may be more than the list has; those are not touched
    RowList out_rows;
    const int32_t* taps;  // [out positions, tap_count], -1 where a tap lies outside
    int64_t tap_count;
    const void* weight;  // [tap_count, in_channels, out_channels / groups], in the type of weight_of(precision)
    int64_t in_channels;
    int64_t out_channels;
    int64_t groups;
    const float* row_scale;  // [out rows] or null
    bool accumulate;
    int64_t slices;
    const int32_t* in_index;  // where each row of in_rows lies in `in`; null if listed row i is row i
    Precision precision;
    void* scratch;  // at a multiple of 16 bytes
    int64_t scratch_bytes;
    bool listed;  // scratch holds the terms of all positions already, as list_terms left them
};

// The precision that a call multiplies in: ieee wants float32 weights, tf32 float32 ones already rounded to it (tensor
// cores drop the bits beyond it, which would shrink every layer's maps), bf16 bfloat16 ones.
Precision effective_precision(Type in, Precision precision);

// Bytes of scratch for a call of these sizes. With less it takes more launches, down to the need of one position.
int64_t gathered_gemm_scratch(int64_t positions, int64_t tap_count, int64_t in_channels, int64_t groups);

const char* gathered_gemm_error(const GatheredGemm& call);
const char* gathered_gemm(const GatheredGemm& call, void* stream);
const char* gathered_gemm_emulated(const GatheredGemm& call);

// What a call lists first, for all its positions: as many calls as have these in common find them listed.
struct TermLists {
    RowList in_rows;
    const int32_t* in_index;
    const int32_t* taps;  // [positions, tap_count]
    int64_t positions;
    int64_t tap_count;
    int64_t in_channels;
    int64_t groups;
    int64_t map_bytes;     // from one row of `in` to the next
    int64_t weight_bytes;  // from one in channel's weights to the next one's
    void* scratch;         // at a multiple of 16 bytes
    int64_t scratch_bytes;
};

// Bytes of scratch for them.
int64_t list_terms_scratch(int64_t positions, int64_t tap_count, int64_t in_channels, int64_t groups);

const char* list_terms_error(const TermLists& call);
const char* list_terms(const TermLists& call, void* stream);
const char* list_terms_emulated(const TermLists& call);

}  // namespace fwdkern::cuda
