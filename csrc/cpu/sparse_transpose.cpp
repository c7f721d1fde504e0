#include "fwdkern/sparse_transpose.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "fwdkern/gate.h"
#include "fwdkern/parallel.h"
#include "kernels_of.h"

namespace fwdkern {

namespace {

// Entries read that outweigh waking a thread.
constexpr int64_t kWorkPerThread = 1 << 15;

// Lines of the output that a thread takes at once. Lines of the input that meet two bands are read twice.
int64_t band_of(int64_t out_height) { return std::max<int64_t>(8, out_height / 8); }

// One vector, so that sums begin at a cache line: a vector across two lines takes twice as long.
struct alignas(64) Line {
    float floats[16];
};

struct Scratch {
    std::vector<int32_t> number;
    std::vector<float> value;
    std::vector<Line> sums, line;
};

int64_t ceil_div(int64_t a, int64_t b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }

int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

// Lines first to last of one image's output. Every entry of out adds its parts in the order of the input's positions,
// whatever the bands.
void fill_band(const SparseTranspose& call, Isa isa, int64_t image, int64_t band, Scratch& scratch) {
    const TransposeKernels& kernels = transpose_kernels_of(isa);
    const int64_t lines = band_of(call.out_height);
    const int64_t first = band * lines, last = std::min(call.out_height, first + lines);
    float* out = call.out + image * call.out_height * call.out_width * call.out_channels;
    const int64_t bytes = gate_bytes(call.in_channels);
    const uint8_t* bits = call.bits ? call.bits + image % call.gates * call.in_height * call.in_width * bytes : nullptr;
    float mass[16] = {};
    const int64_t run = call.kernel_width * call.out_channels, padded = padded_run(call.kernel_width, call.out_channels);
    const int64_t line = call.out_width * call.out_channels;
    // Of a 1 x 1 kernel every position of the input makes one of the output.
    const bool direct = call.kernel_height * call.kernel_width * call.stride_y * call.stride_x == 1 &&
                        call.padding_y == 0 && call.padding_x == 0 && run == padded;
    if (!direct) std::fill(out + first * line, out + last * line, 0.f);
    // Lines that lie in the padding altogether have bias mass, too: the outermost bands see to them.
    int64_t begin = 0, end = call.in_height;
    if (first > 0) begin = std::max<int64_t>(0, ceil_div(first + call.padding_y - call.kernel_height + 1, call.stride_y));
    if (last < call.out_height) end = std::min(end, floor_div(last - 1 + call.padding_y, call.stride_y) + 1);
    for (int64_t y = begin; y < end; ++y) {
        const int64_t top = y * call.stride_y - call.padding_y;
        const int64_t k0 = std::max<int64_t>(0, first - top), k1 = std::min(call.kernel_height, last - top);
        // A line that several bands read gives its mass to one of them.
        const bool own = call.bias && std::clamp<int64_t>(top, 0, call.out_height - 1) / lines == band;
        if (k0 >= k1 && !own) continue;
        if (call.pool) max_unpool_line(*call.pool, isa, image, y, scratch.line.data()->floats);
        const float* in =
            call.pool ? scratch.line.data()->floats : call.in + image * call.image_stride + y * call.line_stride;
        const int64_t step = call.pool ? call.in_channels : call.position_stride;
        for (int64_t x = 0; x < call.in_width; ++x) {
            const float* entries = in + x * step;
            const int64_t count =
                kernels.list(entries, bits ? bits + (y * call.in_width + x) * bytes : nullptr,
                             own ? call.bias : nullptr, call.in_channels, scratch.number.data(), scratch.value.data(), mass);
            if (direct) {
                kernels.product(scratch.number.data(), scratch.value.data(), count, call.weight, padded, padded / 16,
                                out + top * line + x * run);
                continue;
            }
            if (count == 0 || k0 >= k1) continue;
            kernels.product(scratch.number.data(), scratch.value.data(), count, call.weight + k0 * padded,
                            call.kernel_height * padded, (k1 - k0) * padded / 16, scratch.sums.data()->floats);
            const int64_t left = (x * call.stride_x - call.padding_x) * call.out_channels;
            const int64_t from = std::max<int64_t>(0, -left), to = std::min(run, line - left);
            if (from >= to) continue;
            for (int64_t k = k0; k < k1; ++k)
                kernels.add(scratch.sums.data()->floats + (k - k0) * padded + from, to - from, out + (top + k) * line + left + from);
        }
    }
    if (call.bias) call.mass[image * mass_parts(call.out_height) + band] = std::accumulate(mass, mass + 16, 0.f);
}

}  // namespace

int64_t mass_parts(int64_t out_height) { return (out_height + band_of(out_height) - 1) / band_of(out_height); }

void sparse_transpose(const SparseTranspose& call, Isa isa, int threads) {
    const int64_t bands = mass_parts(call.out_height);
    const int64_t work = call.images * call.in_height * call.in_width * call.in_channels;
    threads = static_cast<int>(std::clamp<int64_t>(work / kWorkPerThread, 1, std::max(threads, 1)));
    const size_t most = call.in_channels + 16;
    const size_t sums = call.kernel_height * padded_run(call.kernel_width, call.out_channels);
    const size_t line = call.pool ? call.in_width * call.in_channels : 0;
    const Scratch empty = {std::vector<int32_t>(most), std::vector<float>(most), std::vector<Line>(sums / 16),
                           std::vector<Line>(line / 16 + 1)};
    std::vector<Scratch> scratch(threads, empty);
    parallel_for(threads, call.images * bands, [&](int thread, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) fill_band(call, isa, i / bands, i % bands, scratch[thread]);
    });
}

}  // namespace fwdkern
