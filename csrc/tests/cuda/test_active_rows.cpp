#include "fwdkern/cuda/active_rows.h"

#include <random>
#include <vector>

#include "check.h"

namespace {

using namespace fwdkern::cuda;

void check_gate(std::mt19937& random, int64_t channels, int64_t positions, bool channels_last, double density) {
    std::vector<uint8_t> gate(channels * positions), bits(positions * ((channels + 7) / 8));
    std::bernoulli_distribution open(density);
    for (auto& each : gate) each = open(random);
    const int64_t channel_stride = channels_last ? 1 : positions, position_stride = channels_last ? channels : 1;
    std::vector<int64_t> block_rows(positions / kCountedPositions + 1, -1), row_offset(positions + 1, -1), expected{0};
    std::vector<int32_t> channel;
    for (int64_t p = 0; p < positions; ++p) {
        for (int64_t c = 0; c < channels; ++c)
            if (gate[c * channel_stride + p * position_stride]) channel.push_back(static_cast<int32_t>(c));
        expected.push_back(static_cast<int64_t>(channel.size()));
    }
    ActiveRows call = {gate.data(), channels, positions, channel_stride, position_stride, bits.data(),
                       block_rows.data(), row_offset.data(), nullptr};
    CHECK(count_active_rows_emulated(call) == nullptr);
    CHECK(row_offset == expected);
    std::vector<int32_t> row_channel(channel.size(), -1);
    call.row_channel = row_channel.data();
    CHECK(list_active_rows_emulated(call) == nullptr);
    CHECK(row_channel == channel && row_offset == expected);
}

void check_errors() {
    uint8_t gate[4] = {}, bits[4];
    int64_t block_rows[1], row_offset[3];
    const ActiveRows good = {gate, 2, 2, 2, 1, bits, block_rows, row_offset, nullptr};
    CHECK(count_active_rows_error(good) == nullptr && list_active_rows_error(good) == nullptr);
    const auto refused = [&](auto change) {
        ActiveRows call = good;
        change(call);
        CHECK(count_active_rows_error(call) != nullptr && list_active_rows_error(call) != nullptr);
        CHECK(count_active_rows_emulated(call) == count_active_rows_error(call));
        CHECK(list_active_rows_emulated(call) == list_active_rows_error(call));
    };
    refused([](ActiveRows& call) { call.channels = -1; });
    refused([](ActiveRows& call) { call.positions = -1; });
    refused([](ActiveRows& call) { call.channels = int64_t{1} << 31; });
    refused([](ActiveRows& call) { call.gate = nullptr; });
    refused([](ActiveRows& call) { call.bits = nullptr; });
    refused([](ActiveRows& call) { call.block_rows = nullptr; });
    refused([](ActiveRows& call) { call.row_offset = nullptr; });
}

}  // namespace

int main() {
    std::mt19937 random(0);
    for (int64_t channels : {0, 1, 3, 8, 31, 32, 33, 65, 130})
        for (int64_t positions : {0, 1, 31, 33, 255, 256, 257, 1000})
            for (bool channels_last : {false, true})
                for (double density : {0.0, 0.3, 1.0}) check_gate(random, channels, positions, channels_last, density);
    check_gate(random, 3, 70000, false, 0.5);  // more blocks than a block has threads
    check_errors();
}
