#include "fwdkern/cuda/contract.h"

#include "check.h"
#include "contract_body.h"

namespace fwdkern::cuda {

const char* contract_error(const Contract& call) {
    if (const char* error = maps_error(call.pulled, call.out.rows)) return error;
    if (const char* error = output_error(call.out, call.slices)) return error;
    if (call.slices > 0 && call.offset == nullptr) return "offset has no address";
    return nullptr;
}

const char* contract_emulated(const Contract& call) { return launch_contract(call, OnHost()); }

}  // namespace fwdkern::cuda
