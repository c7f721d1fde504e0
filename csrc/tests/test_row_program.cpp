// A small network of random rows: seeds, a 3x3 convolution, a grouped and scaled one, a sum with a skipped layer, a
// relabelled layer and a product that reads it; carried in blocks with windows and rings, and compared with float64.
#include "fwdkern/row_program.h"

#include <cmath>
#include <random>
#include <vector>

#include "check.h"
#include "fwdkern/active_rows.h"

using namespace fwdkern;

namespace {

constexpr int64_t kHeight = 7, kWidth = 5, kPositions = kHeight * kWidth;

std::mt19937 random_bits(0);

float draw() { return std::uniform_real_distribution<float>(-1, 1)(random_bits); }

struct List {
    int64_t channels;
    std::vector<int64_t> offset;
    std::vector<int32_t> channel;

    List(int64_t channels, double density) : channels(channels), offset(kPositions + 1) {
        std::vector<uint8_t> gate(channels * kPositions);
        for (auto& each : gate) each = std::uniform_real_distribution<double>(0, 1)(random_bits) < density;
        channel.resize(count_active_rows(gate.data(), channels, kPositions, kPositions, 1, offset.data()));
        list_active_rows(gate.data(), channels, kPositions, kPositions, 1, offset.data(), channel.data());
    }

    int64_t rows() const { return static_cast<int64_t>(channel.size()); }
    RowList view() const { return {offset.data(), channel.data(), kPositions}; }

