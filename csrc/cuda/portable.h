#pragma once

// Functions for both the GPU and the CPU, where tests run them: nothing outside this file, block.h and number.h may
// tell the two apart.
#ifdef __CUDACC__
#define FWDKERN_HD __host__ __device__ __forceinline__
#define FWDKERN_UNROLL _Pragma("unroll")
#define FWDKERN_LOOP _Pragma("unroll 1")
#else
#define FWDKERN_HD inline
#define FWDKERN_UNROLL
#define FWDKERN_LOOP
#endif
