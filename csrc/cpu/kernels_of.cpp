#include "kernels_of.h"

// Names, not arguments: where they are not compiled, vector kernels must not be referred to.
#ifdef FWDKERN_X86
#define FWDKERN_CHOOSE(kernels) \
    isa == Isa::avx512 ? kernels##_avx512 : isa == Isa::avx2 ? kernels##_avx2 : kernels##_scalar
#else
#define FWDKERN_CHOOSE(kernels) kernels##_scalar
#endif

namespace fwdkern {

const CombineKernels& combine_kernels_of([[maybe_unused]] Isa isa) { return FWDKERN_CHOOSE(combine_kernels); }
const GateKernels& gate_kernels_of([[maybe_unused]] Isa isa) { return FWDKERN_CHOOSE(gate_kernels); }
const GemmKernels& gemm_kernels_of([[maybe_unused]] Isa isa) { return FWDKERN_CHOOSE(gemm_kernels); }
const PoolKernels& pool_kernels_of([[maybe_unused]] Isa isa) { return FWDKERN_CHOOSE(pool_kernels); }
const RecurrentKernels& recurrent_kernels_of([[maybe_unused]] Isa isa) { return FWDKERN_CHOOSE(recurrent_kernels); }
const TransposeKernels& transpose_kernels_of([[maybe_unused]] Isa isa) { return FWDKERN_CHOOSE(transpose_kernels); }

}  // namespace fwdkern