    int64_t find(int64_t position, int64_t wanted) const {
        for (int64_t r = offset[position]; r < offset[position + 1]; ++r)
            if (channel[r] == wanted) return r;
        return -1;
    }
};

std::vector<int32_t> taps_of_3x3() {
    std::vector<int32_t> taps;
    for (int64_t q = 0; q < kPositions; ++q)
        for (int64_t dy = -1; dy <= 1; ++dy)
            for (int64_t dx = -1; dx <= 1; ++dx) {
                const int64_t y = q / kWidth + dy, x = q % kWidth + dx;
                taps.push_back(y < 0 || y >= kHeight || x < 0 || x >= kWidth ? -1 : static_cast<int32_t>(y * kWidth + x));
            }
    return taps;
}

struct Combination {
    std::vector<int64_t> offset{0};
    std::vector<int32_t> index;
    std::vector<float> coefficient;
};

// Rows of `own` that copy the rows of the same unit where the parent has them.
Combination same_units(const List& own, const List& parent, int64_t parent_first, float coefficient) {
    Combination made;
    for (int64_t p = 0; p < kPositions; ++p)
        for (int64_t r = own.offset[p]; r < own.offset[p + 1]; ++r) {
            const int64_t row = parent.find(p, own.channel[r]);
            if (row >= 0) {
                made.index.push_back(static_cast<int32_t>(parent_first + row));
                made.coefficient.push_back(coefficient);
            }
            made.offset.push_back(static_cast<int64_t>(made.index.size()));
        }
    return made;
}

// All rows of all nodes in float64, [rows, slices], and the sums of the magnitudes that make them.
void reference(const RowPass& pass, int64_t rows, std::vector<double>& maps, std::vector<double>& magnitude) {
    const int64_t slices = pass.slice_count;
    maps.assign(rows * slices, 0);
    magnitude.assign(rows * slices, 0);
    const auto add = [&](int64_t to, int64_t from, double factor) {
        for (int64_t s = 0; s < slices; ++s) {
            maps[to * slices + s] += factor * maps[from * slices + s];
            magnitude[to * slices + s] += std::fabs(factor) * magnitude[from * slices + s];
        }
    };
    for (int64_t n = 0; n < pass.node_count; ++n) {
        const RowNode& node = pass.nodes[n];
        for (int64_t q = 0; q < node.rows.positions; ++q)
            for (int64_t r = node.rows.offset[q]; r < node.rows.offset[q + 1]; ++r) {
                if (n == pass.seeds.node && pass.seeds.slice[r] >= 0) {
                    maps[r * slices + pass.seeds.slice[r]] = pass.seeds.value[r];
                    magnitude[r * slices + pass.seeds.slice[r]] = std::fabs(pass.seeds.value[r]);
                }
                if (node.source) {
                    add(node.first + r, node.source[r], 1);
                    continue;
                }
                for (int64_t t = 0; t < node.term_count; ++t) {
                    const RowTerm& term = node.terms[t];
                    for (int64_t j = term.weight ? 0 : term.offset[r]; j < (term.weight ? 0 : term.offset[r + 1]); ++j)
                        add(node.first + r, term.index[j], term.coefficient[j]);
                    if (!term.weight) continue;
                    const RowNode& parent = pass.nodes[term.parent];
                    const int64_t in = term.in_channels / term.groups, out = term.out_channels / term.groups;
                    for (int64_t tap = 0; tap < term.tap_count; ++tap) {
                        const int64_t p = term.taps[q * term.tap_count + tap];
                        for (int64_t i = p < 0 ? 0 : parent.rows.offset[p]; i < (p < 0 ? 0 : parent.rows.offset[p + 1]); ++i) {
                            if (parent.rows.channel[i] / in != node.rows.channel[r] / out) continue;
                            const double weight = term.weight[(tap * term.in_channels + parent.rows.channel[i]) * out +
                                                              node.rows.channel[r] % out];
                            add(node.first + r, parent.first + i, weight * (term.row_scale ? term.row_scale[r] : 1));
                        }
                    }
                }
            }
    }
}

std::vector<float> weights(int64_t count) {
    std::vector<float> made(count);
    for (float& each : made) each = draw();
    return made;
}

void check_network(double density, int64_t band, bool windows, bool transposed, int threads, Storage storage,
                   Isa isa) {
    const List input(2, 1), first(17, density), second(6, density), sum(6, density), last(3, density);
    const std::vector<int32_t> taps = taps_of_3x3();
    std::vector<int32_t> points(kPositions), around_until(kHeight), around_from(kHeight), same_until(kHeight),
        same_from(kHeight);
    for (int64_t p = 0; p < kPositions; ++p) points[p] = static_cast<int32_t>(p);
    for (int64_t y = 0; y < kHeight; ++y) {
        around_until[y] = static_cast<int32_t>(std::min(y + 2, kHeight));
        around_from[y] = static_cast<int32_t>(std::max<int64_t>(y - 1, 0));
        same_until[y] = static_cast<int32_t>(y + 1);
        same_from[y] = static_cast<int32_t>(y);
    }
    const int64_t starts[] = {0, input.rows(), input.rows() + first.rows(), input.rows() + first.rows() + second.rows()};
    const int64_t sum_first = starts[3], copy_first = sum_first + sum.rows(), last_first = copy_first + sum.rows();
    const std::vector<float> w1 = weights(9 * 2 * 17), w2 = weights(9 * 18 * 3), w3 = weights(6 * 3);
    const std::vector<float> scale = weights(second.rows());
    const Combination here = same_units(sum, second, starts[2], 0.5f), skip = same_units(sum, first, starts[1], -2);
    std::vector<int32_t> copies(sum.rows());
    Combination copied;
    for (int64_t r = 0; r < sum.rows(); ++r) {
        copies[r] = static_cast<int32_t>(sum_first + r);
        copied.index.push_back(copies[r]);
        copied.coefficient.push_back(1);
        copied.offset.push_back(r + 1);
    }
    const auto product = [&](int64_t parent, const std::vector<int32_t>& table, int64_t count, const float* weight,
                             int64_t in, int64_t out, int64_t groups, const float* row_scale) {
        return RowTerm{parent, table.data(), count, weight, in, out, groups, row_scale, nullptr, nullptr, nullptr,
                       count == 1 ? same_until.data() : around_until.data(),
                       count == 1 ? same_from.data() : around_from.data()};
    };
    const auto combination = [&](int64_t parent, const Combination& terms) {
        return RowTerm{parent, nullptr, 0, nullptr, 0, 0, 1, nullptr, terms.offset.data(), terms.index.data(),
                       terms.coefficient.data(), same_until.data(), same_from.data()};
    };
    const RowTerm first_terms[] = {product(0, taps, 9, w1.data(), 2, 17, 1, nullptr)};
    // The grouped layer counts one channel more than the first has.
    const RowTerm second_terms[] = {product(1, taps, 9, w2.data(), 18, 6, 2, scale.data())};
    const RowTerm sum_terms[] = {combination(2, here), combination(1, skip)};
    const RowTerm copy_terms[] = {combination(3, copied)};
    const RowTerm last_terms[] = {product(4, points, 1, w3.data(), 6, 3, 1, nullptr),
                                  product(3, points, 1, w3.data(), 6, 3, 1, nullptr)};
    const RowNode nodes[] = {
        {input.view(), kWidth, 0, nullptr, nullptr, 0},
        {first.view(), kWidth, starts[1], nullptr, first_terms, 1},
        {second.view(), kWidth, starts[2], nullptr, second_terms, 1},
        {sum.view(), kWidth, sum_first, nullptr, sum_terms, 2},
        {sum.view(), kWidth, copy_first, copies.data(), copy_terms, 1},
        {last.view(), kWidth, last_first, nullptr, last_terms, 2},
    };
    const int64_t rows = last_first + last.rows();

    // Slices are pixels, both channels of one in the same slice; some units are given no value.
    std::vector<int32_t> seed_slice;
    std::vector<float> seed_value;
    for (int64_t p = 0; p < kPositions; ++p)
        for (int64_t c = 0; c < 2; ++c) {
            seed_slice.push_back(c == 1 && p % 5 == 0 ? -1 : static_cast<int32_t>(p));
            seed_value.push_back(draw());
        }

    // Tiles of pixels; a window is the tile and what two convolutions see around it.
    std::vector<int64_t> slice_offset{0};
    std::vector<int32_t> slices;
    std::vector<Rectangle> reach;
    for (int64_t y = 0; y < kHeight; y += 3)
        for (int64_t x = 0; x < kWidth; x += 2) {
            const int64_t y1 = std::min(y + 3, kHeight), x1 = std::min(x + 2, kWidth);
            for (int64_t v = y; v < y1; ++v)
                for (int64_t u = x; u < x1; ++u) slices.push_back(static_cast<int32_t>(v * kWidth + u));
            slice_offset.push_back(static_cast<int64_t>(slices.size()));
            for (const int64_t far : {0, 1, 2, 2, 2, 2})
                reach.push_back({std::max<int64_t>(y - far, 0), std::min(y1 + far, kHeight),
                                 std::max<int64_t>(x - far, 0), std::min(x1 + far, kWidth)});
        }
    const std::vector<Rectangle> whole(6, {0, kHeight, 0, kWidth});

    std::vector<int64_t> slot(last.rows());
    for (int64_t r = 0; r < last.rows(); ++r) slot[r] = last.rows() - 1 - r;
    if (!slot.empty()) slot[0] = -1;
    std::vector<float> result(last.rows() * kPositions, 0.0f);
    const RowSink sink = {5,       slot.data(), result.data(), transposed ? last.rows() : kPositions, transposed, false,
                          nullptr, 0,           0,             0};
    const RowPass pass = {nodes,
                          6,
                          {0, seed_slice.data(), seed_value.data()},
                          &sink,
                          1,
                          slice_offset.data(),
                          slices.data(),
                          static_cast<int64_t>(slice_offset.size()) - 1,
                          kPositions,
                          windows ? reach.data() : whole.data(),
                          !windows,
                          5,
                          band,
                          storage};
    const int64_t stride = 16, held = row_pass_rows(pass);
    if (band == 1 && !windows && density == 1) CHECK(held < rows);  // rings hold less than everything
    std::vector<std::vector<float>> maps(threads, std::vector<float>(held * stride, NAN));
    std::vector<std::vector<int32_t>> place(threads, std::vector<int32_t>(rows, -1)),
        column(threads, std::vector<int32_t>(kPositions, -1));
    std::vector<RowMemory> memory;
    for (int t = 0; t < threads; ++t) memory.push_back({maps[t].data(), place[t].data(), column[t].data()});
    const int64_t work = run_row_pass(pass, 0, pass.blocks, memory.data(), stride, isa, threads);
    CHECK(density == 0 || work > 0);
    for (int t = 0; t < threads; ++t) {
        for (const int32_t each : place[t]) CHECK(each == -1);
        for (const int32_t each : column[t]) CHECK(each == -1);
    }

    std::vector<double> expected, magnitude;
    reference(pass, rows, expected, magnitude);
    for (int64_t r = 0; r < last.rows(); ++r)
        for (int64_t s = 0; s < kPositions; ++s) {
            const int64_t at = last.rows() - 1 - r;
            const float found = result[transposed ? s * last.rows() + at : at * kPositions + s];
            const int64_t from = (last_first + r) * kPositions + s;
            // Four layers are rounded to 8 bits; sums of up to 400 terms are float32.
            const double bound = (400 * 1.2e-7 + (storage == Storage::bfloat16 ? 4 * 0.004 : 0)) * magnitude[from];
            CHECK(std::fabs(found - (slot[r] < 0 ? 0 : expected[from])) <= bound);
        }
}

}  // namespace

int main() {
    for (int isa = 0; isa <= static_cast<int>(available_isa()); ++isa)
        for (const double density : {0.0, 0.3, 1.0})
            for (const int64_t band : {1, 2, 100})
                for (const bool windows : {false, true})
                    for (const bool transposed : {false, true})
                        for (const int threads : {1, 3})
                            for (const Storage storage : {Storage::float32, Storage::bfloat16})
                                check_network(density, band, windows, transposed, threads, storage,
                                              static_cast<Isa>(isa));
    return 0;
}
