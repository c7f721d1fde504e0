// Pointers arrive as integers (tensor.data_ptr()), so that this module needs neither torch nor its headers.
// Shapes, dtypes and strides are checked in fwdkern/ops before a call.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "cuda.h"
#include "fwdkern/active_rows.h"
#include "fwdkern/gate.h"
#include "fwdkern/gathered_gemm.h"
#include "fwdkern/isa.h"
#include "fwdkern/max_pool.h"
#include "fwdkern/recurrent.h"
#include "fwdkern/row_combine.h"
#include "fwdkern/row_program.h"
#include "fwdkern/row_sums.h"
#include "fwdkern/sparse_transpose.h"

namespace py = pybind11;

namespace {

template <typename T>
T* pointer(std::uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

int64_t count_active_rows(std::uintptr_t gate, int64_t channels, int64_t positions, int64_t channel_stride,
                          int64_t position_stride, std::uintptr_t row_offset) {
    return fwdkern::count_active_rows(pointer<const uint8_t>(gate), channels, positions, channel_stride,
                                      position_stride, pointer<int64_t>(row_offset));
}

void list_active_rows(std::uintptr_t gate, int64_t channels, int64_t positions, int64_t channel_stride,
                      int64_t position_stride, std::uintptr_t row_offset, std::uintptr_t row_channel) {
    fwdkern::list_active_rows(pointer<const uint8_t>(gate), channels, positions, channel_stride,
                              position_stride, pointer<const int64_t>(row_offset),
                              pointer<int32_t>(row_channel));
}

// (address, rows, stride, bfloat16?)
using MapsArgument = std::tuple<std::uintptr_t, int64_t, int64_t, bool>;
// (offset address, channel address, positions)
using RowListArgument = std::tuple<std::uintptr_t, std::uintptr_t, int64_t>;

fwdkern::Maps maps(const MapsArgument& argument) {
    const auto [address, rows, stride, bfloat16] = argument;
    return {pointer<void>(address), rows, stride, bfloat16 ? fwdkern::Storage::bfloat16 : fwdkern::Storage::float32};
}

fwdkern::RowList row_list(const RowListArgument& argument) {
    const auto [offset, channel, positions] = argument;
    return {pointer<const int64_t>(offset), pointer<const int32_t>(channel), positions};
}

void gathered_gemm(const MapsArgument& in, const RowListArgument& in_rows, const MapsArgument& out,
                   const RowListArgument& out_rows, std::uintptr_t taps, int64_t tap_count, std::uintptr_t weight,
                   int64_t in_channels, int64_t out_channels, int64_t groups, std::uintptr_t row_scale,
                   bool accumulate, int64_t slices, std::uintptr_t in_index, int64_t in_listed, int isa, int threads) {
    const fwdkern::GatheredGemm call = {maps(in),
                                        row_list(in_rows),
                                        maps(out),
                                        row_list(out_rows),
                                        pointer<const int32_t>(taps),
                                        tap_count,
                                        pointer<const float>(weight),
                                        in_channels,
                                        out_channels,
                                        groups,
                                        pointer<const float>(row_scale),
                                        accumulate,
                                        slices,
                                        pointer<const int32_t>(in_index),
                                        in_listed};
    if (const char* error = fwdkern::gathered_gemm_error(call)) throw std::invalid_argument(error);
    fwdkern::gathered_gemm(call, static_cast<fwdkern::Isa>(isa), threads);
}

void row_combine(const MapsArgument& in, const MapsArgument& out, std::uintptr_t offset, std::uintptr_t index,
                 std::uintptr_t coefficient, int64_t terms, bool accumulate, int64_t slices, int isa, int threads) {
    const fwdkern::RowCombine call = {maps(in),
                                      maps(out),
                                      pointer<const int64_t>(offset),
                                      pointer<const int32_t>(index),
                                      pointer<const float>(coefficient),
                                      terms,
                                      accumulate,
                                      slices};
    if (const char* error = fwdkern::row_combine_error(call)) throw std::invalid_argument(error);
    fwdkern::row_combine(call, static_cast<fwdkern::Isa>(isa), threads);
}

// (height, width)
using PairArgument = std::tuple<int64_t, int64_t>;
// Of maps whose channels are contiguous: (images, height, width, channels), and how far apart the first three lie.
using ShapeArgument = std::tuple<int64_t, int64_t, int64_t, int64_t>;
using StridesArgument = std::tuple<int64_t, int64_t, int64_t>;

void gate_bits(std::uintptr_t values, const StridesArgument& shape, const StridesArgument& strides, std::uintptr_t bits,
               int isa, int threads) {
    const auto [images, channels, positions] = shape;
    const auto [image_stride, channel_stride, position_stride] = strides;
    const fwdkern::GateBits call = {pointer<const float>(values), images, channels, positions, image_stride,
                                    channel_stride, position_stride, pointer<uint8_t>(bits)};
    fwdkern::gate_bits(call, static_cast<fwdkern::Isa>(isa), threads);
}

void gate_maps(std::uintptr_t in, const ShapeArgument& shape, const StridesArgument& strides, std::uintptr_t bits,
               int64_t gates, std::uintptr_t out, int isa, int threads) {
    const auto [images, height, width, channels] = shape;
    const auto [image_stride, line_stride, position_stride] = strides;
    const fwdkern::GateMaps call = {pointer<const float>(in), images, height, width, channels, image_stride,
                                    line_stride, position_stride, pointer<const uint8_t>(bits), gates,
                                    pointer<float>(out)};
    fwdkern::gate_maps(call, static_cast<fwdkern::Isa>(isa), threads);
}

// kernel, stride, padding, dilation
using WindowArgument = std::tuple<PairArgument, PairArgument, PairArgument, PairArgument>;

void max_pool(std::uintptr_t in, const ShapeArgument& shape, const WindowArgument& window, std::uintptr_t out,
              const PairArgument& out_size, std::uintptr_t winner, int isa, int threads) {
    const auto [images, height, width, channels] = shape;
    const auto& [kernel, stride, padding, dilation] = window;
    const fwdkern::MaxPool call = {pointer<const float>(in), images, height, width, channels,
                                   std::get<0>(kernel), std::get<1>(kernel), std::get<0>(stride), std::get<1>(stride),
                                   std::get<0>(padding), std::get<1>(padding), std::get<0>(dilation),
                                   std::get<1>(dilation), pointer<float>(out), std::get<0>(out_size),
                                   std::get<1>(out_size), pointer<uint8_t>(winner)};
    fwdkern::max_pool(call, static_cast<fwdkern::Isa>(isa), threads);
}

// Winners, how many examples have their own, and the windows.
using PoolArgument = std::tuple<std::uintptr_t, int64_t, WindowArgument>;

fwdkern::MaxUnpool unpool_of(std::uintptr_t out, const ShapeArgument& shape, const StridesArgument& strides,
                             const PoolArgument& pool, std::uintptr_t in, const PairArgument& in_size) {
    const auto [images, height, width, channels] = shape;
    const auto [image_stride, line_stride, position_stride] = strides;
    const auto& [winner, winners, window] = pool;
    const auto& [kernel, stride, padding, dilation] = window;
    return {pointer<const float>(out), image_stride, line_stride, position_stride, pointer<const uint8_t>(winner),
            winners, images, height, width, channels, std::get<0>(kernel), std::get<1>(kernel), std::get<0>(stride),
            std::get<1>(stride), std::get<0>(padding), std::get<1>(padding), std::get<0>(dilation),
            std::get<1>(dilation), pointer<float>(in), std::get<0>(in_size), std::get<1>(in_size)};
}

void max_unpool(std::uintptr_t out, const ShapeArgument& shape, const StridesArgument& strides,
                const PoolArgument& pool, std::uintptr_t in, const PairArgument& in_size, int isa, int threads) {
    fwdkern::max_unpool(unpool_of(out, shape, strides, pool, in, in_size), static_cast<fwdkern::Isa>(isa), threads);
}

// The maps are those behind the pool where there is one; `size` is that of the convolution's output.
// shape: (slices, batch, steps, hidden)
void recurrent_scan(std::uintptr_t maps, const ShapeArgument& shape, std::uintptr_t weight, std::uintptr_t keep,
                    std::uintptr_t gain_in, std::uintptr_t gain_out, std::uintptr_t active, bool descending, int isa,
                    int threads) {
    const auto [slices, batch, steps, hidden] = shape;
    const fwdkern::RecurrentScan call = {pointer<float>(maps), slices, batch, steps, hidden,
                                         pointer<const float>(weight), pointer<const float>(keep),
                                         pointer<const float>(gain_in), pointer<const float>(gain_out),
                                         pointer<const int64_t>(active), descending};
    fwdkern::recurrent_scan(call, static_cast<fwdkern::Isa>(isa), threads);
}

// shape: (batch, steps, hidden)
void recurrent_freeze(int cell, std::uintptr_t driven, const std::tuple<int64_t, int64_t, int64_t>& shape,
                      std::uintptr_t weight, std::uintptr_t bias, std::uintptr_t first, std::uintptr_t start,
                      std::uintptr_t lengths, bool descending, std::uintptr_t out, int isa, int threads) {
    const auto [batch, steps, hidden] = shape;
    const fwdkern::RecurrentFreeze call = {static_cast<fwdkern::Cell>(cell), pointer<const float>(driven), batch, steps,
                                           hidden, pointer<const float>(weight), pointer<const float>(bias),
                                           pointer<const float>(first), pointer<const float>(start),
                                           pointer<const int64_t>(lengths), descending, pointer<float>(out)};
    fwdkern::recurrent_freeze(call, static_cast<fwdkern::Isa>(isa), threads);
}

void sparse_transpose(std::uintptr_t in, const ShapeArgument& shape, const StridesArgument& strides,
                      const std::optional<PoolArgument>& pool, const PairArgument& size, std::uintptr_t bits,
                      int64_t gates, std::uintptr_t bias, std::uintptr_t weight,
                      const PairArgument& kernel, const PairArgument& stride, const PairArgument& padding,
                      std::uintptr_t out, const PairArgument& out_size, int64_t out_channels, std::uintptr_t mass,
                      int isa, int threads) {
    const int64_t images = std::get<0>(shape), channels = std::get<3>(shape);
    const auto [image_stride, line_stride, position_stride] = strides;
    fwdkern::MaxUnpool unpool;
    if (pool) unpool = unpool_of(in, shape, strides, *pool, 0, size);
    const fwdkern::SparseTranspose call = {pointer<const float>(in), images, std::get<0>(size), std::get<1>(size),
                                           channels, image_stride, line_stride, position_stride,
                                           pool ? &unpool : nullptr, pointer<const uint8_t>(bits), gates,
                                           pointer<const float>(bias), pointer<const float>(weight),
                                           std::get<0>(kernel), std::get<1>(kernel), std::get<0>(stride),
                                           std::get<1>(stride), std::get<0>(padding), std::get<1>(padding),
                                           pointer<float>(out), std::get<0>(out_size), std::get<1>(out_size),
                                           out_channels, pointer<float>(mass)};
    fwdkern::sparse_transpose(call, static_cast<fwdkern::Isa>(isa), threads);
}

using RectangleArgument = std::tuple<int64_t, int64_t, int64_t, int64_t>;  // y0, y1, x0, x1

fwdkern::Rectangle rectangle(const RectangleArgument& argument) {
    const auto [y0, y1, x0, x1] = argument;
    return {y0, y1, x0, x1};
}

void row_sums(std::uintptr_t maps, int64_t rows, int64_t columns, std::uintptr_t addend, std::uintptr_t sum,
              std::uintptr_t magnitude, int threads) {
    fwdkern::row_sums(pointer<float>(maps), rows, columns, pointer<const float>(addend), pointer<float>(sum),
                      pointer<float>(magnitude), threads);
}

void number_rows(std::uintptr_t row_offset, std::uintptr_t row_channel, int64_t positions, std::uintptr_t unit,
                 std::uintptr_t row) {
    fwdkern::number_rows(pointer<const int64_t>(row_offset), pointer<const int32_t>(row_channel), positions,
                         pointer<int64_t>(unit), pointer<int64_t>(row));
}

// Plain data behind the pointers of a RowPass; the tensors behind the addresses are kept by the caller.
class RowPass {
public:
    // (parent, taps, tap count, weight, in channels, out channels, groups, row scale,
    //  offset, index, coefficient, read until, read from)
    using Term = std::tuple<int64_t, std::uintptr_t, int64_t, std::uintptr_t, int64_t, int64_t, int64_t,
                            std::uintptr_t, std::uintptr_t, std::uintptr_t, std::uintptr_t, std::uintptr_t,
                            std::uintptr_t>;
    // (rows, width, first, source, terms)
    using Node = std::tuple<RowListArgument, int64_t, int64_t, std::uintptr_t, std::vector<Term>>;
    // (node, slice, value)
    using Seeds = std::tuple<int64_t, std::uintptr_t, std::uintptr_t>;
    // (node, slot, result, columns, transposed, accumulate, origin, window height, window width, image width)
    using Sink = std::tuple<int64_t, std::uintptr_t, std::uintptr_t, int64_t, bool, bool, std::uintptr_t, int64_t,
                            int64_t, int64_t>;
    // (slice offset, slices, blocks, slice count)
    using Blocks = std::tuple<std::uintptr_t, std::uintptr_t, int64_t, int64_t>;

    RowPass(const std::vector<Node>& nodes, const Seeds& seeds, const std::vector<Sink>& sinks, const Blocks& blocks,
            std::uintptr_t windows, bool one_window, int64_t pivot, int64_t band, bool bfloat16) {
        terms_.reserve(nodes.size());
        for (const auto& [rows, width, first, source, terms] : nodes) {
            std::vector<fwdkern::RowTerm>& made = terms_.emplace_back();
            for (const auto& [parent, taps, tap_count, weight, in_channels, out_channels, groups, scale, offset, index,
                              coefficient, until, from] : terms)
                made.push_back({parent, pointer<const int32_t>(taps), tap_count, pointer<const float>(weight),
                                in_channels, out_channels, groups, pointer<const float>(scale),
                                pointer<const int64_t>(offset), pointer<const int32_t>(index),
                                pointer<const float>(coefficient), pointer<const int32_t>(until),
                                pointer<const int32_t>(from)});
            nodes_.push_back({row_list(rows), width, first, pointer<const int32_t>(source), made.data(),
                              static_cast<int64_t>(made.size())});
        }
        for (const auto& [node, slot, result, columns, transposed, accumulate, origin, height, width, image] : sinks)
            sinks_.push_back({node, pointer<const int64_t>(slot), pointer<float>(result), columns, transposed,
                              accumulate, pointer<const int64_t>(origin), height, width, image});
        const auto& [seeded, seed_slice, seed_value] = seeds;
        const auto& [slice_offset, slices, count, slice_count] = blocks;
        pass_ = {nodes_.data(),
                 static_cast<int64_t>(nodes_.size()),
                 {seeded, pointer<const int32_t>(seed_slice), pointer<const float>(seed_value)},
                 sinks_.data(),
                 static_cast<int64_t>(sinks_.size()),
                 pointer<const int64_t>(slice_offset),
                 pointer<const int32_t>(slices),
                 count,
                 slice_count,
                 pointer<const fwdkern::Rectangle>(windows),
                 one_window,
                 pivot,
                 band,
                 bfloat16 ? fwdkern::Storage::bfloat16 : fwdkern::Storage::float32};
    }

    RowPass(const RowPass&) = delete;

    int64_t rows() const { return fwdkern::row_pass_rows(pass_); }

    // maps [threads, rows, stride], place [threads, rows of all nodes], column [threads, slices].
    int64_t run(int64_t first, int64_t last, std::uintptr_t maps, int64_t rows, int64_t stride, std::uintptr_t place,
                int64_t row_count, std::uintptr_t column, int isa, int threads) const {
        std::vector<fwdkern::RowMemory> memory;
        const int64_t element = pass_.storage == fwdkern::Storage::float32 ? 4 : 2;
        for (int t = 0; t < threads; ++t)
            memory.push_back({pointer<char>(maps) + t * rows * stride * element, pointer<int32_t>(place) + t * row_count,
                              pointer<int32_t>(column) + t * pass_.slice_count});
        return fwdkern::run_row_pass(pass_, first, last, memory.data(), stride, static_cast<fwdkern::Isa>(isa),
                                     threads);
    }

private:
    std::vector<std::vector<fwdkern::RowTerm>> terms_;
    std::vector<fwdkern::RowNode> nodes_;
    std::vector<fwdkern::RowSink> sinks_;
    fwdkern::RowPass pass_;
};

}  // namespace

PYBIND11_MODULE(_native, m) {
    using no_gil = py::call_guard<py::gil_scoped_release>;
    m.def("compiler", &fwdkern::compiler_name);
    m.def("available_isa", [] { return static_cast<int>(fwdkern::available_isa()); });
    m.def("count_active_rows", &count_active_rows, no_gil());
    m.def("list_active_rows", &list_active_rows, no_gil());
    m.def("gathered_gemm", &gathered_gemm, no_gil());
    m.def("number_rows", &number_rows, no_gil());
    m.def("recurrent_freeze", &recurrent_freeze, no_gil());
    m.def("recurrent_panel", [](int isa) { return fwdkern::recurrent_panel(static_cast<fwdkern::Isa>(isa)); });
    m.def("recurrent_scan", &recurrent_scan, no_gil());
    m.def("row_combine", &row_combine, no_gil());
    m.def("row_sums", &row_sums, no_gil());
    py::class_<RowPass>(m, "RowPass")
        .def(py::init<const std::vector<RowPass::Node>&, const RowPass::Seeds&, const std::vector<RowPass::Sink>&,
                      const RowPass::Blocks&, std::uintptr_t, bool, int64_t, int64_t, bool>())
        .def("rows", &RowPass::rows, no_gil())
        .def("run", &RowPass::run, no_gil());
    m.def("gate_bits", &gate_bits, no_gil());
    m.def("gate_maps", &gate_maps, no_gil());
    m.def("max_pool", &max_pool, no_gil());
    m.def("max_unpool", &max_unpool, no_gil());
    m.def("mass_parts", &fwdkern::mass_parts);
    m.def("sparse_transpose", &sparse_transpose, no_gil());
#ifdef FWDKERN_WITH_CUDA
    bind_cuda(m);
#else
    m.attr("no_cuda") = FWDKERN_NO_CUDA;
#endif
}
