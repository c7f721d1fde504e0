#pragma once

#include "gathered_gemm_block.h"
#include "gathered_gemm_call.h"

namespace fwdkern::cuda {

constexpr int64_t kHopperSharedBytes = 227 * 1024;

// A launcher: the kernels on the CPU, with Hopper's instructions or with Ampere's, every block in an order of its own.
// A forced shape of zeros leaves the choice as it is.
template <bool warpgroups>
struct OnEmulator {
    TileShape forced = {0, 0};

    const char* terms(const ListTerms& body, Grid grid) const { return OnHost()(body, grid); }

    template <class G>
    const char* gemm(G, TileShape shape, GemmArguments arguments, Grid grid) const {
        if (forced.slices > 0) {
            shape = forced;
            const int64_t segments = grid.x / arguments.row_blocks;
            arguments.row_blocks = static_cast<int>(blocks_of(arguments.width, shape.rows));
            grid = {segments * arguments.row_blocks, blocks_of(arguments.slices, shape.slices)};
        }
        return with_tile<G::kPrecision, typename G::In>(shape, [&](auto tile) {
            using T = decltype(tile);
            for (int64_t y = 0; y < grid.y; ++y)
                for (int64_t x = 0; x < grid.x; ++x) {
                    const emulation::Order order = {
                        (x + y) % 2 ? emulation::Arrival::at_once : emulation::Arrival::when_waited_for,
                        static_cast<uint32_t>(1 + x + 7919 * y)};
                    const char* error = emulation::run_block(T::kThreads, T::kSharedBytes, order, [&] {
                        if constexpr (!T::kTensorCores)
                            plain_block<T>(arguments, x, y);
                        else if constexpr (warpgroups)
                            tensor_core_block<T, WarpgroupProduct<T>>(arguments, x, y);
                        else
                            tensor_core_block<T, WarpProduct<T>>(arguments, x, y);
                    });
                    if (error) return error;
                }
            return static_cast<const char*>(nullptr);
        });
    }
};

}  // namespace fwdkern::cuda
