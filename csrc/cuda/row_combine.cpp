#include "fwdkern/cuda/row_combine.h"

#include "check.h"
#include "row_combine_body.h"

namespace fwdkern::cuda {

const char* row_combine_error(const RowCombine& call) {
    if (const char* error = maps_error(call.in, call.slices)) return error;
    if (const char* error = output_error(call.out, call.slices)) return error;
    if (call.out.rows > 0 && call.offset == nullptr) return "offset has no address";
    return nullptr;
}

const char* row_combine_emulated(const RowCombine& call) { return launch_row_combine(call, OnHost()); }

}  // namespace fwdkern::cuda
