// Pointers arrive as integers (tensor.data_ptr()), so that this module needs neither torch nor its headers.
// Shapes, dtypes and strides are checked in fwdkern/ops before a call.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <tuple>

#include "fwdkern/active_rows.h"
#include "fwdkern/gate.h"
#include "fwdkern/gathered_gemm.h"
#include "fwdkern/isa.h"
#include "fwdkern/max_pool.h"
#include "fwdkern/row_combine.h"
#include "fwdkern/sparse_transpose.h"
#include "fwdkern/windows.h"

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

int64_t count_window_rows(std::uintptr_t offset, int64_t width, const RectangleArgument& inside) {
    return fwdkern::count_window_rows(pointer<const int64_t>(offset), width, rectangle(inside));
}

void list_window_rows(std::uintptr_t offset, std::uintptr_t channel, int64_t width, const RectangleArgument& inside,
                      std::uintptr_t rows, std::uintptr_t window_offset, std::uintptr_t window_channel) {
    fwdkern::list_window_rows(pointer<const int64_t>(offset), pointer<const int32_t>(channel), width,
                              rectangle(inside), pointer<int64_t>(rows), pointer<int64_t>(window_offset),
                              pointer<int32_t>(window_channel));
}

int64_t count_window_terms(std::uintptr_t offset, std::uintptr_t index, std::uintptr_t rows, int64_t row_count,
                           std::uintptr_t local, std::uintptr_t window_offset) {
    return fwdkern::count_window_terms(pointer<const int64_t>(offset), pointer<const int32_t>(index),
                                       pointer<const int64_t>(rows), row_count, pointer<const int32_t>(local),
                                       pointer<int64_t>(window_offset));
}

void list_window_terms(std::uintptr_t offset, std::uintptr_t index, std::uintptr_t coefficient, std::uintptr_t rows,
                       int64_t row_count, std::uintptr_t local, std::uintptr_t window_index,
                       std::uintptr_t window_coefficient) {
    fwdkern::list_window_terms(pointer<const int64_t>(offset), pointer<const int32_t>(index),
                               pointer<const float>(coefficient), pointer<const int64_t>(rows), row_count,
                               pointer<const int32_t>(local), pointer<int32_t>(window_index),
                               pointer<float>(window_coefficient));
}

void scatter_windows(std::uintptr_t maps, int64_t stride, std::uintptr_t target, int64_t row_count,
                     const RectangleArgument& tile, std::uintptr_t origin, int64_t window_height,
                     int64_t window_width, std::uintptr_t result, int threads) {
    fwdkern::scatter_windows(pointer<const float>(maps), stride, pointer<const int64_t>(target), row_count,
                             rectangle(tile), pointer<const int64_t>(origin), window_height, window_width,
                             pointer<float>(result), threads);
}

}  // namespace

PYBIND11_MODULE(_native, m) {
    using no_gil = py::call_guard<py::gil_scoped_release>;
    m.def("compiler", &fwdkern::compiler_name);
    m.def("available_isa", [] { return static_cast<int>(fwdkern::available_isa()); });
    m.def("count_active_rows", &count_active_rows, no_gil());
    m.def("list_active_rows", &list_active_rows, no_gil());
    m.def("gathered_gemm", &gathered_gemm, no_gil());
    m.def("row_combine", &row_combine, no_gil());
    m.def("gate_bits", &gate_bits, no_gil());
    m.def("gate_maps", &gate_maps, no_gil());
    m.def("max_pool", &max_pool, no_gil());
    m.def("max_unpool", &max_unpool, no_gil());
    m.def("mass_parts", &fwdkern::mass_parts);
    m.def("sparse_transpose", &sparse_transpose, no_gil());
    m.def("count_window_rows", &count_window_rows, no_gil());
    m.def("list_window_rows", &list_window_rows, no_gil());
    m.def("count_window_terms", &count_window_terms, no_gil());
    m.def("list_window_terms", &list_window_terms, no_gil());
    m.def("scatter_windows", &scatter_windows, no_gil());
}
