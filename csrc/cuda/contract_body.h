#pragma once

#include "fwdkern/cuda/contract.h"
#include "map_tile.h"

namespace fwdkern::cuda {

// A block turns kTargets x kSlices over in shared memory: targets lie together in what it reads, slices in what it
// writes.
struct ContractTile {
    static constexpr int kTargets = 64, kSlices = 32;

    int64_t targets, slices;

    FWDKERN_HD Grid grid() const { return {blocks_of(slices, kSlices), blocks_of(targets, kTargets)}; }

    // Reading, a thread sums kWide targets of one slice; writing, it has one slice of every kRound-th target, so that a
    // warp writes a line of slices.
    static constexpr int kRound = kTargets / kWide;

    static FWDKERN_HD int read_slice(int thread) { return thread / kRound; }

    template <bool kAligned>
    static FWDKERN_HD Elements<kAligned> read_targets(int thread) {
        if (kAligned) return {thread % kRound * kWide, 1};
        return {thread % kRound, kRound};
    }

    static FWDKERN_HD int write_slice(int thread) { return thread % kSlices; }
    static FWDKERN_HD int write_target(int thread, int i) { return i * kRound + thread / kSlices; }
};

template <class T, bool kAligned>
struct ContractBody {
    static constexpr int kThreads = ContractTile::kTargets * ContractTile::kSlices / kWide;

    struct Shared {
        float total[ContractTile::kTargets][ContractTile::kSlices + 1];
    };

    Contract call;
    ContractTile tile;

    template <class Block>
    FWDKERN_HD void operator()(Block& block, Shared& shared) const {
        const int64_t first_slice = block.x * tile.kSlices, first_target = block.y * tile.kTargets;
        block.each([&](int thread) {
            const int own = tile.read_slice(thread);
            const auto targets = tile.template read_targets<kAligned>(thread);
            const Elements<kAligned> at = {first_target + targets.first, targets.step};
            const int64_t slice = first_slice + own;
            if (slice >= tile.slices || at.first >= tile.targets) return;
            float total[kWide] = {};
            sum_rows<T>(call.pulled, call.index, call.coefficient, call.offset[slice], call.offset[slice + 1], at,
                        tile.targets, total);
            FWDKERN_UNROLL
            for (int i = 0; i < kWide; ++i) shared.total[targets[i]][own] = total[i];
        });
        block.each([&](int thread) {
            const int own = tile.write_slice(thread);
            FWDKERN_UNROLL
            for (int i = 0; i < kWide; ++i) {
                const int target = tile.write_target(thread, i);
                if (first_target + target < tile.targets && first_slice + own < tile.slices)
                    store_element(call.out, first_target + target, first_slice + own, shared.total[target][own]);
            }
        });
    }
};

template <class Launch>
const char* launch_contract(const Contract& call, Launch launch) {
    if (const char* error = contract_error(call)) return error;
    const ContractTile tile = {call.out.rows, call.slices};
    return with_type(call.pulled.type, [&](auto type) {
        return with_alignment(is_aligned(call.pulled, call.out.rows), [&](auto is) {
            return launch(ContractBody<decltype(type), decltype(is)::value>{call, tile}, tile.grid());
        });
    });
}

}  // namespace fwdkern::cuda
