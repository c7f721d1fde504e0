#include "active_rows_body.h"
#include "launch.cuh"

namespace fwdkern::cuda {

const char* count_active_rows(const ActiveRows& call, void* stream) {
    return launch_count_active_rows(call, OnStream{stream});
}

const char* list_active_rows(const ActiveRows& call, void* stream) {
    return launch_list_active_rows(call, OnStream{stream});
}

}  // namespace fwdkern::cuda
