#include "fwdkern/sparse_transpose.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "fwdkern/gate.h"

namespace {

using fwdkern::Isa;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Shape {
    int64_t in_channels, out_channels, side, kernel, stride, padding;
};

void check_shape(std::mt19937& random, Isa isa, const Shape& shape, double density, bool gated) {
    constexpr int64_t kImages = 2;
    const auto [in_channels, out_channels, side, kernel, stride, padding] = shape;
    const int64_t size = (side + 2 * padding - kernel) / stride + 1;
    std::normal_distribution<float> draw;
    std::bernoulli_distribution there(density);
    std::vector<float> in(kImages * size * size * in_channels), bias(in_channels);
    for (auto& value : in) value = there(random) ? draw(random) : 0.f;
    for (auto& value : bias) value = draw(random);
    const int64_t padded = fwdkern::padded_run(kernel, out_channels);
    std::vector<float> weight(in_channels * kernel * padded);
    for (int64_t i = 0; i < in_channels * kernel; ++i)
        for (int64_t j = 0; j < kernel * out_channels; ++j) weight[i * padded + j] = draw(random);
    const int64_t bytes = fwdkern::gate_bytes(in_channels);
    std::vector<uint8_t> bits(size * size * bytes);
    for (auto& byte : bits) byte = static_cast<uint8_t>(random());

    std::vector<double> expected(kImages * side * side * out_channels), bound(expected.size()), mass(kImages);
    for (int64_t image = 0; image < kImages; ++image)
        for (int64_t p = 0; p < size * size; ++p)
            for (int64_t i = 0; i < in_channels; ++i) {
                if (gated && !(bits[p * bytes + i / 8] >> (i % 8) & 1)) continue;
                const double value = in[(image * size * size + p) * in_channels + i];
                mass[image] += value * bias[i];
                for (int64_t k = 0; k < kernel * kernel; ++k) {
                    const int64_t y = p / size * stride - padding + k / kernel, x = p % size * stride - padding + k % kernel;
                    if (y < 0 || y >= side || x < 0 || x >= side) continue;
                    for (int64_t o = 0; o < out_channels; ++o) {
                        const double part = value * weight[(i * kernel + k / kernel) * padded + k % kernel * out_channels + o];
                        const int64_t at = ((image * side + y) * side + x) * out_channels + o;
                        expected[at] += part;
                        bound[at] += std::abs(part);
                    }
                }
            }
    std::vector<float> out(expected.size(), kNaN), first;
    const int64_t parts = fwdkern::mass_parts(side);
    std::vector<float> own(kImages * parts, kNaN);
    for (int threads : {1, 3}) {
        fwdkern::sparse_transpose({in.data(), kImages, size, size, in_channels, size * size * in_channels,
                                   size * in_channels, in_channels, nullptr, gated ? bits.data() : nullptr, 1,
                                   bias.data(), weight.data(), kernel, kernel, stride, stride, padding, padding,
                                   out.data(), side, side, out_channels, own.data()},
                                  isa, threads);
        if (first.empty()) first = out;
        CHECK(out == first);
    }
    const double eps = std::numeric_limits<float>::epsilon() * (in_channels * kernel * kernel + 2);
    for (size_t i = 0; i < out.size(); ++i) CHECK(std::abs(out[i] - expected[i]) <= eps * bound[i]);
    for (int64_t image = 0; image < kImages; ++image) {
        double sum = 0;
        for (int64_t part = 0; part < parts; ++part) sum += own[image * parts + part];
        CHECK(std::abs(sum - mass[image]) <= 1e-3 * (1 + in_channels * size));
    }
}

}  // namespace

int main() {
    std::mt19937 random(0);
    const Shape shapes[] = {{64, 3, 23, 3, 2, 0}, {17, 16, 19, 3, 1, 1}, {3, 64, 9, 1, 1, 0}, {40, 48, 11, 3, 1, 1},
                            {1, 1, 1, 1, 1, 0},   {5, 7, 12, 2, 3, 0},   {8, 20, 6, 1, 2, 0}, {4, 5, 3, 1, 1, 2},
                            {9, 33, 70, 5, 2, 2}};
    for (int isa = 0; isa <= static_cast<int>(fwdkern::available_isa()); ++isa)
        for (const Shape& shape : shapes)
            for (double density : {0.0, 0.3, 1.0})
                for (bool gated : {false, true}) check_shape(random, static_cast<Isa>(isa), shape, density, gated);
}
