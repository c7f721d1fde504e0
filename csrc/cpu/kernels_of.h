#pragma once

#include "fwdkern/isa.h"
#include "gate_kernels.h"
#include "gathered_gemm_kernels.h"
#include "max_pool_kernels.h"
#include "recurrent_kernels.h"
#include "row_combine_kernels.h"
#include "sparse_transpose_kernels.h"

namespace fwdkern {

// The micro-kernels of an instruction set that was compiled in; the scalar ones for any other.
const CombineKernels& combine_kernels_of(Isa isa);
const GateKernels& gate_kernels_of(Isa isa);
const GemmKernels& gemm_kernels_of(Isa isa);
const PoolKernels& pool_kernels_of(Isa isa);
const RecurrentKernels& recurrent_kernels_of(Isa isa);
const TransposeKernels& transpose_kernels_of(Isa isa);

}  // namespace fwdkern
