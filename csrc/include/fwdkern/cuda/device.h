#pragma once

namespace fwdkern::cuda {

// Everything in this folder reports by a message: null for success, else a sentence or the driver's own text, which
// lives as long as the process. A call named X has
//   X_error(call)        what is wrong with its arguments, as far as the host can see
//   X(call, stream)      the same check, then launches on a cudaStream_t handed over as void*, without waiting
//   X_emulated(call)     the same check, then the kernels' bodies thread by thread on the CPU, on host memory: for tests
// Kernels allocate nothing; scratch is an argument.

// The release of nvcc that compiled the kernels, as 13000.
int compiler_version();

// How many devices the driver has; null and 0 never come together.
const char* count_devices(int* count);

// Make a device the current one of this thread.
const char* use_device(int device);

// Why this build's kernels do not run on a device.
const char* device_error(int device);

}  // namespace fwdkern::cuda
