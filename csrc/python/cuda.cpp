// The CUDA kernels. Every function ends in (device, stream): the device's number and a cudaStream_t as an integer, or
// -1 and 0 for the kernels' bodies on the CPU. A ValueError tells of arguments, a RuntimeError of the driver.
#include "cuda.h"

#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>

#include "fwdkern/cuda/active_rows.h"
#include "fwdkern/cuda/contract.h"
#include "fwdkern/cuda/device.h"
#include "fwdkern/cuda/gate.h"
#include "fwdkern/cuda/gathered_gemm.h"
#include "fwdkern/cuda/max_pool.h"
#include "fwdkern/cuda/row_combine.h"
#include "fwdkern/cuda/row_sums.h"
#include "fwdkern/cuda/seed.h"

namespace py = pybind11;

namespace {

namespace cuda = fwdkern::cuda;

template <typename T>
T* pointer(std::uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

// (address, rows, stride, type)
using MapsArgument = std::tuple<std::uintptr_t, int64_t, int64_t, int>;

cuda::Maps maps(const MapsArgument& argument) {
    const auto [address, rows, stride, type] = argument;
    return {pointer<void>(address), rows, stride, static_cast<cuda::Type>(type)};
}

void check_arguments(const char* error) {
    if (error) throw std::invalid_argument(error);
}

void check_driver(const char* error) {
    if (error) throw std::runtime_error(error);
}

template <class Call>
void run(const Call& call, const char* (*error)(const Call&), const char* (*launch)(const Call&, void*),
         const char* (*emulate)(const Call&), int device, std::uintptr_t stream) {
    check_arguments(error(call));
    if (device < 0) return check_driver(emulate(call));
    check_driver(cuda::use_device(device));
    check_driver(launch(call, pointer<void>(stream)));
}

#define FWDKERN_RUN(name, call, device, stream) \
    run(call, &cuda::name##_error, &cuda::name, &cuda::name##_emulated, device, stream)

void row_combine(const MapsArgument& in, const MapsArgument& out, std::uintptr_t offset, std::uintptr_t index,
                 std::uintptr_t coefficient, bool accumulate, int64_t slices, int device, std::uintptr_t stream) {
    const cuda::RowCombine call = {maps(in), maps(out), pointer<const int64_t>(offset), pointer<const int32_t>(index),
                                   pointer<const float>(coefficient), accumulate, slices};
    FWDKERN_RUN(row_combine, call, device, stream);
}

// (gate, channels, positions, channel stride, position stride, bits, block rows, row offset)
using GateListArgument = std::tuple<std::uintptr_t, int64_t, int64_t, int64_t, int64_t, std::uintptr_t, std::uintptr_t,
                                    std::uintptr_t>;

cuda::ActiveRows active_rows_of(const GateListArgument& lists, std::uintptr_t row_channel) {
    const auto [gate, channels, positions, channel_stride, position_stride, bits, block_rows, row_offset] = lists;
    return {pointer<const uint8_t>(gate), channels, positions, channel_stride, position_stride, pointer<uint8_t>(bits),
            pointer<int64_t>(block_rows), pointer<int64_t>(row_offset), pointer<int32_t>(row_channel)};
}

void count_active_rows(const GateListArgument& lists, int device, std::uintptr_t stream) {
    FWDKERN_RUN(count_active_rows, active_rows_of(lists, 0), device, stream);
}

void list_active_rows(const GateListArgument& lists, std::uintptr_t row_channel, int device, std::uintptr_t stream) {
    FWDKERN_RUN(list_active_rows, active_rows_of(lists, row_channel), device, stream);
}

void seed(std::uintptr_t value, std::uintptr_t column, const MapsArgument& out, int64_t slices, int device,
          std::uintptr_t stream) {
    const cuda::Seed call = {pointer<const float>(value), pointer<const int32_t>(column), maps(out), slices};
    FWDKERN_RUN(seed, call, device, stream);
}

void contract(const MapsArgument& pulled, const MapsArgument& out, std::uintptr_t offset, std::uintptr_t index,
              std::uintptr_t coefficient, int64_t slices, int device, std::uintptr_t stream) {
    const cuda::Contract call = {maps(pulled), maps(out), pointer<const int64_t>(offset), pointer<const int32_t>(index),
                                 pointer<const float>(coefficient), slices};
    FWDKERN_RUN(contract, call, device, stream);
}

void row_sums(const MapsArgument& in, int64_t columns, std::uintptr_t addend, std::uintptr_t sum,
              std::uintptr_t magnitude, int device, std::uintptr_t stream) {
    const cuda::RowSums call = {maps(in), columns, pointer<const float>(addend), pointer<float>(sum),
                                pointer<float>(magnitude)};
    FWDKERN_RUN(row_sums, call, device, stream);
}

// (height, width)
using PairArgument = std::tuple<int, int>;
// Of maps whose channels are contiguous: (images, height, width, channels), and how far apart the first three lie.
using ShapeArgument = std::tuple<int64_t, int, int, int64_t>;
using StridesArgument = std::tuple<int64_t, int64_t, int64_t>;
// kernel, stride, padding, dilation
using WindowArgument = std::tuple<PairArgument, PairArgument, PairArgument, PairArgument>;

cuda::PoolWindow window_of(const WindowArgument& argument) {
    const auto& [kernel, stride, padding, dilation] = argument;
    return {std::get<0>(kernel), std::get<1>(kernel), std::get<0>(stride), std::get<1>(stride),
            std::get<0>(padding), std::get<1>(padding), std::get<0>(dilation), std::get<1>(dilation)};
}

// shape and strides: (images, channels, positions).
void gate_bits(std::uintptr_t values, int type, const StridesArgument& shape, const StridesArgument& strides,
               std::uintptr_t bits, int device, std::uintptr_t stream) {
    const auto [images, channels, positions] = shape;
    const auto [image_stride, channel_stride, position_stride] = strides;
    const cuda::GateBits call = {pointer<const void>(values), static_cast<cuda::Type>(type), images, channels, positions,
                                 image_stride, channel_stride, position_stride, pointer<uint8_t>(bits)};
    FWDKERN_RUN(gate_bits, call, device, stream);
}

void gate_maps(std::uintptr_t in, int type, const ShapeArgument& shape, const StridesArgument& strides,
               std::uintptr_t bits, int64_t gates, std::uintptr_t out, int device, std::uintptr_t stream) {
    const auto [images, height, width, channels] = shape;
    const auto [image_stride, line_stride, position_stride] = strides;
    const cuda::GateMaps call = {pointer<const void>(in), static_cast<cuda::Type>(type), images, height, width, channels,
                                 image_stride, line_stride, position_stride, pointer<const uint8_t>(bits), gates,
                                 pointer<void>(out)};
    FWDKERN_RUN(gate_maps, call, device, stream);
}

void max_pool(std::uintptr_t in, int type, const ShapeArgument& shape, const WindowArgument& window, std::uintptr_t out,
              const PairArgument& out_size, std::uintptr_t winner, int device, std::uintptr_t stream) {
    const auto [images, height, width, channels] = shape;
    const cuda::MaxPool call = {pointer<const void>(in), static_cast<cuda::Type>(type), images, height, width, channels,
                                window_of(window), pointer<void>(out), std::get<0>(out_size), std::get<1>(out_size),
                                pointer<uint8_t>(winner)};
    FWDKERN_RUN(max_pool, call, device, stream);
}

void max_unpool(std::uintptr_t out, int type, const ShapeArgument& shape, const StridesArgument& strides,
                std::uintptr_t winner, int64_t winners, const WindowArgument& window, std::uintptr_t in,
                const PairArgument& in_size, int device, std::uintptr_t stream) {
    const auto [images, height, width, channels] = shape;
    const auto [image_stride, line_stride, position_stride] = strides;
    const cuda::MaxUnpool call = {pointer<const void>(out), static_cast<cuda::Type>(type), image_stride, line_stride,
                                  position_stride, pointer<const uint8_t>(winner), winners, images, height, width,
                                  channels, window_of(window), pointer<void>(in), std::get<0>(in_size),
                                  std::get<1>(in_size)};
    FWDKERN_RUN(max_unpool, call, device, stream);
}

// (offset address, channel address, positions)
using RowListArgument = std::tuple<std::uintptr_t, std::uintptr_t, int64_t>;

cuda::RowList row_list(const RowListArgument& argument) {
    const auto [offset, channel, positions] = argument;
    return {pointer<const int64_t>(offset), pointer<const int32_t>(channel), positions};
}

// weights: (address, taps, in channels, out channels, groups); scratch: (address, bytes).
using WeightsArgument = std::tuple<std::uintptr_t, int64_t, int64_t, int64_t, int64_t>;
using ScratchArgument = std::tuple<std::uintptr_t, int64_t>;

void gathered_gemm(const MapsArgument& in, const RowListArgument& in_rows, const MapsArgument& out,
                   const RowListArgument& out_rows, std::uintptr_t taps,
                   const WeightsArgument& weights, std::uintptr_t row_scale, bool accumulate, int64_t slices,
                   std::uintptr_t in_index, int precision, const ScratchArgument& scratch, bool listed, int device,
                   std::uintptr_t stream) {
    const auto [weight, tap_count, in_channels, out_channels, groups] = weights;
    const auto [scratch_address, scratch_bytes] = scratch;
    const cuda::GatheredGemm call = {maps(in), row_list(in_rows), maps(out), row_list(out_rows),
                                     pointer<const int32_t>(taps), tap_count, pointer<const void>(weight), in_channels,
                                     out_channels, groups, pointer<const float>(row_scale), accumulate, slices,
                                     pointer<const int32_t>(in_index), static_cast<cuda::Precision>(precision),
                                     pointer<void>(scratch_address), scratch_bytes, listed};
    FWDKERN_RUN(gathered_gemm, call, device, stream);
}

// sizes: (positions, taps, in channels, groups); bytes: from one row of maps, and of weights, to the next.
void list_terms(const RowListArgument& in_rows, std::uintptr_t in_index, std::uintptr_t taps,
                const std::tuple<int64_t, int64_t, int64_t, int64_t>& sizes, const std::tuple<int64_t, int64_t>& bytes,
                const ScratchArgument& scratch, int device, std::uintptr_t stream) {
    const auto [positions, tap_count, in_channels, groups] = sizes;
    const auto [map_bytes, weight_bytes] = bytes;
    const auto [scratch_address, scratch_bytes] = scratch;
    const cuda::TermLists call = {row_list(in_rows), pointer<const int32_t>(in_index), pointer<const int32_t>(taps),
                                  positions, tap_count, in_channels, groups, map_bytes, weight_bytes,
                                  pointer<void>(scratch_address), scratch_bytes};
    FWDKERN_RUN(list_terms, call, device, stream);
}

// Why nothing can be launched on a device: "" if it can.
std::string device_error(int device) {
    int count = 0;
    const char* error = cuda::count_devices(&count);
    if (!error) error = cuda::device_error(device);
    return error ? error : "";
}

}  // namespace

void bind_cuda(py::module_& module) {
    using no_gil = py::call_guard<py::gil_scoped_release>;
    py::module_ m = module.def_submodule("cuda");
    m.def("compiler_version", &cuda::compiler_version);
    m.def("device_error", &device_error, no_gil());
    m.def("contract", &contract, no_gil());
    m.def("count_active_rows", &count_active_rows, no_gil());
    m.def("gate_bits", &gate_bits, no_gil());
    m.def("gate_maps", &gate_maps, no_gil());
    m.def("gathered_gemm", &gathered_gemm, no_gil());
    m.def("gathered_gemm_scratch", &cuda::gathered_gemm_scratch);
    m.def("list_active_rows", &list_active_rows, no_gil());
    m.def("list_terms", &list_terms, no_gil());
    m.def("list_terms_scratch", &cuda::list_terms_scratch);
    m.def("max_pool", &max_pool, no_gil());
    m.def("max_unpool", &max_unpool, no_gil());
    m.def("row_combine", &row_combine, no_gil());
    m.def("row_sum_parts", &cuda::row_sum_parts);
    m.def("row_sums", &row_sums, no_gil());
    m.def("seed", &seed, no_gil());
}
