#pragma once

#include <cstdint>

namespace fwdkern::cuda {

enum class Type : int { float32 = 0, bfloat16 = 1, float16 = 2 };

inline int64_t bytes_of(Type type) { return type == Type::float32 ? 4 : 2; }

// Maps [rows, slices] in device memory, slices contiguous, rows `stride` elements apart. What a kernel reads it does
// not write.
struct Maps {
    void* data;
    int64_t rows;
    int64_t stride;
    Type type;
};

}  // namespace fwdkern::cuda
