#include "contract_body.h"
#include "launch.cuh"

namespace fwdkern::cuda {

const char* contract(const Contract& call, void* stream) { return launch_contract(call, OnStream{stream}); }

}  // namespace fwdkern::cuda
