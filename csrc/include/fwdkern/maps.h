#pragma once

#include <cstdint>

namespace fwdkern {

enum class Storage : int { float32 = 0, bfloat16 = 1 };

// Maps [rows, slices], slices contiguous, rows `stride` elements apart. What a kernel reads it does not write.
struct Maps {
    void* data;
    int64_t rows;
    int64_t stride;
    Storage storage;

    char* row(int64_t r) const {
        return static_cast<char*>(data) + r * stride * (storage == Storage::float32 ? 4 : 2);
    }
};

}  // namespace fwdkern
