#pragma once

#include <cstdint>
#include <cstring>

#include "fwdkern/cuda/maps.h"
#include "portable.h"

namespace fwdkern::cuda {

struct Bfloat16 {
    uint16_t bits;
};

struct Float16 {
    uint16_t bits;
};

FWDKERN_HD float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

FWDKERN_HD uint32_t bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

FWDKERN_HD float widen(float value) { return value; }

FWDKERN_HD float widen(Bfloat16 value) { return float_of_bits(static_cast<uint32_t>(value.bits) << 16); }

FWDKERN_HD float widen(Float16 value) {
#ifdef __CUDA_ARCH__
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
    return wide;
#else
    const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000) << 16, magnitude = value.bits & 0x7fff;
    if (magnitude >= 0x7c00) return float_of_bits(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
    // 2^112 makes up for the difference of the biases, subnormal numbers too.
    const float scaled = float_of_bits(magnitude << 13) * 0x1p112f;
    return float_of_bits(sign | bits_of_float(scaled));
#endif
}

// Rounds to the nearest, ties to even; NaN stays NaN.
template <class T>
FWDKERN_HD T narrow(float value);

template <>
FWDKERN_HD float narrow<float>(float value) {
    return value;
}

template <>
FWDKERN_HD Bfloat16 narrow<Bfloat16>(float value) {
#ifdef __CUDA_ARCH__
    Bfloat16 rounded;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(rounded.bits) : "f"(value));
    return rounded;
#else
    const uint32_t bits = bits_of_float(value);
    if (value != value) return {static_cast<uint16_t>(bits >> 16 | 0x40)};
    return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
#endif
}

template <>
FWDKERN_HD Float16 narrow<Float16>(float value) {
#ifdef __CUDA_ARCH__
    Float16 rounded;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(rounded.bits) : "f"(value));
    return rounded;
#else
    const uint32_t bits = bits_of_float(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (value != value) return {static_cast<uint16_t>(sign | 0x7e00)};
    if (magnitude >= 0x47800000) return {static_cast<uint16_t>(sign | 0x7c00)};  // 2^16 and above
    if (magnitude < 0x38800000) {                                                // below 2^-14: multiples of 2^-24
        // Adding 0.5 leaves a float no place for smaller ones.
        const uint32_t count = bits_of_float(float_of_bits(magnitude) + 0.5f) - bits_of_float(0.5f);
        return {static_cast<uint16_t>(sign | count)};
    }
    const uint32_t rebased = magnitude - (112u << 23);
    return {static_cast<uint16_t>(sign | (rebased + 0xfff + (rebased >> 13 & 1)) >> 13)};
#endif
}

struct alignas(16) Bits128 {
    uint32_t word[4];
};

// The i-th 16 bytes behind an address that is a multiple of 16.
FWDKERN_HD Bits128 load_16(const void* from, int64_t i) {
#ifdef __CUDA_ARCH__
    const uint4 wide = static_cast<const uint4*>(from)[i];
    return {{wide.x, wide.y, wide.z, wide.w}};
#else
    return static_cast<const Bits128*>(from)[i];
#endif
}

FWDKERN_HD void store_16(void* to, int64_t i, const Bits128& value) {
#ifdef __CUDA_ARCH__
    static_cast<uint4*>(to)[i] = make_uint4(value.word[0], value.word[1], value.word[2], value.word[3]);
#else
    static_cast<Bits128*>(to)[i] = value;
#endif
}

FWDKERN_HD int count_bits(uint32_t bits) {
#ifdef __CUDA_ARCH__
    return __popc(bits);
#else
    return __builtin_popcount(bits);
#endif
}

// Calls use(T()) with the C++ type of a type.
template <class Use>
const char* with_type(Type type, Use use) {
    if (type == Type::float32) return use(float());
    if (type == Type::bfloat16) return use(Bfloat16());
    return use(Float16());
}

}  // namespace fwdkern::cuda
