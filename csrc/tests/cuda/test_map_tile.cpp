// Which thread has which element: each exactly one, for all small sizes.
#include "cuda/map_tile.h"

#include <cstdint>
#include <vector>

#include "check.h"
#include "cuda/channels.h"
#include "cuda/contract_body.h"

namespace {

using namespace fwdkern::cuda;

template <bool kAligned>
void check_map_tile(int64_t rows, int64_t slices) {
    const MapTile tile = map_tile(rows, slices);
    std::vector<int> owners(rows * slices);
    const Grid grid = tile.grid();
    for (int64_t y = 0; y < grid.y; ++y)
        for (int64_t x = 0; x < grid.x; ++x) {
            int64_t used = 0;
            for (int thread = 0; thread < kMapThreads; ++thread) {
                const int64_t row = tile.row(x, thread);
                const auto at = tile.elements<kAligned>(y, thread);
                for (int i = 0; i < kWide; ++i) {
                    if (row >= rows || at[i] >= slices) continue;
                    ++owners[row * slices + at[i]];
                    ++used;
                }
                if (!kAligned) continue;
                CHECK(at.step == 1 && at.first % kWide == 0);
            }
            CHECK(used > 0);  // no block without work
        }
    for (int count : owners) CHECK(count == 1);
}

template <bool kAligned>
void check_contract_tile() {
    using Tile = ContractTile;
    const int threads = ContractBody<float, kAligned>::kThreads;
    std::vector<int> read(Tile::kTargets * Tile::kSlices), written(read);
    for (int thread = 0; thread < threads; ++thread)
        for (int i = 0; i < kWide; ++i) {
            ++read[Tile::read_targets<kAligned>(thread)[i] * Tile::kSlices + Tile::read_slice(thread)];
            ++written[Tile::write_target(thread, i) * Tile::kSlices + Tile::write_slice(thread)];
        }
    for (int count : read) CHECK(count == 1);
    for (int count : written) CHECK(count == 1);
}

void check_contract_grid(int64_t targets, int64_t slices) {
    const Grid grid = ContractTile{targets, slices}.grid();
    CHECK((grid.x - 1) * ContractTile::kSlices < slices && slices <= grid.x * ContractTile::kSlices);
    CHECK((grid.y - 1) * ContractTile::kTargets < targets && targets <= grid.y * ContractTile::kTargets);
}

// Two routes to a place: 32-bit numbers, and the 64-bit ones of very large tensors.
void check_channel_tile(int64_t images, int height, int width, int64_t channels) {
    const ChannelTile tile = {images, height, width, channels};
    int64_t thread = 0;
    for (int64_t image = 0; image < images; ++image)
        for (int y = 0; y < height; ++y)
            for (int x = 0; x < width; ++x)
                for (int64_t channel = 0; channel < channels; channel += kWide, ++thread)
                    for (const auto& at : {tile.place(thread), tile.place_in<int64_t>(thread)}) {
                        CHECK(at.image == image && at.y == y && at.x == x && at.channel == channel);
                        CHECK(tile.element(at) == ((image * height + y) * width + x) * channels + channel);
                    }
    CHECK(thread == tile.count());
}

}  // namespace

int main() {
    for (int64_t rows : {0, 1, 2, 7, 31, 64, 257})
        for (int64_t slices = 0; slices <= 300; ++slices) {
            check_map_tile<false>(rows, slices);
            if (slices % kWide == 0) check_map_tile<true>(rows, slices);
        }
    for (int64_t slices : {2047, 2048, 2049, 6000}) check_map_tile<false>(3, slices);
    check_contract_tile<false>();
    check_contract_tile<true>();
    for (int64_t targets = 1; targets < 200; ++targets)
        for (int64_t slices = 1; slices < 100; ++slices) check_contract_grid(targets, slices);
    for (int64_t images = 0; images < 4; ++images)
        for (int height = 0; height < 5; ++height)
            for (int width = 0; width < 5; ++width)
                for (int64_t channels = 0; channels < 20; ++channels) check_channel_tile(images, height, width, channels);
    // Beyond 32 bits: the last thread of the last image.
    const ChannelTile large = {1 << 20, 256, 256, 8};
    const auto last = large.place(large.count() - 1);
    CHECK(last.image == (1 << 20) - 1 && last.y == 255 && last.x == 255 && last.channel == 0);
}
