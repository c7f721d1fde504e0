#include "fwdkern/cuda/device.h"

#include "launch.cuh"

namespace fwdkern::cuda {

namespace {

struct Probe {
    static constexpr int kThreads = kLanes;
    using Shared = Nothing;

    template <class Block>
    FWDKERN_HD void operator()(Block&, Shared&) const {}
};

}  // namespace

int compiler_version() { return CUDART_VERSION; }

const char* count_devices(int* count) {
    const cudaError_t status = cudaGetDeviceCount(count);
    if (status == cudaSuccess && *count > 0) return nullptr;
    *count = 0;
    cudaGetLastError();  // the next call must not find this error
    return status == cudaSuccess ? "no device" : cudaGetErrorString(status);
}

const char* use_device(int device) { return text_of(cudaSetDevice(device)); }

const char* device_error(int device) {
    if (const char* error = use_device(device)) return error;
    cudaFuncAttributes attributes;
    const cudaError_t status = cudaFuncGetAttributes(&attributes, run<Probe>);
    if (status != cudaSuccess) cudaGetLastError();
    return text_of(status);
}

}  // namespace fwdkern::cuda
