#include "fwdkern/active_rows.h"

#include <cstdint>
#include <random>
#include <vector>

#include "check.h"

namespace {

void check_random_gate(std::mt19937& random, int64_t channels, int64_t positions, double density,
                       bool channels_last) {
    const int64_t channel_stride = channels_last ? 1 : positions;
    const int64_t position_stride = channels_last ? channels : 1;
    std::bernoulli_distribution draw(density);
    std::vector<uint8_t> gate(channels * positions);
    // Any byte but 0 counts as active, as reinterpreted tensors may hold.
    std::uniform_int_distribution<int> byte(1, 255);
    for (auto& g : gate) g = draw(random) ? static_cast<uint8_t>(byte(random)) : 0;

    std::vector<int64_t> offset(positions + 1, -1);
    const int64_t rows = fwdkern::count_active_rows(gate.data(), channels, positions, channel_stride,
                                                    position_stride, offset.data());
    CHECK(offset[0] == 0 && offset[positions] == rows);
    std::vector<int32_t> channel(rows, -1);
    fwdkern::list_active_rows(gate.data(), channels, positions, channel_stride, position_stride,
                              offset.data(), channel.data());
    int64_t row = 0;
    for (int64_t p = 0; p < positions; ++p) {
        CHECK(offset[p] == row);
        for (int64_t c = 0; c < channels; ++c)
            if (gate[c * channel_stride + p * position_stride]) CHECK(channel[row++] == c);
    }
    CHECK(row == rows);
}

}  // namespace

int main() {
    std::mt19937 random(0);
    for (int64_t channels : {0, 1, 3, 17, 512})
        for (int64_t positions : {0, 1, 63, 64, 65, 200})
            for (double density : {0.0, 0.3, 1.0})
                for (bool channels_last : {false, true})
                    check_random_gate(random, channels, positions, density, channels_last);
}
