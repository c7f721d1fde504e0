#pragma once

#include <cstdint>

#include "fwdkern/gathered_gemm.h"
#include "fwdkern/isa.h"

namespace fwdkern {

// The positions y0 <= y < y1, x0 <= x < x1 of a grid.
struct Rectangle {
    int64_t y0, y1, x0, x1;
};

// What a node's rows are made of: a product, where weight is set, or else a combination.
//
// Product: row r of position q is the sum over taps t and rows i of the parent's position taps[q, t] of
//     weight[t, channel of i, channel of r] * row i, times row_scale[r]; channels meet only inside their group.
// Combination: row r is the sum over j in [offset[r], offset[r + 1]) of coefficient[j] * row index[j].
struct RowTerm {
    int64_t parent;
    const int32_t* taps;  // [positions of the node, tap_count], -1 where a tap lies outside
    int64_t tap_count;
    const float* weight;  // [tap_count, in_channels, out_channels / groups]
    int64_t in_channels, out_channels, groups;
    const float* row_scale;    // [rows of the node] or null
    const int64_t* offset;     // [rows of the node + 1]
    const int32_t* index;      // numbers among the rows of all nodes
    const float* coefficient;  // one an index
    // For every line of the node's grid: one more than the last line of the parent that lines up to it read, and the
    // first line of the parent that it or later lines read.
    const int32_t* read_until;
    const int32_t* read_from;
};

// Rows on a grid of positions, lines of `width` positions each. Parents come before their readers.
struct RowNode {
    RowList rows;
    int64_t width;
    int64_t first;          // number of its first row among the rows of all nodes
    const int32_t* source;  // [rows], the rows of other nodes that its rows are copies of, which are read instead; or null
    const RowTerm* terms;
    int64_t term_count;
};

// Rows that are given: row r of the node has value[r] in slice slice[r], or nothing at all where that is -1.
struct RowSeeds {
    int64_t node;
    const int32_t* slice;
    const float* value;
};

// Where a node's maps go. With s a slice's number and slot[r] >= 0 what row r is called:
//     result[slot[r], s], or result[s, slot[r]] where transposed.
// Where origin is set, the second of the two numbers is a pixel of an image, and the first one's window holds it or not:
// result is [windows, window_height, window_width], window w begins at pixel (origin[w, 0], origin[w, 1]).
struct RowSink {
    int64_t node;
    const int64_t* slot;  // [rows of the node], -1 for rows that nobody wants
    float* result;
    int64_t columns;  // of a result without windows
    bool transposed;
    bool accumulate;  // rows of one slot add up
    const int64_t* origin;
    int64_t window_height, window_width;
    int64_t image_width;
};

// Slices in blocks; each block is carried through all nodes by itself.
struct RowPass {
    const RowNode* nodes;
    int64_t node_count;
    RowSeeds seeds;
    const RowSink* sinks;
    int64_t sink_count;
    const int64_t* slice_offset;  // [blocks + 1]
    const int32_t* slices;        // numbers of the slices of each block
    int64_t blocks;
    int64_t slice_count;       // of all slices
    const Rectangle* windows;  // [blocks or 1, node_count]: outside, a node's rows are zero in all slices of the block
    bool one_window;           // the same windows for all blocks
    // Nodes are computed band by band, as many lines as `band` further lines of the pivot need, so that rows are read
    // while they are in the caches and their memory is used again.
    int64_t pivot;
    int64_t band;
    Storage storage;  // of rows while they are carried; sums are float32
};

// Most rows that a block holds at a time.
int64_t row_pass_rows(const RowPass& pass);

// Memory of one thread; all of it arbitrary but `place` and `column`, which hold -1 before and after.
struct RowMemory {
    void* maps;       // [row_pass_rows, stride] in the storage of the pass
    int32_t* place;   // [rows of all nodes]
    int32_t* column;  // [slice_count]
};

// Runs some blocks, first .. last, one a thread; memory[threads]; `stride` elements a row, at least the largest block.
// Returns the multiply-adds done. Bit for bit the same for any thread count.
int64_t run_row_pass(const RowPass& pass, int64_t first, int64_t last, const RowMemory* memory, int64_t stride,
                     Isa isa, int threads);

}  // namespace fwdkern
