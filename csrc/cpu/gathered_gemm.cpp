#include "fwdkern/gathered_gemm.h"

#include <algorithm>
#include <vector>

#include "bfloat16.h"
#include "fwdkern/parallel.h"
#include "kernels_of.h"
#include "position.h"

namespace fwdkern {

namespace {

// With fewer output positions than this per thread, a position's rows are shared out too.
constexpr int64_t kItemsPerThread = 8;
// Multiply-adds that outweigh waking a thread, about 20 microseconds.
constexpr int64_t kWorkPerThread = 1 << 20;

const char* row_list_error(const RowList& rows, int64_t count, int64_t channels) {
    if (rows.offset[0] != 0 || rows.offset[rows.positions] != count)
        return "its offsets do not run from 0 to the number of rows";
    for (int64_t p = 0; p < rows.positions; ++p) {
        if (rows.offset[p] > rows.offset[p + 1] || rows.offset[p + 1] > count) return "its offsets do not ascend";
        int64_t previous = -1;
        for (int64_t r = rows.offset[p]; r < rows.offset[p + 1]; ++r) {
            if (rows.channel[r] <= previous) return "the channels of a position do not ascend";
            previous = rows.channel[r];
        }
        if (previous >= channels) return "a channel is out of range";
    }
    return nullptr;
}

// Multiply-adds of a call, as if it had one group.
int64_t work_of(const GatheredGemm& call) {
    int64_t products = 0;
    for (int64_t q = 0; q < call.out_rows.positions; ++q) {
        int64_t depth = 0;
        for (int64_t t = 0; t < call.tap_count; ++t) {
            const int64_t p = call.taps[q * call.tap_count + t];
            if (p >= 0) depth += call.in_rows.offset[p + 1] - call.in_rows.offset[p];
        }
        products += depth * (call.out_rows.offset[q + 1] - call.out_rows.offset[q]);
    }
    return products * call.slices;
}

struct Scratch {
    Position position;
    std::vector<float> sums;  // float32 image of bfloat16 output rows
};

class Worker {
public:
    Worker(const GatheredGemm& call, const GemmKernels& kernels) : call_(call), kernels_(kernels) {}

    Scratch scratch() const {
        const int64_t depth = call_.tap_count * std::min(longest_position(call_.in_rows), in_width());
        const int64_t rows = longest_position(call_.out_rows);
        const bool narrow = call_.out.storage == Storage::bfloat16;
        return {Position(kernels_, call_.in.storage, depth, rows),
                std::vector<float>(narrow ? rows * call_.slices : 0)};
    }

    // Part `part` of `parts` of the output rows of position q.
    void run(int64_t q, int64_t part, int64_t parts, Scratch& scratch) const {
        const int64_t first = call_.out_rows.offset[q];
        const int64_t count = call_.out_rows.offset[q + 1] - first;
        const Span rows = {first + count * part / parts, first + count * (part + 1) / parts};
        for (int64_t group = 0; group < call_.groups; ++group) {
            const Span mine = call_.groups == 1
                                  ? rows
                                  : in_group(call_.out_rows, rows, group * out_width(), (group + 1) * out_width());
            if (mine.begin < mine.end) run_group(q, group, mine, scratch);
        }
    }

private:
    int64_t in_width() const { return call_.in_channels / call_.groups; }
    int64_t out_width() const { return call_.out_channels / call_.groups; }

    void list_terms(int64_t q, int64_t group, Position& position) const {
        position.clear();
        for (int64_t t = 0; t < call_.tap_count; ++t) {
            const int64_t p = call_.taps[q * call_.tap_count + t];
            if (p < 0) continue;
            Span rows = {call_.in_rows.offset[p], call_.in_rows.offset[p + 1]};
            if (call_.groups > 1) rows = in_group(call_.in_rows, rows, group * in_width(), (group + 1) * in_width());
            const float* weight = call_.weight + t * call_.in_channels * out_width();
            for (int64_t i = rows.begin; i < rows.end; ++i)
                position.add(weight + call_.in_rows.channel[i] * out_width(),
                             call_.in.row(call_.in_index ? call_.in_index[i] : i));
        }
    }

    void run_group(int64_t q, int64_t group, Span rows, Scratch& scratch) const {
        list_terms(q, group, scratch.position);
        const int64_t count = rows.end - rows.begin;
        const bool narrow = call_.out.storage == Storage::bfloat16;
        float* out = narrow ? scratch.sums.data() : reinterpret_cast<float*>(call_.out.row(rows.begin));
        const int64_t stride = narrow ? call_.slices : call_.out.stride;
        if (narrow && call_.accumulate)
            for (int64_t r = 0; r < count; ++r)
                widen(reinterpret_cast<const uint16_t*>(call_.out.row(rows.begin + r)), call_.slices, out + r * stride);
        scratch.position.multiply(call_.out_rows.channel + rows.begin, group * out_width(), count, out_width(),
                                  call_.slices, call_.row_scale ? call_.row_scale + rows.begin : nullptr,
                                  call_.accumulate, out, stride);
        if (narrow)
            for (int64_t r = 0; r < count; ++r)
                round_to_bfloat16(out + r * stride, call_.slices,
                                  reinterpret_cast<uint16_t*>(call_.out.row(rows.begin + r)));
    }

    const GatheredGemm& call_;
    const GemmKernels& kernels_;
};

}  // namespace

const char* gathered_gemm_error(const GatheredGemm& call) {
    const int64_t in_rows = call.in_index ? call.in_listed : call.in.rows;
    if (const char* error = row_list_error(call.in_rows, in_rows, call.in_channels)) return error;
    for (int64_t i = 0; call.in_index && i < in_rows; ++i)
        if (call.in_index[i] < 0 || call.in_index[i] >= call.in.rows) return "an input row's place is out of range";
    if (const char* error = row_list_error(call.out_rows, call.out.rows, call.out_channels)) return error;
    const int64_t entries = call.out_rows.positions * call.tap_count;
    for (int64_t i = 0; i < entries; ++i)
        if (call.taps[i] < -1 || call.taps[i] >= call.in_rows.positions) return "a tap is out of range";
    return nullptr;
}

void gathered_gemm(const GatheredGemm& call, Isa isa, int threads) {
    if (call.slices == 0 || call.out.rows == 0) return;
    const Worker worker(call, gemm_kernels_of(isa));
    threads = static_cast<int>(std::clamp<int64_t>(work_of(call) / kWorkPerThread, 1, std::max(threads, 1)));
    std::vector<Scratch> scratch(threads, worker.scratch());
    const int64_t positions = call.out_rows.positions;
    const int64_t parts = threads == 1 ? 1 : (kItemsPerThread * threads + positions - 1) / positions;
    parallel_for(threads, positions * parts, [&](int thread, int64_t begin, int64_t end) {
        for (int64_t item = begin; item < end; ++item)
            worker.run(item / parts, item % parts, parts, scratch[thread]);
    });
}

}  // namespace fwdkern
