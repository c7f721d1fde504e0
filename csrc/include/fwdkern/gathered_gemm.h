#pragma once

#include <cstdint>

#include "fwdkern/isa.h"
#include "fwdkern/maps.h"

namespace fwdkern {

// Compressed sparse rows: the rows of position p are offset[p] .. offset[p + 1], channels strictly ascending.
struct RowList {
    const int64_t* offset;
    const int32_t* channel;
    int64_t positions;
};

// out[r] = row_scale[r] * sum over taps t and rows i of position taps[q, t] of
//          weight[t, channel of i, channel of r] * in[i]      (+ the previous out[r] where accumulate)
// for every row r of every output position q. Channels meet only inside their group.
struct GatheredGemm {
    Maps in;
    RowList in_rows;
    Maps out;
    RowList out_rows;
    const int32_t* taps;  // [out positions, tap_count], -1 where a tap lies outside
    int64_t tap_count;
    const float* weight;  // [tap_count, in_channels, out_channels / groups]
    int64_t in_channels;
    int64_t out_channels;
    int64_t groups;
    const float* row_scale;  // [out rows] or null
    bool accumulate;
    int64_t slices;
    // Where each of the in_listed rows of in_rows lies in `in`, so that pools, concatenations and other relabelled
    // layers need no copy; null if listed row i is row i.
    const int32_t* in_index;
    int64_t in_listed;
};

// Null if row lists and taps are consistent and in range, else what is wrong.
const char* gathered_gemm_error(const GatheredGemm& call);

// The call must be free of errors. Bit for bit the same for any thread count.
void gathered_gemm(const GatheredGemm& call, Isa isa, int threads);

}  // namespace fwdkern
