#include "gathered_gemm_call.h"
#include "gathered_gemm_launch.cuh"

namespace fwdkern::cuda {

namespace {

struct OnDevice {
    void* stream;

    const char* terms(const ListTerms& body, Grid grid) const { return OnStream{stream}(body, grid); }

    template <class G>
    const char* gemm(G gemm, TileShape shape, const GemmArguments& arguments, Grid grid) const {
        return launch_gemm(gemm, shape, arguments, grid, stream);
    }
};

}  // namespace

const char* list_terms(const TermLists& call, void* stream) {
    if (const char* error = list_terms_error(call)) return error;
    return launch_list_terms(call, OnDevice{stream});
}

const char* gathered_gemm(const GatheredGemm& call, void* stream) {
    if (const char* error = gathered_gemm_error(call)) return error;
    int device = 0, shared_bytes = 0;
    if (const char* error = text_of(cudaGetDevice(&device))) return error;
    if (const char* error =
            text_of(cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device)))
        return error;
    return launch_gathered_gemm(call, shared_bytes, OnDevice{stream});
}

}  // namespace fwdkern::cuda
