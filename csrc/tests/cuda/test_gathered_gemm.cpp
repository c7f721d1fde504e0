// The CUDA kernels as they are written, run by the emulated instructions on random calls, with every buffer exactly as
// large as the contract says: all tiles, both instruction sets, asynchronous work as early and as late as it may be.
#include "fwdkern/cuda/gathered_gemm.h"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "check.h"
#include "cuda/gathered_gemm_emulation.h"
#include "maps.h"

namespace {

using namespace fwdkern::cuda;

struct Rows {
    std::vector<int64_t> offset{0};
    std::vector<int32_t> channel;

    Rows(std::mt19937& random, int64_t channels, int64_t positions, double density) {
        std::bernoulli_distribution active(density);
        for (int64_t p = 0; p < positions; ++p) {
            for (int64_t c = 0; c < channels; ++c)
                if (active(random)) channel.push_back(static_cast<int32_t>(c));
            offset.push_back(static_cast<int64_t>(channel.size()));
        }
    }

    int64_t count() const { return static_cast<int64_t>(channel.size()); }
    RowList list() const { return {offset.data(), channel.data(), static_cast<int64_t>(offset.size()) - 1}; }
};

constexpr double kLeastStep = 0x1p-25;  // half of float16's

struct Shape {
    int64_t c_in, c_out, in_positions, out_positions, taps, groups, slices;
    double density;
    int64_t gap = 0;  // elements between rows of maps
};

double operand(Precision precision, double value) {
    const auto single = static_cast<float>(value);
    if (precision == Precision::tf32) return float_of_bits(round_to_tf32(single));
    return precision == Precision::bf16 ? widen(narrow<Bfloat16>(single)) : single;
}

struct Kind {
    Precision precision;
    Type in, out;
};

template <class Launch>
void check_call(std::mt19937& random, const Shape& shape, Kind kind, bool full, const Launch& launch,
                int64_t scratch_positions = 1000) {
    const Rows in(random, shape.c_in, shape.in_positions, shape.density);
    const Rows out(random, shape.c_out, shape.out_positions, shape.density);
    const int64_t in_width = shape.c_in / shape.groups, out_width = shape.c_out / shape.groups;
    const Precision precision = effective_precision(kind.in, kind.precision);
    std::normal_distribution<float> draw;

    const int64_t stored_rows = full ? in.count() + 3 : in.count();
    HostMaps in_maps(stored_rows, shape.slices, shape.slices + shape.gap, kind.in);
    in_maps.fill(random);
    std::vector<int32_t> in_index(in.count());
    for (auto& i : in_index) i = static_cast<int32_t>(random() % stored_rows);

    std::vector<float> weight(shape.taps * shape.c_in * out_width), scale(out.count());
    std::vector<uint16_t> narrow_weight(weight.size());
    for (size_t i = 0; i < weight.size(); ++i) {
        weight[i] = static_cast<float>(operand(precision, draw(random)));
        narrow_weight[i] = narrow<Bfloat16>(weight[i]).bits;
    }
    for (auto& s : scale) s = draw(random);
    std::vector<int32_t> taps(shape.out_positions * shape.taps);
    for (auto& t : taps) t = static_cast<int32_t>(random() % (shape.in_positions + 1)) - 1;

    HostMaps before(out.count(), shape.slices, shape.slices + shape.gap, kind.out);
    if (full) before.fill(random);
    HostMaps result = before;

    const int64_t capacity = list_capacity(shape.taps, shape.c_in, shape.groups);
    const int64_t bytes =
        scratch_of_position(capacity, shape.groups) * std::min(shape.out_positions, scratch_positions);
    std::vector<Term> scratch(blocks_of(bytes, sizeof(Term)));
    GatheredGemm call = {in_maps.view(),
                               in.list(),
                               result.view(),
                               out.list(),
                               taps.data(),
                               shape.taps,
                               precision == Precision::bf16 ? static_cast<const void*>(narrow_weight.data())
                                                            : weight.data(),
                               shape.c_in,
                               shape.c_out,
                               shape.groups,
                               full ? scale.data() : nullptr,
                               full,
                               shape.slices,
                               full ? in_index.data() : nullptr,
                               kind.precision,
                               scratch.data(),
                               bytes};
    const char* error = nullptr;
    // Half of the calls find their terms listed.
    if (full && scratch_positions >= shape.out_positions) {
        const TermLists lists = {call.in_rows, call.in_index, call.taps, shape.out_positions, shape.taps, shape.c_in,
                                 shape.groups, call.in.stride * bytes_of(kind.in),
                                 out_width * (precision == Precision::bf16 ? 2 : 4), scratch.data(), bytes};
        error = list_terms_error(lists);
        if (error == nullptr) error = launch_list_terms(lists, launch);
        call.listed = true;
        call.taps = nullptr;
    }
    if (error == nullptr) error = gathered_gemm_error(call);
    if (error == nullptr) error = launch_gathered_gemm(call, kHopperSharedBytes, launch);
    if (error != nullptr) std::fprintf(stderr, "%s\n", error);
    CHECK(error == nullptr);

    std::vector<double> sum(shape.slices), magnitude(shape.slices);
    for (int64_t q = 0; q < shape.out_positions; ++q)
        for (int64_t r = out.offset[q]; r < out.offset[q + 1]; ++r) {
            std::fill(sum.begin(), sum.end(), 0);
            std::fill(magnitude.begin(), magnitude.end(), 0);
            for (int64_t t = 0; t < shape.taps; ++t) {
                const int32_t p = taps[q * shape.taps + t];
                for (int64_t i = p < 0 ? 0 : in.offset[p]; i < (p < 0 ? 0 : in.offset[p + 1]); ++i) {
                    const int64_t c = in.channel[i], d = out.channel[r];
                    if (c / in_width != d / out_width) continue;
                    const double w = weight[(t * shape.c_in + c) * out_width + d % out_width];
                    for (int64_t s = 0; s < shape.slices; ++s) {
                        const double term = w * operand(precision, in_maps.get(full ? in_index[i] : i, s));
                        sum[s] += term;
                        magnitude[s] += std::fabs(term);
                    }
                }
            }
            for (int64_t s = 0; s < shape.slices; ++s) {
                const double factor = full ? scale[r] : 1.0, previous = full ? before.get(r, s) : 0.0;
                const double expected = factor * sum[s] + previous;
                const double bound = static_cast<double>(capacity + 4) * std::numeric_limits<float>::epsilon() *
                                         (std::fabs(factor) * magnitude[s] + std::fabs(previous)) +
                                     1.01 * result.rounding() * std::fabs(expected) + kLeastStep;
                CHECK(std::fabs(result.get(r, s) - expected) <= bound);
            }
        }
    result.check_gaps();
}

constexpr Kind kKinds[] = {
    {Precision::ieee, Type::float32, Type::float32},   {Precision::ieee, Type::bfloat16, Type::float32},
    {Precision::ieee, Type::float16, Type::float16},   {Precision::tf32, Type::float32, Type::float32},
    {Precision::tf32, Type::bfloat16, Type::float32},  {Precision::tf32, Type::float16, Type::bfloat16},
    {Precision::bf16, Type::float32, Type::float32},   {Precision::bf16, Type::bfloat16, Type::bfloat16},
    {Precision::bf16, Type::float16, Type::float16},
};

int64_t terms_of_step(Kind kind) { return effective_precision(kind.in, kind.precision) == Precision::bf16 ? 64 : 32; }

template <bool warpgroups>
void check_kinds() {
    std::mt19937 random(warpgroups);
    for (const Kind& kind : kKinds) {
        const OnEmulator<warpgroups> chosen;
        for (bool full : {false, true}) {
            for (auto [slices, density] : {std::pair{1, 1.0}, {7, 0.4}, {48, 0.0}, {65, 0.4}})
                check_call(random, {17, 20, 5, 2, 3, 1, slices, density, full ? 5 : 0}, kind, full, chosen);
            check_call(random, {12, 18, 5, 3, 3, 3, 20, 0.6}, kind, full, chosen, 2);  // two launches
            check_call(random, {3, 5, 50, 1, 40, 1, 16, 0.7}, kind, full, chosen);     // taps listed in two turns
        }
        // All taps outside; no taps.
        check_call(random, {5, 4, 0, 3, 2, 1, 9, 0.7}, kind, true, chosen);
        check_call(random, {5, 4, 3, 3, 0, 1, 9, 0.7}, kind, true, chosen);
    }
}

// Rows, slices and terms beyond one block and one turn of the pipeline.
template <bool warpgroups>
void check_tiles() {
    std::mt19937 random(2 + warpgroups);
    for (const Kind& kind : kKinds)
        with_gemm(kind.precision, kind.in, [&](auto gemm) {
            using G = decltype(gemm);
            for (const TileShape shape : kAllShapes) {
                if (!has_shape<G>(shape)) continue;
                // Aligned, with every place of the pipeline used twice; and not aligned.
                for (int64_t gap : {0, 1}) {
                    const int64_t slices = shape.slices + 8 + 5 * gap, depth = terms_of_step(kind) * (gap ? 1 : 5) + 3;
                    check_call(random, {depth, shape.rows + 9, 1, 1, 1, 1, slices, 0.97, gap}, kind, gap == 0,
                               OnEmulator<warpgroups>{shape});
                }
            }
            return 0;
        });
}

}  // namespace

int main() {
    check_kinds<false>();
    check_tiles<false>();
    check_kinds<true>();
    check_tiles<true>();
}
