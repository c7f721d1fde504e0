// The CUDA kernels. Every function ends in (device, stream): the device's number and a cudaStream_t as an integer, or
// -1 and 0 for the kernels' bodies on the CPU. A ValueError tells of arguments, a RuntimeError of the driver.
#include "cuda.h"

#include <cstdint>
#include <stdexcept>
#include <tuple>

#include "fwdkern/cuda/device.h"
#include "fwdkern/cuda/row_combine.h"

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

#ifdef FWDKERN_WITH_CUDA
#define FWDKERN_LAUNCH(name) cuda::name
#else
#define FWDKERN_LAUNCH(name) nullptr
#endif

template <class Call>
void run(const Call& call, const char* (*error)(const Call&), const char* (*launch)(const Call&, void*),
         const char* (*emulate)(const Call&), int device, std::uintptr_t stream) {
    check_arguments(error(call));
    if (device < 0) return check_driver(emulate(call));
#ifdef FWDKERN_WITH_CUDA
    check_driver(cuda::use_device(device));
    check_driver(launch(call, pointer<void>(stream)));
#else
    throw std::runtime_error("the library was built without CUDA");
#endif
}

#define FWDKERN_RUN(name, call, device, stream) \
    run(call, &cuda::name##_error, FWDKERN_LAUNCH(name), &cuda::name##_emulated, device, stream)

void row_combine(const MapsArgument& in, const MapsArgument& out, std::uintptr_t offset, std::uintptr_t index,
                 std::uintptr_t coefficient, bool accumulate, int64_t slices, int device, std::uintptr_t stream) {
    const cuda::RowCombine call = {maps(in), maps(out), pointer<const int64_t>(offset), pointer<const int32_t>(index),
                                   pointer<const float>(coefficient), accumulate, slices};
    FWDKERN_RUN(row_combine, call, device, stream);
}

// The release of nvcc as 13000, 0 in a build without CUDA.
int compiler_version() {
#ifdef FWDKERN_WITH_CUDA
    return cuda::compiler_version();
#else
    return 0;
#endif
}

// Why nothing can be launched on a device: "" if it can.
std::string device_error(int device) {
#ifdef FWDKERN_WITH_CUDA
    int count = 0;
    const char* error = cuda::count_devices(&count);
    if (!error) error = cuda::device_error(device);
    return error ? error : "";
#else
    (void)device;
    return "the library was built without CUDA";
#endif
}

}  // namespace

void bind_cuda(py::module_& module) {
    using no_gil = py::call_guard<py::gil_scoped_release>;
    py::module_ m = module.def_submodule("cuda");
    m.def("compiler_version", &compiler_version);
    m.def("device_error", &device_error, no_gil());
    m.def("row_combine", &row_combine, no_gil());
}
