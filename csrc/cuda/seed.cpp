#include "fwdkern/cuda/seed.h"

#include "check.h"
#include "seed_body.h"

namespace fwdkern::cuda {

const char* seed_error(const Seed& call) {
    if (const char* error = output_error(call.out, call.slices)) return error;
    if (call.out.rows > 0 && (call.value == nullptr || call.column == nullptr)) return "value or column has no address";
    return nullptr;
}

const char* seed_emulated(const Seed& call) { return launch_seed(call, OnHost()); }

}  // namespace fwdkern::cuda
