#include "fwdkern/cuda/row_sums.h"

#include "check.h"
#include "row_sums_body.h"

namespace fwdkern::cuda {

int64_t row_sum_parts(int64_t columns) { return row_sum_tile(0, columns).parts; }

const char* row_sums_error(const RowSums& call) {
    if (const char* error = output_error(call.maps, call.columns)) return error;
    if (call.maps.type != Type::float32) return "maps are not float32";
    if (call.maps.rows > 0 && call.columns > 0 && (call.sum == nullptr || call.magnitude == nullptr))
        return "the sums have no address";
    return nullptr;
}

const char* row_sums_emulated(const RowSums& call) { return launch_row_sums(call, OnHost()); }

}  // namespace fwdkern::cuda
