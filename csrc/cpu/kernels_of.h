#pragma once

#include "fwdkern/isa.h"
#include "gathered_gemm_kernels.h"
#include "row_combine_kernels.h"

namespace fwdkern {

// The micro-kernels of an instruction set that was compiled in; the scalar ones for any other.
const GemmKernels& gemm_kernels_of(Isa isa);
const CombineKernels& combine_kernels_of(Isa isa);

}  // namespace fwdkern
