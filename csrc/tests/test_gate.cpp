#include "fwdkern/gate.h"

#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "check.h"

namespace {

using fwdkern::Isa;

void check_gate(std::mt19937& random, Isa isa, int64_t channels, int64_t positions, bool planes) {
    constexpr int64_t kGates = 2, kImages = 4;
    std::normal_distribution<float> draw;
    std::vector<float> values(kGates * channels * positions), maps(kImages * channels * positions);
    for (auto& value : values) value = random() % 4 ? draw(random) : 0.f;
    for (auto& map : maps) map = draw(random);
    if (!values.empty()) values[0] = std::numeric_limits<float>::quiet_NaN();
    const int64_t channel_stride = planes ? positions : 1, position_stride = planes ? 1 : channels;
    const int64_t bytes = fwdkern::gate_bytes(channels);
    std::vector<uint8_t> bits(kGates * positions * bytes, 0xff);
    fwdkern::gate_bits({values.data(), kGates, channels, positions, channels * positions, channel_stride,
                        position_stride, bits.data()},
                       isa, 3);
    std::vector<float> out(maps.size(), std::numeric_limits<float>::quiet_NaN());
    fwdkern::gate_maps({maps.data(), kImages, 1, positions, channels, channels * positions, 0, channels, bits.data(),
                        kGates, out.data()},
                       isa, 3);
    for (int64_t image = 0; image < kImages; ++image)
        for (int64_t p = 0; p < positions; ++p)
            for (int64_t c = 0; c < bytes * 8; ++c) {
                const int64_t gate = image % kGates;
                const bool bit = bits[(gate * positions + p) * bytes + c / 8] >> (c % 8) & 1;
                const bool open = c < channels && values[gate * channels * positions + c * channel_stride + p * position_stride] > 0;
                CHECK(bit == open);
                const int64_t at = (image * positions + p) * channels + c;
                if (c < channels) CHECK(out[at] == (open ? maps[at] : 0.f));
            }
}

}  // namespace

int main() {
    std::mt19937 random(0);
    for (int isa = 0; isa <= static_cast<int>(fwdkern::available_isa()); ++isa)
        for (int64_t channels : {1, 3, 8, 17, 33, 64})
            for (int64_t positions : {0, 1, 7, 300})
                for (bool planes : {false, true})
                    check_gate(random, static_cast<Isa>(isa), channels, positions, planes);
}
