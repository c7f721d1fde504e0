#include "cuda/number.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "check.h"

namespace {

using namespace fwdkern::cuda;

// By arithmetic alone: what a number of `exponent_bits` and `fraction_bits` stands for.
double value_of(uint16_t bits, int exponent_bits, int fraction_bits) {
    const int exponent = (bits >> fraction_bits) & ((1 << exponent_bits) - 1), bias = (1 << (exponent_bits - 1)) - 1;
    const double fraction = (bits & ((1 << fraction_bits) - 1)) / std::ldexp(1.0, fraction_bits);
    const double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == (1 << exponent_bits) - 1)
        return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
    return sign * (exponent ? std::ldexp(1 + fraction, exponent - bias) : std::ldexp(fraction, 1 - bias));
}

template <class T>
void check_type(int exponent_bits, int fraction_bits) {
    const uint16_t infinity = static_cast<uint16_t>(((1 << exponent_bits) - 1) << fraction_bits);
    for (uint32_t each = 0; each < 0x10000; ++each) {
        const T number = {static_cast<uint16_t>(each)};
        const double expected = value_of(number.bits, exponent_bits, fraction_bits);
        const float wide = widen(number);
        if (expected != expected) {
            CHECK(wide != wide);
            CHECK(widen(narrow<T>(wide)) != widen(narrow<T>(wide)));
            continue;
        }
        CHECK(wide == expected && std::signbit(wide) == std::signbit(expected));
        CHECK(narrow<T>(wide).bits == number.bits);
        if ((each & 0x7fff) >= infinity) continue;
        // The middle between this number and the next larger in size goes to the even one, its neighbours to theirs.
        // In the last interval the next number would be the first one too large, and becomes infinite.
        const uint16_t next = static_cast<uint16_t>(each + 1);
        const int step = std::max((number.bits & 0x7fff) >> fraction_bits, 1) - ((1 << (exponent_bits - 1)) - 1);
        const double half = std::copysign(std::ldexp(0.5, step - fraction_bits), expected);
        const float middle = static_cast<float>(expected + half);
        if (middle != expected + half) continue;  // bfloat16's smallest lie beyond float's own
        CHECK(narrow<T>(middle).bits == (each & 1 ? next : number.bits));
        CHECK(narrow<T>(std::nextafter(middle, 0.0f)).bits == number.bits);
        CHECK(narrow<T>(std::nextafter(middle, std::copysign(INFINITY, wide))).bits == next);
    }
}

}  // namespace

int main() {
    check_type<Bfloat16>(8, 7);
    check_type<Float16>(5, 10);
    for (uint32_t bits : {0u, 1u, 0x80000000u, 0xffffffffu, 0x12345678u}) {
        int expected = 0;
        for (int i = 0; i < 32; ++i) expected += bits >> i & 1;
        CHECK(count_bits(bits) == expected);
    }
}
