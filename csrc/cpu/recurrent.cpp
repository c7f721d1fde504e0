#include "fwdkern/recurrent.h"

#include <algorithm>
#include <vector>

#include "fwdkern/parallel.h"
#include "kernels_of.h"

namespace fwdkern {

namespace {

// Multiply-adds that outweigh waking a thread.
constexpr int64_t kWorkPerThread = 1 << 20;
// Rows that one thread carries through all steps: their states stay near while the matrix is read once a step.
constexpr int64_t kMostRows = 48;

constexpr int kGates[] = {1, 1, 4, 3};
constexpr int kFields[] = {2, 2, 4, 4};

int64_t panels_of(int64_t columns, const RecurrentKernels& kernels) {
    return (columns + kernels.panel - 1) / kernels.panel;
}

// Blocks of rows, whole tiles as far as there are enough for all threads.
int64_t rows_of_block(int64_t rows, const RecurrentKernels& kernels, int threads) {
    const int64_t even = (rows + 4 * threads - 1) / (4 * threads);
    const int64_t tiles = std::max<int64_t>(1, (even + kernels.rows - 1) / kernels.rows);
    return std::min(tiles * kernels.rows, kMostRows / kernels.rows * kernels.rows);
}

int64_t step_at(int64_t number, int64_t steps, bool descending) { return descending ? steps - 1 - number : number; }

void scan_rows(const RecurrentScan& call, const RecurrentKernels& kernels, int64_t begin, int64_t end, float* in,
               float* product) {
    const int64_t hidden = call.hidden, row = call.steps * hidden, panels = panels_of(hidden, kernels);
    const auto at = [&](const float* values, int64_t r, int64_t step) {
        return values ? values + (r % call.batch * call.steps + step) * hidden : nullptr;
    };
    for (int64_t number = 1; number < call.steps; ++number) {
        const int64_t p = step_at(number - 1, call.steps, call.descending);
        const int64_t t = step_at(number, call.steps, call.descending);
        const int64_t low = std::max(begin, call.active[2 * p] * call.batch);
        const int64_t high = std::min(end, call.active[2 * p + 1] * call.batch);
        if (low >= high) continue;
        for (int64_t r = low; r < high; ++r)
            kernels.scale(call.maps + r * row + p * hidden, at(call.gain_in, r, p), hidden, in + (r - low) * hidden);
        kernels.multiply(in, high - low, hidden, call.weight, panels, product);
        for (int64_t r = low; r < high; ++r)
            kernels.finish(product + (r - low) * panels * kernels.panel, at(call.gain_out, r, t), at(call.keep, r, t),
                           call.maps + r * row + p * hidden, hidden, call.maps + r * row + t * hidden);
    }
}

void freeze_examples(const RecurrentFreeze& call, const RecurrentKernels& kernels, int64_t begin, int64_t end) {
    const int cell = static_cast<int>(call.cell);
    const int64_t hidden = call.hidden, gates = kGates[cell] * hidden, rows = end - begin;
    const int64_t panels = panels_of(gates, kernels), wide = panels * kernels.panel;
    const auto step = kernels.step[cell];
    std::vector<float> state(rows * hidden), exposed(rows * hidden), recurrent(rows * gates), product(rows * wide);
    std::copy(call.start + begin * hidden, call.start + end * hidden, state.begin());
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = 0; i < gates; ++i)
            recurrent[r * gates + i] = call.first[(begin + r) * gates + i] + (call.bias ? call.bias[i] : 0.0f);
    for (int64_t number = 0; number < call.steps; ++number) {
        const int64_t t = step_at(number, call.steps, call.descending);
        for (int64_t r = 0; r < rows; ++r) {
            const int64_t moment = (begin + r) * call.steps + t;
            float* fields[4];
            for (int f = 0; f < kFields[cell]; ++f) {
                fields[f] = call.out + (f * call.batch * call.steps + moment) * hidden;
                if (t >= call.lengths[begin + r]) std::fill_n(fields[f], hidden, 0.0f);
            }
            if (t < call.lengths[begin + r])
                step(call.driven + moment * gates, &recurrent[r * gates], hidden, fields, &state[r * hidden],
                     &exposed[r * hidden]);
        }
        if (number + 1 == call.steps) break;
        kernels.multiply(exposed.data(), rows, hidden, call.weight, panels, product.data());
        for (int64_t r = 0; r < rows; ++r) {
            if (t >= call.lengths[begin + r]) continue;  // a descending example that has not begun
            for (int64_t i = 0; i < gates; ++i)
                recurrent[r * gates + i] = product[r * wide + i] + (call.bias ? call.bias[i] : 0.0f);
        }
    }
}

}  // namespace

int64_t recurrent_panel(Isa isa) { return recurrent_kernels_of(isa).panel; }

void recurrent_scan(const RecurrentScan& call, Isa isa, int threads) {
    const RecurrentKernels& kernels = recurrent_kernels_of(isa);
    const int64_t rows = call.slices * call.batch;
    if (rows == 0 || call.steps < 2 || call.hidden == 0) return;
    const int64_t work = rows * call.steps * call.hidden * call.hidden;
    threads = static_cast<int>(std::clamp<int64_t>(work / kWorkPerThread, 1, std::max(threads, 1)));
    const int64_t block = rows_of_block(rows, kernels, threads);
    const int64_t blocks = (rows + block - 1) / block;
    const int64_t wide = panels_of(call.hidden, kernels) * kernels.panel;
    std::vector<std::vector<float>> memory(threads, std::vector<float>(block * (call.hidden + wide)));
    parallel_for(threads, blocks, [&](int thread, int64_t begin, int64_t end) {
        float* in = memory[thread].data();
        for (int64_t b = begin; b < end; ++b)
            scan_rows(call, kernels, b * block, std::min(rows, (b + 1) * block), in, in + block * call.hidden);
    });
}

void recurrent_freeze(const RecurrentFreeze& call, Isa isa, int threads) {
    const RecurrentKernels& kernels = recurrent_kernels_of(isa);
    if (call.batch == 0 || call.steps == 0 || call.hidden == 0) return;
    const int64_t work = call.batch * call.steps * call.hidden * call.hidden * kGates[static_cast<int>(call.cell)];
    threads = static_cast<int>(std::clamp<int64_t>(work / kWorkPerThread, 1, std::max(threads, 1)));
    const int64_t block = rows_of_block(call.batch, kernels, threads);
    parallel_for(threads, (call.batch + block - 1) / block, [&](int, int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; ++b)
            freeze_examples(call, kernels, b * block, std::min(call.batch, (b + 1) * block));
    });
}

}  // namespace fwdkern
