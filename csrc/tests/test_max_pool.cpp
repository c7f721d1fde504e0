#include "fwdkern/max_pool.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "check.h"

namespace {

using fwdkern::Isa;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

void check_pool(std::mt19937& random, Isa isa, int64_t channels, int64_t side, int64_t kernel, int64_t stride,
                int64_t padding, int64_t dilation) {
    constexpr int64_t kExamples = 2, kImages = 4;
    const int64_t size = (side + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
    std::vector<float> in(kExamples * side * side * channels);
    for (auto& value : in) value = static_cast<float>(static_cast<int>(random() % 5)) - 2;  // ties
    in[random() % in.size()] = kNaN;
    std::vector<float> out(kExamples * size * size * channels, kNaN);
    std::vector<uint8_t> winner(out.size(), 255);
    fwdkern::max_pool({in.data(), kExamples, side, side, channels, kernel, kernel, stride, stride, padding, padding,
                       dilation, dilation, out.data(), size, size, winner.data()},
                      isa, 3);
    std::vector<float> maps(kImages * size * size * channels);
    for (auto& map : maps) map = static_cast<float>(random() % 100);
    std::vector<float> expected(kImages * side * side * channels), pulled(expected.size(), kNaN);
    for (int64_t image = 0; image < kImages; ++image)
        for (int64_t y = 0; y < size; ++y)
            for (int64_t x = 0; x < size; ++x)
                for (int64_t c = 0; c < channels; ++c) {
                    const int64_t example = image % kExamples;
                    float best = -std::numeric_limits<float>::infinity();
                    int64_t place = -1, source = -1;
                    for (int64_t k = 0; k < kernel * kernel; ++k) {
                        const int64_t row = y * stride - padding + k / kernel * dilation;
                        const int64_t column = x * stride - padding + k % kernel * dilation;
                        if (row < 0 || row >= side || column < 0 || column >= side) continue;
                        const float value = in[((example * side + row) * side + column) * channels + c];
                        if (place >= 0 && !(value > best || std::isnan(value))) continue;
                        best = value;
                        place = k;
                        source = ((image * side + row) * side + column) * channels + c;
                    }
                    const int64_t at = ((example * size + y) * size + x) * channels + c;
                    CHECK(winner[at] == place && (out[at] == best || (std::isnan(out[at]) && std::isnan(best))));
                    expected[source] += maps[((image * size + y) * size + x) * channels + c];
                }
    fwdkern::max_unpool({maps.data(), size * size * channels, size * channels, channels, winner.data(), kExamples,
                         kImages, size, size, channels, kernel, kernel, stride, stride, padding, padding, dilation,
                         dilation, pulled.data(), side, side},
                        isa, 3);
    CHECK(pulled == expected);  // small whole numbers, so that any order of adding gives the same
}

}  // namespace

int main() {
    std::mt19937 random(0);
    for (int isa = 0; isa <= static_cast<int>(fwdkern::available_isa()); ++isa)
        for (int64_t channels : {1, 3, 8, 17, 64}) {
            check_pool(random, static_cast<Isa>(isa), channels, 7, 3, 2, 0, 1);
            check_pool(random, static_cast<Isa>(isa), channels, 8, 3, 1, 1, 1);
            check_pool(random, static_cast<Isa>(isa), channels, 9, 2, 3, 0, 2);
            check_pool(random, static_cast<Isa>(isa), channels, 1, 1, 1, 0, 1);
        }
}
