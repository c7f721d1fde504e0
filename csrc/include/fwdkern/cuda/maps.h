#pragma once

#include <cstdint>

namespace fwdkern::cuda {

// boolean, one byte, occurs in gates only.
enum class Type : int { float32 = 0, bfloat16 = 1, float16 = 2, boolean = 3 };

inline int64_t bytes_of(Type type) { return type == Type::float32 ? 4 : type == Type::boolean ? 1 : 2; }

// Maps [rows, slices] in device memory, slices contiguous, rows `stride` elements apart. What a kernel reads it does
// not write.
struct Maps {
    void* data;
    int64_t rows;
    int64_t stride;
    Type type;
};

}  // namespace fwdkern::cuda
