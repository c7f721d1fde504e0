// The Python tests compare values in breadth; these run the same kernels under the sanitizers, with every buffer
// exactly as large as the contract says.
#include "fwdkern/gathered_gemm.h"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "check.h"

namespace {

using fwdkern::Isa;
using fwdkern::Storage;

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
    fwdkern::RowList list() const {
        return {offset.data(), channel.data(), static_cast<int64_t>(offset.size()) - 1};
    }
};

std::vector<float> normal(std::mt19937& random, int64_t size) {
    std::normal_distribution<float> draw;
    std::vector<float> values(size);
    for (float& v : values) v = draw(random);
    return values;
}

struct Shape {
    int64_t c_in, c_out, in_positions, out_positions, taps, groups, slices;
    double density;
};

void check_call(std::mt19937& random, const Shape& shape, Isa isa, int threads, bool accumulate) {
    const Rows in(random, shape.c_in, shape.in_positions, shape.density);
    const Rows out(random, shape.c_out, shape.out_positions, shape.density);
    const int64_t in_width = shape.c_in / shape.groups, out_width = shape.c_out / shape.groups;
    std::vector<float> in_maps = normal(random, in.count() * shape.slices);
    const std::vector<float> weight = normal(random, shape.taps * shape.c_in * out_width);
    const std::vector<float> scale = normal(random, out.count());
    std::uniform_int_distribution<int32_t> tap(-1, static_cast<int32_t>(shape.in_positions) - 1);
    std::vector<int32_t> taps(shape.out_positions * shape.taps);
    for (auto& t : taps) t = tap(random);
    const std::vector<float> before = normal(random, out.count() * shape.slices);
    std::vector<float> result =
        accumulate ? before : std::vector<float>(before.size(), std::numeric_limits<float>::quiet_NaN());

    const fwdkern::GatheredGemm call = {
        {in_maps.data(), in.count(), shape.slices, Storage::float32},
        in.list(),
        {result.data(), out.count(), shape.slices, Storage::float32},
        out.list(),
        taps.data(),
        shape.taps,
        weight.data(),
        shape.c_in,
        shape.c_out,
        shape.groups,
        scale.data(),
        accumulate,
        shape.slices};
    CHECK(fwdkern::gathered_gemm_error(call) == nullptr);
    fwdkern::gathered_gemm(call, isa, threads);

    for (int64_t q = 0; q < shape.out_positions; ++q)
        for (int64_t r = out.offset[q]; r < out.offset[q + 1]; ++r)
            for (int64_t s = 0; s < shape.slices; ++s) {
                double sum = 0, magnitude = 0;
                for (int64_t t = 0; t < shape.taps; ++t) {
                    const int32_t p = taps[q * shape.taps + t];
                    if (p < 0) continue;
                    for (int64_t i = in.offset[p]; i < in.offset[p + 1]; ++i) {
                        const int64_t c = in.channel[i], d = out.channel[r];
                        if (c / in_width != d / out_width) continue;
                        const double term = double{weight[(t * shape.c_in + c) * out_width + d % out_width]} *
                                            in_maps[i * shape.slices + s];
                        sum += term;
                        magnitude += std::fabs(term);
                    }
                }
                const double previous = accumulate ? before[r * shape.slices + s] : 0.0;
                const double expected = scale[r] * sum + previous;
                const double terms = static_cast<double>(shape.taps * in_width + 4);
                const double bound = terms * std::numeric_limits<float>::epsilon() *
                                     (std::fabs(scale[r]) * magnitude + std::fabs(previous));
                CHECK(std::fabs(result[r * shape.slices + s] - expected) <= bound);
            }
}

void check_errors() {
    std::mt19937 random(1);
    Rows rows(random, 3, 2, 1.0);
    std::vector<float> maps(6 * 4), out(6 * 4), weight(9);
    std::vector<int32_t> taps = {0, 1};
    const auto error = [&] {
        return fwdkern::gathered_gemm_error({{maps.data(), 6, 4, Storage::float32}, rows.list(),
                                             {out.data(), 6, 4, Storage::float32}, rows.list(), taps.data(), 1,
                                             weight.data(), 3, 3, 1, nullptr, false, 4});
    };
    CHECK(error() == nullptr);
    taps[1] = 2;
    CHECK(error() != nullptr);
    taps[1] = -1;
    CHECK(error() == nullptr);
    rows.channel[2] = 3;
    CHECK(error() != nullptr);
    rows.channel[2] = 1;
    CHECK(error() != nullptr);
    rows.channel[2] = 2;
    rows.offset[1] = 7;
    CHECK(error() != nullptr);
}

}  // namespace

int main() {
    std::mt19937 random(0);
    for (int isa = 0; isa <= static_cast<int>(fwdkern::available_isa()); ++isa)
        for (int threads : {1, 3})
            for (bool accumulate : {false, true}) {
                for (int64_t slices : {1, 7, 33, 48, 65})
                    for (int64_t channels : {1, 3, 17})
                        for (double density : {0.0, 0.4, 1.0})
                            check_call(random, {channels, 20 - channels, 5, 4, 3, 1, slices, density},
                                       static_cast<Isa>(isa), threads, accumulate);
                check_call(random, {60, 45, 30, 40, 9, 1, 20, 0.8}, static_cast<Isa>(isa), threads, accumulate);
                check_call(random, {12, 18, 5, 4, 3, 6, 20, 0.6}, static_cast<Isa>(isa), threads, accumulate);
                check_call(random, {9, 500, 5, 4, 3, 1, 20, 0.03}, static_cast<Isa>(isa), threads, accumulate);
            }
    check_errors();
}
