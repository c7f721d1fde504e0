#include "launch.cuh"
#include "row_combine_body.h"

namespace fwdkern::cuda {

const char* row_combine(const RowCombine& call, void* stream) { return launch_row_combine(call, OnStream{stream}); }

}  // namespace fwdkern::cuda
