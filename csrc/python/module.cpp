// Pointers arrive as integers (tensor.data_ptr()), so that this module needs neither torch nor its headers.
// Shapes, dtypes and strides are checked in fwdkern/ops before a call.
#include <pybind11/pybind11.h>

#include <cstdint>

#include "fwdkern/active_rows.h"
#include "fwdkern/isa.h"

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

}  // namespace

PYBIND11_MODULE(_native, m) {
    using no_gil = py::call_guard<py::gil_scoped_release>;
    m.def("compiler", &fwdkern::compiler_name);
    m.def("available_isa", [] { return static_cast<int>(fwdkern::available_isa()); });
    m.def("count_active_rows", &count_active_rows, no_gil());
    m.def("list_active_rows", &list_active_rows, no_gil());
}
