#pragma once

// What gathered_gemm's kernels ask of the hardware beyond C++: one small function for each instruction. Without nvcc
// the same names are functions of emulated_instructions.h, which follow the PTX manual thread by thread.
#ifndef __CUDACC__
#include "emulated_instructions.h"
#else

#include <cstdint>

#include "gathered_gemm_geometry.h"

#define FWDKERN_DEVICE __device__ __forceinline__
#define FWDKERN_PRAGMA(text) _Pragma(#text)
#define FWDKERN_UNROLL_BY(count) FWDKERN_PRAGMA(unroll count)

namespace fwdkern::cuda {

// -- threads ---------------------------------------------------------------------------------------------------------

FWDKERN_DEVICE int thread_in_block() { return static_cast<int>(threadIdx.x); }
FWDKERN_DEVICE void sync_threads() { __syncthreads(); }
FWDKERN_DEVICE void sync_warp() { __syncwarp(); }

// The value of a thread's number, but not as one that the compiler knows: what follows from it is computed anew in
// every step, which costs less than registers that hold it all the time.
FWDKERN_DEVICE int anew(int value) {
    asm volatile("" : "+r"(value));
    __builtin_assume(value >= 0 && value < 1024);
    return value;
}

// -- memory ----------------------------------------------------------------------------------------------------------

// The address of dynamic shared memory.
FWDKERN_DEVICE uint32_t shared_memory() {
    extern __shared__ char memory[];
    return static_cast<uint32_t>(__cvta_generic_to_shared(memory));
}

FWDKERN_DEVICE int64_t load_shared_64(uint32_t address) {
    int64_t value;
    asm volatile("ld.shared.b64 %0, [%1];" : "=l"(value) : "r"(address));
    return value;
}

FWDKERN_DEVICE uint32_t load_shared_32(uint32_t address) {
    uint32_t value;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(value) : "r"(address));
    return value;
}

FWDKERN_DEVICE uint16_t load_shared_16(uint32_t address) {
    uint16_t value;
    asm volatile("ld.shared.b16 %0, [%1];" : "=h"(value) : "r"(address));
    return value;
}

FWDKERN_DEVICE void load_shared_128(uint32_t address, uint32_t (&value)[4]) {
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value[0]), "=r"(value[1]), "=r"(value[2]), "=r"(value[3])
                 : "r"(address));
}

FWDKERN_DEVICE void store_shared_32(uint32_t address, uint32_t value) {
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}

FWDKERN_DEVICE void store_shared_16(uint32_t address, uint16_t value) {
    asm volatile("st.shared.b16 [%0], %1;" ::"r"(address), "h"(value) : "memory");
}

// Stays where it is written, so that it is under way while other things happen.
FWDKERN_DEVICE uint16_t load_global_16(const void* address) {
    uint16_t value;
    asm volatile("ld.global.nc.b16 %0, [%1];" : "=h"(value) : "l"(address));
    return value;
}

// -- asynchronous copies ---------------------------------------------------------------------------------------------

// Sixteen bytes of shared memory, of which `bytes` come from `source` and the others are 0.
template <int size>
FWDKERN_DEVICE void copy_async(uint32_t target, const void* source, int bytes) {
    static_assert(size == 16, "maps");
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(source), "r"(bytes) : "memory");
}

// All of them or none.
template <int size>
FWDKERN_DEVICE void copy_async_or_zeros(uint32_t target, const void* source, bool all) {
    static_assert(size == 4 || size == 16, "maps in whole, weights one by one");
    if (size == 16)
        asm volatile(
            "{ .reg .pred none; setp.eq.u32 none, %2, 0; cp.async.cg.shared.global [%0], [%1], 16, none; }"
            ::"r"(target), "l"(source), "r"(static_cast<uint32_t>(all))
            : "memory");
    else
        asm volatile(
            "{ .reg .pred none; setp.eq.u32 none, %2, 0; cp.async.ca.shared.global [%0], [%1], 4, none; }"
            ::"r"(target), "l"(source), "r"(static_cast<uint32_t>(all))
            : "memory");
}

FWDKERN_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until all but the `pending` latest groups of this thread have arrived.
template <int pending>
FWDKERN_DEVICE void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// -- numbers ---------------------------------------------------------------------------------------------------------

// To the nearest of 11 significant bits, halves away from zero.
FWDKERN_DEVICE uint32_t round_to_tf32(float value) {
    uint32_t rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
    return rounded;
}

FWDKERN_DEVICE uint32_t pair_of_bfloat16(float low, float high) {
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

// -- matrices --------------------------------------------------------------------------------------------------------

template <bool transposed>
FWDKERN_DEVICE void load_matrices(uint32_t address, uint32_t (&value)[4]) {
    if (transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(value[0]), "=r"(value[1]), "=r"(value[2]), "=r"(value[3])
                     : "r"(address));
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(value[0]), "=r"(value[1]), "=r"(value[2]), "=r"(value[3])
                     : "r"(address));
}

