#include "launch.cuh"
#include "max_pool_body.h"

namespace fwdkern::cuda {

const char* max_pool(const MaxPool& call, void* stream) { return launch_max_pool(call, OnStream{stream}); }

const char* max_unpool(const MaxUnpool& call, void* stream) { return launch_max_unpool(call, OnStream{stream}); }

}  // namespace fwdkern::cuda
