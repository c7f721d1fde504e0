#include "kernels_of.h"

namespace fwdkern {

const GemmKernels& gemm_kernels_of(Isa isa) {
#ifdef FWDKERN_X86
    if (isa == Isa::avx512) return gemm_kernels_avx512;
    if (isa == Isa::avx2) return gemm_kernels_avx2;
#endif
    (void)isa;
    return gemm_kernels_scalar;
}

const CombineKernels& combine_kernels_of(Isa isa) {
#ifdef FWDKERN_X86
    if (isa == Isa::avx512) return combine_kernels_avx512;
    if (isa == Isa::avx2) return combine_kernels_avx2;
#endif
    (void)isa;
    return combine_kernels_scalar;
}

}  // namespace fwdkern
