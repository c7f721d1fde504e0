#include "fwdkern/cuda/active_rows.h"

#include <limits>

#include "active_rows_body.h"

namespace fwdkern::cuda {

const char* count_active_rows_error(const ActiveRows& call) {
    if (call.channels < 0 || call.positions < 0) return "the gate has a negative size";
    if (call.channels > std::numeric_limits<int32_t>::max()) return "the gate has more channels than int32 counts";
    if (call.row_offset == nullptr || call.block_rows == nullptr) return "row_offset or block_rows has no address";
    if (call.channels > 0 && call.positions > 0 && (call.gate == nullptr || call.bits == nullptr))
        return "the gate or its bits have no address";
    return nullptr;
}

const char* count_active_rows_emulated(const ActiveRows& call) { return launch_count_active_rows(call, OnHost()); }

// row_channel may have no address: a gate that is closed everywhere has no rows, which the host does not know.
const char* list_active_rows_error(const ActiveRows& call) { return count_active_rows_error(call); }

const char* list_active_rows_emulated(const ActiveRows& call) { return launch_list_active_rows(call, OnHost()); }

}  // namespace fwdkern::cuda
