#include "fwdkern/cuda/gate.h"

#include "cuda/gate_body.h"
#include "maps.h"

namespace {

using namespace fwdkern::cuda;

void check_tile(int64_t images, int64_t positions, int64_t channels) {
    const GateTile tile = {images, positions, channels};
    std::vector<int> owners(images * positions * gate_bytes(channels));
    for (int64_t number = 0; number < tile.count(); ++number) {
        const auto at = tile.place(number);
        for (int64_t p = at.position; p < std::min(positions, at.position + kLanes); ++p)
            for (int64_t byte = at.channel / 8; byte < std::min(gate_bytes(channels), at.channel / 8 + 4); ++byte)
                ++owners[(at.image * positions + p) * gate_bytes(channels) + byte];
    }
    for (int count : owners) CHECK(count == 1);
}

// Values with contiguous positions or contiguous channels, and maps whose positions lie `gap` elements further apart.
void check_call(std::mt19937& random, int64_t channels, int width, bool planes, int64_t gap, Type type) {
    constexpr int64_t kGates = 2, kImages = 4;
    constexpr int kHeight = 3;
    const int64_t positions = kHeight * width, bytes = gate_bytes(channels);
    HostMaps values(kGates * channels * positions, 1, 1, type);
    values.fill(random);
    for (int64_t i = 0; i < values.rows; i += 3) values.set(i, 0, 0.0f);
    values.set(0, 0, std::numeric_limits<float>::quiet_NaN());
    const int64_t channel_stride = planes ? positions : 1, position_stride = planes ? 1 : channels;
    std::vector<uint8_t> bits(kGates * positions * bytes, 0xff);
    CHECK(gate_bits_emulated({values.bytes.data(), type, kGates, channels, positions, channels * positions,
                              channel_stride, position_stride, bits.data()}) == nullptr);
    HostMaps maps(kImages * positions, channels, channels + gap, type), out(kImages * positions, channels, channels, type);
    maps.fill(random);
    CHECK(gate_maps_emulated({maps.bytes.data(), type, kImages, kHeight, width, channels, positions * maps.stride,
                              width * maps.stride, maps.stride, bits.data(), kGates, out.bytes.data()}) == nullptr);
    for (int64_t row = 0; row < kImages * positions; ++row)
        for (int64_t c = 0; c < bytes * 8; ++c) {
            const int64_t gate = row / positions % kGates, p = row % positions;
            const bool bit = bits[(gate * positions + p) * bytes + c / 8] >> (c % 8) & 1;
            CHECK(bit == (c < channels &&
                          values.get(gate * channels * positions + c * channel_stride + p * position_stride, 0) > 0));
            if (c < channels) CHECK(out.get(row, c) == (bit ? maps.get(row, c) : 0.0f));
        }
}

void check_bools(std::mt19937& random, int64_t channels, int64_t positions) {
    std::vector<uint8_t> values(channels * positions), bits(positions * gate_bytes(channels), 0xff);
    for (auto& value : values) value = random() % 2;
    CHECK(gate_bits_emulated({values.data(), Type::boolean, 1, channels, positions, 0, positions, 1, bits.data()}) == nullptr);
    for (int64_t p = 0; p < positions; ++p)
        for (int64_t c = 0; c < channels; ++c)
            CHECK((bits[p * gate_bytes(channels) + c / 8] >> (c % 8) & 1) == values[c * positions + p]);
}

void check_errors() {
    float values[8] = {};
    uint8_t bits[8] = {};
    const GateBits good = {values, Type::float32, 1, 2, 4, 8, 4, 1, bits};
    CHECK(gate_bits_error(good) == nullptr);
    const auto refused = [&](auto change) {
        GateBits call = good;
        change(call);
        CHECK(gate_bits_error(call) != nullptr && gate_bits_emulated(call) == gate_bits_error(call));
    };
    refused([](GateBits& call) { call.type = static_cast<Type>(9); });
    refused([](GateBits& call) { call.images = -1; });
    refused([](GateBits& call) { call.channels = -1; });
    refused([](GateBits& call) { call.positions = -1; });
    refused([](GateBits& call) { call.values = nullptr; });
    refused([](GateBits& call) { call.bits = nullptr; });
    refused([&](GateBits& call) { call.values = reinterpret_cast<char*>(values) + 1; });
    CHECK(gate_bits_emulated({nullptr, Type::float32, 0, 2, 4, 8, 4, 1, nullptr}) == nullptr);

    float out[8];
    const GateMaps gated = {values, Type::float32, 1, 2, 2, 2, 8, 4, 2, bits, 1, out};
    CHECK(gate_maps_error(gated) == nullptr);
    const auto also_refused = [&](auto change) {
        GateMaps call = gated;
        change(call);
        CHECK(gate_maps_error(call) != nullptr && gate_maps_emulated(call) == gate_maps_error(call));
    };
    also_refused([](GateMaps& call) { call.type = Type::boolean; });
    also_refused([](GateMaps& call) { call.images = -1; });
    also_refused([](GateMaps& call) { call.height = -1; });
    also_refused([](GateMaps& call) { call.width = -1; });
    also_refused([](GateMaps& call) { call.channels = -1; });
    also_refused([](GateMaps& call) { call.gates = 0; });
    also_refused([](GateMaps& call) { call.in = nullptr; });
    also_refused([](GateMaps& call) { call.out = nullptr; });
    also_refused([](GateMaps& call) { call.bits = nullptr; });
    also_refused([&](GateMaps& call) { call.in = reinterpret_cast<char*>(values) + 2; });
    also_refused([&](GateMaps& call) { call.out = reinterpret_cast<char*>(out) + 2; });
    CHECK(gate_maps_emulated({nullptr, Type::float32, 0, 2, 2, 2, 8, 4, 2, nullptr, 1, nullptr}) == nullptr);
}

}  // namespace

int main() {
    for (int64_t images = 1; images < 4; ++images)
        for (int64_t positions = 1; positions < 70; ++positions)
            for (int64_t channels = 1; channels < 70; ++channels) check_tile(images, positions, channels);
    std::mt19937 random(0);
    for (int64_t channels : {1, 7, 8, 24, 33, 64, 70})
        for (int width : {1, 11, 30})
            for (bool planes : {false, true})
                for (int64_t gap : {0, 3, 8})
                    for (Type type : {Type::float32, Type::bfloat16, Type::float16})
                        check_call(random, channels, width, planes, gap, type);
    for (int64_t channels : {1, 31, 32, 70}) check_bools(random, channels, 45);
    check_errors();
}
