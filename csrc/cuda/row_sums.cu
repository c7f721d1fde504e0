#include "launch.cuh"
#include "row_sums_body.h"

namespace fwdkern::cuda {

const char* row_sums(const RowSums& call, void* stream) { return launch_row_sums(call, OnStream{stream}); }

}  // namespace fwdkern::cuda
