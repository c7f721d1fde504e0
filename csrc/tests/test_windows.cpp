#include "fwdkern/windows.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "check.h"

namespace {

using fwdkern::Rectangle;

struct RowList {
    std::vector<int64_t> offset{0};
    std::vector<int32_t> channel;
};

RowList random_list(std::mt19937& random, int64_t positions, int32_t channels, double density) {
    std::bernoulli_distribution draw(density);
    RowList list;
    for (int64_t p = 0; p < positions; ++p) {
        for (int32_t c = 0; c < channels; ++c)
            if (draw(random)) list.channel.push_back(c);
        list.offset.push_back(static_cast<int64_t>(list.channel.size()));
    }
    return list;
}

void check_rows(const RowList& list, int64_t width, const Rectangle& inside) {
    const int64_t count = fwdkern::count_window_rows(list.offset.data(), width, inside);
    const int64_t positions = (inside.y1 - inside.y0) * (inside.x1 - inside.x0);
    std::vector<int64_t> rows(count, -1), offset(positions + 1, -1);
    std::vector<int32_t> channel(count, -1);
    fwdkern::list_window_rows(list.offset.data(), list.channel.data(), width, inside, rows.data(), offset.data(),
                              channel.data());
    int64_t row = 0, position = 0;
    CHECK(offset[0] == 0);
    for (int64_t y = inside.y0; y < inside.y1; ++y)
        for (int64_t x = inside.x0; x < inside.x1; ++x) {
            for (int64_t r = list.offset[y * width + x]; r < list.offset[y * width + x + 1]; ++r, ++row)
                CHECK(rows[row] == r && channel[row] == list.channel[r]);
            CHECK(offset[++position] == row);
        }
    CHECK(row == count && position == positions);
}

void check_terms(std::mt19937& random, int64_t row_count, double kept) {
    constexpr int32_t inputs = 13;
    std::uniform_int_distribution<int64_t> length(0, 5);
    std::uniform_int_distribution<int32_t> input(0, inputs - 1);
    std::bernoulli_distribution keep(kept), want(0.5);
    std::vector<int64_t> offset{0}, rows;
    for (int64_t r = 0; r < row_count; ++r) {
        offset.push_back(offset.back() + length(random));
        if (want(random)) rows.push_back(r);
    }
    std::vector<int32_t> index(offset.back()), local(inputs, -1);
    std::vector<float> coefficient(offset.back());
    for (auto& i : index) i = input(random);
    for (size_t i = 0; i < coefficient.size(); ++i) coefficient[i] = static_cast<float>(i);
    int32_t number = 0;
    for (auto& l : local)
        if (keep(random)) l = number++;

    std::vector<int64_t> window_offset(rows.size() + 1, -1);
    const int64_t count =
        fwdkern::count_window_terms(offset.data(), index.data(), rows.data(), static_cast<int64_t>(rows.size()),
                                    local.data(), window_offset.data());
    std::vector<int32_t> window_index(count, -1);
    std::vector<float> window_coefficient(count, -1);
    fwdkern::list_window_terms(offset.data(), index.data(), coefficient.data(), rows.data(),
                               static_cast<int64_t>(rows.size()), local.data(), window_index.data(),
                               window_coefficient.data());
    int64_t term = 0;
    for (size_t r = 0; r < rows.size(); ++r) {
        CHECK(window_offset[r] == term);
        for (int64_t j = offset[rows[r]]; j < offset[rows[r] + 1]; ++j)
            if (local[index[j]] >= 0) {
                CHECK(window_index[term] == local[index[j]] && window_coefficient[term] == coefficient[j]);
                ++term;
            }
    }
    CHECK(window_offset.back() == term && term == count);
}

void check_scatter(std::mt19937& random, int64_t rows, const Rectangle& tile, int64_t image_height,
                   int64_t image_width, int64_t height, int64_t width, int threads) {
    const int64_t units = 2 * rows + 1, pixels = (tile.y1 - tile.y0) * (tile.x1 - tile.x0), stride = pixels + 3;
    std::uniform_int_distribution<int64_t> top(0, image_height - height), left(0, image_width - width);
    std::bernoulli_distribution wanted(0.7);
    std::vector<float> maps(rows * stride), result(units * height * width, -1), expected = result;
    for (size_t i = 0; i < maps.size(); ++i) maps[i] = static_cast<float>(i);
    std::vector<int64_t> target(rows), origin;
    for (int64_t r = 0; r < rows; ++r) target[r] = wanted(random) ? 2 * r : -1;
    for (int64_t u = 0; u < units; ++u) origin.insert(origin.end(), {top(random), left(random)});
    fwdkern::scatter_windows(maps.data(), stride, target.data(), rows, tile, origin.data(), height, width,
                             result.data(), threads);
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t y = tile.y0; y < tile.y1 && target[r] >= 0; ++y)
            for (int64_t x = tile.x0; x < tile.x1; ++x) {
                const int64_t v = y - origin[2 * target[r]], u = x - origin[2 * target[r] + 1];
                if (v >= 0 && v < height && u >= 0 && u < width)
                    expected[(target[r] * height + v) * width + u] =
                        maps[r * stride + (y - tile.y0) * (tile.x1 - tile.x0) + x - tile.x0];
            }
    CHECK(result == expected);
}

}  // namespace

int main() {
    std::mt19937 random(0);
    for (int64_t height : {1, 6})
        for (int64_t width : {1, 9})
            for (double density : {0.0, 0.4, 1.0}) {
                const RowList list = random_list(random, height * width, 5, density);
                check_rows(list, width, {0, height, 0, width});
                check_rows(list, width, {height - 1, height, width - 1, width});
                check_rows(list, width, {height / 2, height, 0, (width + 1) / 2});
                check_rows(list, width, {0, 0, 0, width});
            }
    for (int64_t rows : {0, 1, 40})
        for (double kept : {0.0, 0.5, 1.0}) check_terms(random, rows, kept);
    for (int64_t rows : {0, 1, 300})
        for (int threads : {1, 3}) {
            check_scatter(random, rows, {0, 8, 0, 10}, 8, 10, 8, 10, threads);
            check_scatter(random, rows, {2, 5, 4, 9}, 8, 10, 3, 2, threads);
            check_scatter(random, rows, {7, 8, 9, 10}, 8, 10, 1, 1, threads);
        }
}
