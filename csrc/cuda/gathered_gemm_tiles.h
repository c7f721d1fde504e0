#pragma once

#include "block.h"
#include "gathered_gemm_geometry.h"

// Every tile number of the CUDA gathered GEMM. None has been timed: they follow from counting, in benchmarks/NOTES.md.
namespace fwdkern::cuda {

struct TileShape {
    int slices, rows;

    constexpr bool operator==(TileShape other) const { return slices == other.slices && rows == other.rows; }
};

// In the order in which tile_shape grows.
constexpr TileShape kAllShapes[] = {{64, 32}, {128, 32}, {64, 64}, {128, 64}, {256, 64}, {128, 128}, {256, 128}};
// For plain threads, and for maps whose type is not the precision's own.
constexpr TileShape kFewShapes[] = {{64, 32}, {128, 64}};

// One block for each multiprocessor of the largest GPU in view.
constexpr int64_t kEnoughBlocks = 132;
// Of scratch, unless one position needs more; more positions than fit are taken in several launches.
constexpr int64_t kScratchBytes = 64 << 20;

template <Precision precision, class In_>
struct Gemm {
    static constexpr Precision kPrecision = precision;
    using In = In_;
};

template <Precision precision, class In>
constexpr bool kHasAllShapes = precision == Precision::bf16 || (precision == Precision::tf32 && sizeof(In) == 4);

template <class G>
constexpr bool has_shape(TileShape shape) {
    return kHasAllShapes<G::kPrecision, typename G::In> || shape == kFewShapes[0] || shape == kFewShapes[1];
}

// bfloat16 products of float32 maps have twice the bytes a step.
template <Precision precision, class In>
constexpr int kStagesOf = precision == Precision::bf16 && sizeof(In) == 4 ? 2 : 3;

template <Precision precision, class In, int slices, int rows>
using Tile = GemmTile<precision, In, slices, rows, kStagesOf<precision, In>>;

// Calls use(Tile()) with the tile of a shape, which must be one of the table's.
template <Precision precision, class In, class Use>
auto with_tile(TileShape shape, Use use) {
    if (shape == TileShape{64, 32}) return use(Tile<precision, In, 64, 32>());
    if constexpr (kHasAllShapes<precision, In>) {
        if (shape == TileShape{64, 64}) return use(Tile<precision, In, 64, 64>());
        if (shape == TileShape{128, 32}) return use(Tile<precision, In, 128, 32>());
        if (shape == TileShape{128, 128}) return use(Tile<precision, In, 128, 128>());
        if (shape == TileShape{256, 64}) return use(Tile<precision, In, 256, 64>());
        if (shape == TileShape{256, 128}) return use(Tile<precision, In, 256, 128>());
    }
    return use(Tile<precision, In, 128, 64>());
}

// What decides about a call's tile.
struct CallSizes {
    int64_t segments, rows, slices;  // rows: of all segments
    int64_t width;                   // output channels of a group, the most rows that a segment can have
    int64_t shared_bytes;            // that a block may have
};

// Blocks grow in rows until they hold a segment's mean, since every further block of rows reads the maps again, and in
// slices until they hold all, since a gathered weight serves all slices of its block; as far as shared memory allows,
// and as long as there is a block for every multiprocessor.
template <Precision precision, class In>
TileShape tile_shape(const CallSizes& sizes) {
    const int64_t segments = sizes.segments < 1 ? 1 : sizes.segments;
    int64_t mean = blocks_of(sizes.rows, segments);
    if (mean > sizes.width) mean = sizes.width;
    TileShape best = kAllShapes[0];
    for (const TileShape shape : kAllShapes) {
        if (!has_shape<Gemm<precision, In>>(shape)) continue;
        const bool taller = shape.rows > best.rows && best.rows < mean;
        const bool wider = shape.rows == best.rows && shape.slices > best.slices && best.slices < sizes.slices;
        const int64_t blocks = segments * blocks_of(mean, shape.rows) * blocks_of(sizes.slices, shape.slices);
        const int64_t bytes =
            with_tile<precision, In>(shape, [](auto tile) { return int64_t{decltype(tile)::kSharedBytes}; });
        if ((taller || wider) && blocks >= kEnoughBlocks && bytes <= sizes.shared_bytes) best = shape;
    }
    return best;
}

}  // namespace fwdkern::cuda
