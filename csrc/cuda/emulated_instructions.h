#pragma once

#include <cstdint>
#include <functional>

#include "fwdkern/cuda/gathered_gemm.h"

// The instructions of instructions.h on the CPU. Every thread of a block has a stack of its own, and they take turns in
// a random order, so that kernels run as they are written. What the PTX manual leaves undefined is an error: reading
// what another thread writes without a barrier between, operands that are not aligned, products of what was not fenced,
// threads of a warp that part where all are needed.
#define FWDKERN_DEVICE inline
#define FWDKERN_UNROLL_BY(count)

namespace fwdkern::cuda {

namespace emulation {

// When copies and warpgroups' products happen, which may be any time between these two.
enum class Arrival { at_once, when_waited_for };

struct Order {
    Arrival arrival;
    uint32_t seed;  // of the threads' turns
};

// Null, or what was wrong; the text lives until the thread runs another block.
const char* run_block(int threads, int shared_bytes, Order order, const std::function<void()>& body);

void copy(uint32_t target, const void* source, int size, int bytes);
void wait_for_copies(int pending);
void load(uint32_t address, void* value, int size);
void store(uint32_t address, const void* value, int size);
void load_matrices(uint32_t address, bool transposed, uint32_t (&value)[4]);
void multiply_warp(Precision precision, float* sum, const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
void multiply_warpgroup(Precision precision, int rows, float* sum, const uint32_t* a, uint64_t weights);
void wait_for_warpgroup();

}  // namespace emulation

int thread_in_block();
void sync_threads();
void sync_warp();
uint32_t shared_memory();
void commit_copies();
void fence_for_warpgroups();
void begin_warpgroup();
void commit_warpgroup();
uint32_t round_to_tf32(float value);
uint32_t pair_of_bfloat16(float low, float high);

inline int anew(int value) { return value; }

template <class T>
T load_shared(uint32_t address) {
    T value;
    emulation::load(address, &value, sizeof value);
    return value;
}

inline int64_t load_shared_64(uint32_t address) { return load_shared<int64_t>(address); }
inline uint32_t load_shared_32(uint32_t address) { return load_shared<uint32_t>(address); }
inline uint16_t load_shared_16(uint32_t address) { return load_shared<uint16_t>(address); }
inline void load_shared_128(uint32_t address, uint32_t (&value)[4]) { emulation::load(address, value, sizeof value); }
inline void store_shared_32(uint32_t address, uint32_t value) { emulation::store(address, &value, sizeof value); }
inline void store_shared_16(uint32_t address, uint16_t value) { emulation::store(address, &value, sizeof value); }
inline uint16_t load_global_16(const void* address) { return *static_cast<const uint16_t*>(address); }

template <int size>
void copy_async(uint32_t target, const void* source, int bytes) {
    emulation::copy(target, source, size, bytes);
}

template <int size>
void copy_async_or_zeros(uint32_t target, const void* source, bool all) {
    emulation::copy(target, source, size, all ? size : 0);
}

template <int pending>
void wait_for_copies() {
    emulation::wait_for_copies(pending);
}

template <bool transposed>
void load_matrices(uint32_t address, uint32_t (&value)[4]) {
    emulation::load_matrices(address, transposed, value);
}

template <Precision precision>
void multiply_warp(float* sum, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    emulation::multiply_warp(precision, sum, a, b0, b1);
}

template <Precision precision, int rows>
void multiply_warpgroup(float (&sum)[rows / 2], const uint32_t (&a)[4], uint64_t weights) {
    emulation::multiply_warpgroup(precision, rows, sum, a, weights);
}

template <int count>
void wait_for_warpgroup(float (&)[count]) {
    emulation::wait_for_warpgroup();
}

}  // namespace fwdkern::cuda
