#include "fwdkern/recurrent.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "check.h"

namespace {

using fwdkern::Cell;
using fwdkern::Isa;

constexpr double kEpsilon = std::numeric_limits<float>::epsilon();

std::vector<float> drawn(std::mt19937& random, int64_t count, float spread) {
    std::normal_distribution<float> draw(0.0f, spread);
    std::vector<float> values(count);
    for (auto& v : values) v = draw(random);
    return values;
}

// [columns, depth] in panels.
std::vector<float> panels_of(const std::vector<float>& weight, int64_t columns, int64_t depth, Isa isa) {
    const int64_t width = fwdkern::recurrent_panel(isa), panels = (columns + width - 1) / width;
    std::vector<float> packed(panels * depth * width, 0.0f);
    for (int64_t n = 0; n < columns; ++n)
        for (int64_t k = 0; k < depth; ++k) packed[(n / width * depth + k) * width + n % width] = weight[n * depth + k];
    return packed;
}

void check_scan(std::mt19937& random, int64_t slices, int64_t batch, int64_t hidden, bool descending, bool plain,
                Isa isa, int threads) {
    const int64_t steps = 6, size = batch * steps * hidden;
    const auto weight = drawn(random, hidden * hidden, 1.0f / std::sqrt(static_cast<float>(hidden)));
    const auto keep = drawn(random, size, 0.5f), gain_in = drawn(random, size, 0.7f), gain_out = drawn(random, size, 0.7f);
    std::vector<float> maps = drawn(random, slices * size, 1.0f);
    std::vector<int64_t> active(2 * steps);
    for (int64_t n = 0; n < steps; ++n) {
        const int64_t t = descending ? steps - 1 - n : n;
        active[2 * t] = slices * (steps - 1 - n) / (2 * steps);
        active[2 * t + 1] = slices * (steps + n + 1) / (2 * steps);
        for (int64_t s = 0; s < slices; ++s)
            if (s < active[2 * t] || s >= active[2 * t + 1])
                for (int64_t b = 0; b < batch; ++b)
                    std::fill_n(&maps[((s * batch + b) * steps + t) * hidden], hidden, 0.0f);
    }
    std::vector<double> expected(maps.begin(), maps.end()), magnitude(maps.size());
    for (size_t i = 0; i < maps.size(); ++i) magnitude[i] = std::fabs(maps[i]);
    for (int64_t n = 1; n < steps; ++n) {
        const int64_t p = descending ? steps - n : n - 1, t = descending ? p - 1 : p + 1;
        for (int64_t r = 0; r < slices * batch; ++r) {
            const int64_t at = r % batch * steps;
            for (int64_t i = 0; i < hidden; ++i) {
                double sum = 0, size_of = 0;
                for (int64_t k = 0; k < hidden; ++k) {
                    const double factor =
                        double{weight[i * hidden + k]} * (plain ? 1.0 : gain_in[(at + p) * hidden + k]);
                    sum += factor * expected[(r * steps + p) * hidden + k];
                    size_of += std::fabs(factor) * magnitude[(r * steps + p) * hidden + k];
                }
                const double out = gain_out[(at + t) * hidden + i], kept = plain ? 0.0 : keep[(at + t) * hidden + i];
                const int64_t here = (r * steps + t) * hidden + i, before = (r * steps + p) * hidden + i;
                expected[here] += out * sum + kept * expected[before];
                magnitude[here] += std::fabs(out) * size_of + std::fabs(kept) * magnitude[before];
            }
        }
    }
    const auto packed = panels_of(weight, hidden, hidden, isa);
    fwdkern::recurrent_scan({maps.data(), slices, batch, steps, hidden, packed.data(), plain ? nullptr : keep.data(),
                             plain ? nullptr : gain_in.data(), gain_out.data(), active.data(), descending},
                            isa, threads);
    for (size_t i = 0; i < maps.size(); ++i)
        CHECK(std::fabs(maps[i] - expected[i]) <= steps * (hidden + 4) * kEpsilon * magnitude[i]);
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double ratio(double x) { return x == 0 ? 1 : std::tanh(x) / x; }

void check_freeze(std::mt19937& random, Cell cell, int64_t batch, int64_t hidden, bool descending, Isa isa,
                  int threads) {
    const int kind = static_cast<int>(cell), gates = kind == 2 ? 4 : kind == 3 ? 3 : 1, fields = kind < 2 ? 2 : 4;
    const int64_t steps = 5, rows = gates * hidden;
    auto driven = drawn(random, batch * steps * rows, 2.0f);
    const auto weight = drawn(random, rows * hidden, 1.0f / std::sqrt(static_cast<float>(hidden)));
    const auto bias = drawn(random, rows, 0.5f), first = drawn(random, batch * rows, 0.5f);
    const auto start = drawn(random, batch * hidden, 0.5f);
    std::vector<int64_t> lengths(batch);
    for (int64_t b = 0; b < batch; ++b) lengths[b] = 1 + (b * 3 + 4) % steps;
    std::vector<float> out(fields * batch * steps * hidden, std::numeric_limits<float>::quiet_NaN());
    const auto packed = panels_of(weight, rows, hidden, isa);
    fwdkern::recurrent_freeze({cell, driven.data(), batch, steps, hidden, packed.data(), bias.data(), first.data(),
                               start.data(), lengths.data(), descending, out.data()},
                              isa, threads);
    // Errors of earlier steps come back through the recurrence, but no tanh or sigmoid makes them larger than the
    // weights do; a factor for those stands in the bound.
    const double bound = 64 * steps * (hidden + 8) * kEpsilon;
    for (int64_t b = 0; b < batch; ++b) {
        std::vector<double> state(start.begin() + b * hidden, start.begin() + (b + 1) * hidden), exposed(hidden);
        std::vector<double> recurrent(first.begin() + b * rows, first.begin() + (b + 1) * rows);
        for (int64_t n = 0; n < steps; ++n) {
            const int64_t t = descending ? steps - 1 - n : n;
            for (int64_t i = 0; i < hidden; ++i) {
                double want[4] = {};
                if (t < lengths[b]) {
                    const auto drive = [&](int gate) {
                        return double{driven[(b * steps + t) * rows + gate * hidden + i]};
                    };
                    const auto back = [&](int gate) { return recurrent[gate * hidden + i] + bias[gate * hidden + i]; };
                    if (kind < 2) {
                        const double z = drive(0) + back(0);
                        want[0] = kind ? (z > 0) : ratio(z);
                        want[1] = exposed[i] = kind ? std::max(z, 0.0) : std::tanh(z);
                        if (kind && std::fabs(z) < bound) continue;
                    } else if (kind == 2) {
                        const double enter = sigmoid(drive(0) + back(0)), g = drive(2) + back(2);
                        want[0] = enter * ratio(g);
                        want[1] = sigmoid(drive(1) + back(1));
                        state[i] = want[3] = want[1] * state[i] + enter * std::tanh(g);
                        want[2] = sigmoid(drive(3) + back(3)) * ratio(state[i]);
                        exposed[i] = want[2] * state[i];
                    } else {
                        const double reset = sigmoid(drive(0) + back(0)), inner = drive(2) + reset * back(2);
                        want[2] = sigmoid(drive(1) + back(1));
                        want[0] = (1 - want[2]) * ratio(inner);
                        want[1] = want[0] * reset;
                        state[i] = exposed[i] = want[3] = want[2] * state[i] + (1 - want[2]) * std::tanh(inner);
                    }
                }
                for (int f = 0; f < fields; ++f) {
                    const float got = out[((f * batch + b) * steps + t) * hidden + i];
                    CHECK(std::fabs(got - want[f]) <= bound * (1 + std::fabs(want[f])));
                }
            }
            if (t >= lengths[b]) continue;
            for (int64_t i = 0; i < rows; ++i) {
                recurrent[i] = 0;
                for (int64_t k = 0; k < hidden; ++k) recurrent[i] += double{weight[i * hidden + k]} * exposed[k];
            }
        }
    }
}

}  // namespace

int main() {
    std::mt19937 random(std::random_device{}());
    for (int isa = 0; isa <= static_cast<int>(fwdkern::available_isa()); ++isa)
        for (int threads : {1, 3})
            for (bool descending : {false, true}) {
                for (int64_t hidden : {1, 5, 33, 64})
                    for (int64_t slices : {1, 3, 29, 130})
                        for (int64_t batch : {1, 2})
                            check_scan(random, slices, batch, hidden, descending, slices == 3,
                                       static_cast<Isa>(isa), threads);
                for (int cell = 0; cell < 4; ++cell)
                    for (int64_t hidden : {1, 7, 40})
                        for (int64_t batch : {1, 2, 15})
                            check_freeze(random, static_cast<Cell>(cell), batch, hidden, descending,
                                         static_cast<Isa>(isa), threads);
            }
}
