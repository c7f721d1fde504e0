#include "fwdkern/gate.h"

#include <algorithm>

#include "fwdkern/parallel.h"
#include "kernels_of.h"

namespace fwdkern {

namespace {

// Values that outweigh waking a thread.
constexpr int64_t kWorkPerThread = 1 << 16;
// Positions whose bytes are made together from planes of channels: they stay in L1.
constexpr int64_t kBlock = 256;

int threads_for(int64_t work, int threads) {
    return static_cast<int>(std::clamp<int64_t>(work / kWorkPerThread, 1, std::max(threads, 1)));
}

// Positions begin to end of one image whose channels are not contiguous.
void pack_planes(const GateBits& call, const float* values, int64_t begin, int64_t end, uint8_t* bits) {
    const int64_t bytes = gate_bytes(call.channels);
    for (int64_t c = 0; c < call.channels; c += 8) {
        uint8_t own[kBlock] = {};
        for (int64_t i = 0; i < 8 && c + i < call.channels; ++i) {
            const float* plane = values + (c + i) * call.channel_stride;
            for (int64_t p = begin; p < end; ++p)
                own[p - begin] |= static_cast<uint8_t>((plane[p * call.position_stride] > 0) << i);
        }
        for (int64_t p = begin; p < end; ++p) bits[p * bytes + c / 8] = own[p - begin];
    }
}

}  // namespace

void gate_bits(const GateBits& call, Isa isa, int threads) {
    const GateKernels& kernels = gate_kernels_of(isa);
    const int64_t bytes = gate_bytes(call.channels);
    const int64_t blocks = (call.positions + kBlock - 1) / kBlock;
    threads = threads_for(call.images * call.channels * call.positions, threads);
    parallel_for(threads, call.images * blocks, [&](int, int64_t first, int64_t last) {
        for (int64_t item = first; item < last; ++item) {
            const int64_t image = item / blocks, begin = item % blocks * kBlock;
            const int64_t end = std::min(call.positions, begin + kBlock);
            const float* values = call.values + image * call.image_stride;
            uint8_t* bits = call.bits + image * call.positions * bytes;
            if (call.channel_stride != 1) {
                pack_planes(call, values, begin, end, bits);
                continue;
            }
            for (int64_t p = begin; p < end; ++p)
                kernels.pack(values + p * call.position_stride, call.channels, bits + p * bytes);
        }
    });
}

void gate_maps(const GateMaps& call, Isa isa, int threads) {
    const GateKernels& kernels = gate_kernels_of(isa);
    const int64_t bytes = gate_bytes(call.channels);
    threads = threads_for(call.images * call.height * call.width * call.channels, threads);
    parallel_for(threads, call.images * call.height, [&](int, int64_t first, int64_t last) {
        for (int64_t item = first; item < last; ++item) {
            const int64_t image = item / call.height, y = item % call.height;
            const float* in = call.in + image * call.image_stride + y * call.line_stride;
            const uint8_t* bits = call.bits + (image % call.gates * call.height + y) * call.width * bytes;
            float* out = call.out + item * call.width * call.channels;
            for (int64_t x = 0; x < call.width; ++x)
                kernels.apply(in + x * call.position_stride, bits + x * bytes, call.channels, out + x * call.channels);
        }
    });
}

}  // namespace fwdkern
