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

const char* sizes_error(int64_t tap_count, int64_t in_channels, int64_t groups) {
    if (tap_count < 0 || in_channels < 0) return "the weights have a negative size";
    if (groups < 1 || in_channels % groups != 0) return "the groups do not divide the channels";
    if (list_capacity(tap_count, in_channels, groups) > INT32_MAX)
        return "an output row has more terms than int32 can count";
    return nullptr;
}

const char* scratch_error(const void* scratch, int64_t bytes, int64_t needed) {
    if (reinterpret_cast<uintptr_t>(scratch) % alignof(Term) != 0) return "scratch is not at a multiple of 16 bytes";
    return bytes < needed ? "scratch has no room for the terms of the positions" : nullptr;
}

}  // namespace

Precision effective_precision(Type in, Precision precision) {
    return precision == Precision::bf16 && in == Type::float16 ? Precision::tf32 : precision;
}

int64_t list_terms_scratch(int64_t positions, int64_t tap_count, int64_t in_channels, int64_t groups) {
    return positions * scratch_of_position(list_capacity(tap_count, in_channels, groups), groups);
}

int64_t gathered_gemm_scratch(int64_t positions, int64_t tap_count, int64_t in_channels, int64_t groups) {
    const int64_t each = list_terms_scratch(1, tap_count, in_channels, groups);
    return each * std::min(positions, std::max<int64_t>(1, kScratchBytes / each));
}

const char* list_terms_error(const TermLists& call) {
    if (const char* error = list_error(call.in_rows)) return error;
    if (call.positions < 0) return "there is a negative number of positions";
    if (const char* error = sizes_error(call.tap_count, call.in_channels, call.groups)) return error;
    if (call.map_bytes < 0 || call.weight_bytes < 0) return "the rows of maps or of weights have a negative size";
    if (call.tap_count > 0 && call.positions > 0 && call.taps == nullptr) return "the taps have no address";
    return scratch_error(call.scratch, call.scratch_bytes,
                         list_terms_scratch(call.positions, call.tap_count, call.in_channels, call.groups));
}

const char* gathered_gemm_error(const GatheredGemm& call) {
    if (const char* error = maps_error(call.in, call.slices)) return error;
    if (const char* error = output_error(call.out, call.slices)) return error;
    if (const char* error = list_error(call.in_rows)) return error;
    if (const char* error = list_error(call.out_rows)) return error;
    if (call.precision != Precision::ieee && call.precision != Precision::tf32 && call.precision != Precision::bf16)
        return "the precision is unknown";
    if (call.out_channels < 0) return "the weights have a negative size";
    if (const char* error = sizes_error(call.tap_count, call.in_channels, call.groups)) return error;
    if (call.out_channels % call.groups != 0) return "the groups do not divide the channels";
    if (call.out.rows == 0 || call.slices == 0) return nullptr;
    const int64_t positions = call.out_rows.positions;
    if (call.out_rows.channel == nullptr) return "the output rows have no channels";
    if (call.tap_count > 0 && positions > 0 && call.taps == nullptr && !call.listed) return "the taps have no address";
    if (list_capacity(call.tap_count, call.in_channels, call.groups) > 0 && call.out_channels > 0 &&
        call.weight == nullptr)
        return "the weights have no address";
    if (reinterpret_cast<uintptr_t>(call.weight) % weight_bytes_of(call) != 0)
        return "the weights lie across the boundaries of their elements";
    const int64_t held = call.listed ? positions : std::min<int64_t>(positions, 1);
    return scratch_error(call.scratch, call.scratch_bytes,
                         list_terms_scratch(held, call.tap_count, call.in_channels, call.groups));
}

const char* list_terms_emulated(const TermLists& call) {
    if (const char* error = list_terms_error(call)) return error;
    return launch_list_terms(call, OnEmulator<true>());
}

const char* gathered_gemm_emulated(const GatheredGemm& call) {
    if (const char* error = gathered_gemm_error(call)) return error;
    return launch_gathered_gemm(call, kHopperSharedBytes, OnEmulator<true>());
}

}  // namespace fwdkern::cuda
