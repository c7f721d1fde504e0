#include "bfloat16.h"

#include <cstring>

namespace fwdkern {

void widen(const uint16_t* from, int64_t count, float* to) {
    for (int64_t i = 0; i < count; ++i) {
        const uint32_t bits = static_cast<uint32_t>(from[i]) << 16;
        std::memcpy(to + i, &bits, sizeof bits);
    }
}

void round_to_bfloat16(const float* from, int64_t count, uint16_t* to) {
    for (int64_t i = 0; i < count; ++i) {
        uint32_t bits;
        std::memcpy(&bits, from + i, sizeof bits);
        const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
        // Adding just under half a unit carries into the kept bits exactly when it must.
        const uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
        to[i] = static_cast<uint16_t>(nan ? (bits >> 16) | 0x40u : rounded >> 16);
    }
}

}  // namespace fwdkern
