#include "launch.cuh"
#include "seed_body.h"

namespace fwdkern::cuda {

const char* seed(const Seed& call, void* stream) { return launch_seed(call, OnStream{stream}); }

}  // namespace fwdkern::cuda
