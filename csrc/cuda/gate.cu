#include "gate_body.h"
#include "launch.cuh"

namespace fwdkern::cuda {

const char* gate_bits(const GateBits& call, void* stream) { return launch_gate_bits(call, OnStream{stream}); }

const char* gate_maps(const GateMaps& call, void* stream) { return launch_gate_maps(call, OnStream{stream}); }

}  // namespace fwdkern::cuda
