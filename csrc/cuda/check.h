#pragma once

#include "fwdkern/cuda/maps.h"

namespace fwdkern::cuda {

inline bool is_float(Type type) {
    return type == Type::float32 || type == Type::bfloat16 || type == Type::float16;
}

// Null, or what is wrong with maps of `slices` slices.
inline const char* maps_error(const Maps& maps, int64_t slices) {
    if (!is_float(maps.type)) return "the type of maps is unknown";
    if (maps.rows < 0 || slices < 0) return "maps have a negative size";
    if (maps.rows > 0 && slices > 0 && maps.data == nullptr) return "maps have no address";
    if (reinterpret_cast<uintptr_t>(maps.data) % bytes_of(maps.type) != 0)
        return "maps lie across the boundaries of their elements";
    return nullptr;
}

// Likewise of maps that are written: no two elements in one place.
inline const char* output_error(const Maps& maps, int64_t slices) {
    if (const char* error = maps_error(maps, slices)) return error;
    if (maps.rows > 1 && maps.stride < slices) return "the rows of the output overlap";
    return nullptr;
}

}  // namespace fwdkern::cuda
