#include "fwdkern/cuda/gathered_gemm.h"

#include <algorithm>

#include "gathered_gemm_emulation.h"

namespace fwdkern::cuda {

namespace {

const char* list_error(const RowList& list) {
    if (list.positions < 0) return "a row list has a negative number of positions";
    if (list.offset == nullptr) return "a row list has no offsets";
    return nullptr;
}

}  // namespace

Precision effective_precision(Type in, Precision precision) {
    return precision == Precision::bf16 && in == Type::float16 ? Precision::tf32 : precision;
}

int64_t gathered_gemm_scratch(int64_t positions, int64_t tap_count, int64_t in_channels, int64_t groups) {
    const int64_t each = scratch_of_position(list_capacity(tap_count, in_channels, groups), groups);
    return each * std::min(positions, std::max<int64_t>(1, kScratchBytes / each));
}

const char* gathered_gemm_error(const GatheredGemm& call) {
    if (const char* error = maps_error(call.in, call.slices)) return error;
    if (const char* error = output_error(call.out, call.slices)) return error;
    if (const char* error = list_error(call.in_rows)) return error;
    if (const char* error = list_error(call.out_rows)) return error;
    if (call.precision != Precision::ieee && call.precision != Precision::tf32 && call.precision != Precision::bf16)
        return "the precision is unknown";
    if (call.tap_count < 0 || call.in_channels < 0 || call.out_channels < 0)
        return "the weights have a negative size";
    if (call.groups < 1 || call.in_channels % call.groups != 0 || call.out_channels % call.groups != 0)
        return "the groups do not divide the channels";
    const int64_t capacity = list_capacity(call.tap_count, call.in_channels, call.groups);
    if (capacity > INT32_MAX) return "an output row has more terms than int32 can count";
    if (call.out.rows == 0 || call.slices == 0) return nullptr;
    if (call.out_rows.channel == nullptr) return "the output rows have no channels";
    if (call.tap_count > 0 && call.out_rows.positions > 0 && call.taps == nullptr) return "the taps have no address";
    if (capacity > 0 && call.out_channels > 0 && call.weight == nullptr) return "the weights have no address";
    const int64_t weight_bytes = effective_precision(call.in.type, call.precision) == Precision::bf16 ? 2 : 4;
    if (reinterpret_cast<uintptr_t>(call.weight) % weight_bytes != 0)
        return "the weights lie across the boundaries of their elements";
    if (reinterpret_cast<uintptr_t>(call.scratch) % alignof(Term) != 0)
        return "scratch is not at a multiple of 16 bytes";
    if (call.out_rows.positions > 0 && call.scratch_bytes < scratch_of_position(capacity, call.groups))
        return "scratch has no room for the terms of one position";
    return nullptr;
}

const char* gathered_gemm_emulated(const GatheredGemm& call) {
    if (const char* error = gathered_gemm_error(call)) return error;
    return launch_gathered_gemm(call, kHopperSharedBytes, OnEmulator<true>());
}

}  // namespace fwdkern::cuda