// 16 slices x 8 output rows, 32 bytes of depth; sum points to the lane's four.
template <Precision precision>
FWDKERN_DEVICE void multiply_warp(float* sum, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    if (precision == Precision::tf32)
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                     "{%0, %1, %2, %3};"
                     : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                     "{%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define FWDKERN_WARPGROUPS true

// Shared memory that this thread has written becomes visible to warpgroups' products.
FWDKERN_DEVICE void fence_for_warpgroups() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Before products read registers that ordinary instructions have written.
FWDKERN_DEVICE void begin_warpgroup() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
FWDKERN_DEVICE void commit_warpgroup() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

#define FWDKERN_S4(s, i) "+f"(s[i]), "+f"(s[i + 1]), "+f"(s[i + 2]), "+f"(s[i + 3])
#define FWDKERN_S16(s, i) FWDKERN_S4(s, i), FWDKERN_S4(s, i + 4), FWDKERN_S4(s, i + 8), FWDKERN_S4(s, i + 12)
#define FWDKERN_A4(a) "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])
#define FWDKERN_R16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define FWDKERN_R32 FWDKERN_R16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define FWDKERN_R64                                                                                        \
    FWDKERN_R32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, " \
                "%49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

// 64 slices x `rows` output rows of a warpgroup, 32 bytes of depth. The registers are read and written until
// wait_for_warpgroup.
template <Precision precision, int rows>
FWDKERN_DEVICE void multiply_warpgroup(float (&s)[rows / 2], const uint32_t (&a)[4], uint64_t weights) {
    static_assert(rows == 32 || rows == 64 || rows == 128, "one of the shapes below");
    constexpr bool kTf32 = precision == Precision::tf32;
    if constexpr (rows == 32 && kTf32)
        asm volatile("wgmma.mma_async.sync.aligned.m64n32k8.f32.tf32.tf32 {" FWDKERN_R16
                     "}, {%16, %17, %18, %19}, %20, 1, 1, 1;"
                     : FWDKERN_S16(s, 0)
                     : FWDKERN_A4(a), "l"(weights));
    if constexpr (rows == 64 && kTf32)
        asm volatile("wgmma.mma_async.sync.aligned.m64n64k8.f32.tf32.tf32 {" FWDKERN_R32
                     "}, {%32, %33, %34, %35}, %36, 1, 1, 1;"
                     : FWDKERN_S16(s, 0), FWDKERN_S16(s, 16)
                     : FWDKERN_A4(a), "l"(weights));
    if constexpr (rows == 128 && kTf32)
        asm volatile("wgmma.mma_async.sync.aligned.m64n128k8.f32.tf32.tf32 {" FWDKERN_R64
                     "}, {%64, %65, %66, %67}, %68, 1, 1, 1;"
                     : FWDKERN_S16(s, 0), FWDKERN_S16(s, 16), FWDKERN_S16(s, 32), FWDKERN_S16(s, 48)
                     : FWDKERN_A4(a), "l"(weights));
    if constexpr (rows == 32 && !kTf32)
        asm volatile("wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {" FWDKERN_R16
                     "}, {%16, %17, %18, %19}, %20, 1, 1, 1, 0;"
                     : FWDKERN_S16(s, 0)
                     : FWDKERN_A4(a), "l"(weights));
    if constexpr (rows == 64 && !kTf32)
        asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" FWDKERN_R32
                     "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 0;"
                     : FWDKERN_S16(s, 0), FWDKERN_S16(s, 16)
                     : FWDKERN_A4(a), "l"(weights));
    if constexpr (rows == 128 && !kTf32)
        asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" FWDKERN_R64
                     "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 0;"
                     : FWDKERN_S16(s, 0), FWDKERN_S16(s, 16), FWDKERN_S16(s, 32), FWDKERN_S16(s, 48)
                     : FWDKERN_A4(a), "l"(weights));
}

// Until all products that this warpgroup has committed are done. Naming the registers keeps the compiler from using or
// moving them before.
template <int count>
FWDKERN_DEVICE void wait_for_warpgroup(float (&s)[count]) {
    if constexpr (count == 16)
        asm volatile("wgmma.wait_group.sync.aligned 0;" : FWDKERN_S16(s, 0)::"memory");
    if constexpr (count == 32)
        asm volatile("wgmma.wait_group.sync.aligned 0;" : FWDKERN_S16(s, 0), FWDKERN_S16(s, 16)::"memory");
    if constexpr (count == 64)
        asm volatile("wgmma.wait_group.sync.aligned 0;"
                     : FWDKERN_S16(s, 0), FWDKERN_S16(s, 16), FWDKERN_S16(s, 32), FWDKERN_S16(s, 48)::"memory");
}

#else
#define FWDKERN_WARPGROUPS false
#endif

}  // namespace fwdkern::cuda
#endif
