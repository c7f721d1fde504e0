#include "fwdkern/row_combine.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "check.h"

namespace {

using fwdkern::Isa;
using fwdkern::Storage;

constexpr int64_t kInRows = 11, kOutRows = 700;

void check_call(std::mt19937& random, int64_t slices, Isa isa, int threads, bool bfloat16_out) {
    std::normal_distribution<float> draw;
    std::uniform_int_distribution<int64_t> length(0, 6);
    std::uniform_int_distribution<int32_t> row(0, kInRows - 1);
    std::vector<int64_t> offset{0};
    for (int64_t r = 0; r < kOutRows; ++r) offset.push_back(offset.back() + length(random));
    const int64_t terms = offset.back();
    std::vector<int32_t> index(terms);
    std::vector<float> coefficient(terms), in(kInRows * slices);
    for (auto& i : index) i = row(random);
    for (auto& c : coefficient) c = draw(random);
    for (auto& v : in) v = draw(random);
    std::vector<float> wide(bfloat16_out ? 0 : kOutRows * slices, std::numeric_limits<float>::quiet_NaN());
    std::vector<uint16_t> narrow(bfloat16_out ? kOutRows * slices : 0, 0xffff);

    void* out = bfloat16_out ? static_cast<void*>(narrow.data()) : wide.data();
    const fwdkern::RowCombine call = {
        {in.data(), kInRows, slices, Storage::float32},
        {out, kOutRows, slices, bfloat16_out ? Storage::bfloat16 : Storage::float32},
        offset.data(),
        index.data(),
        coefficient.data(),
        terms,
        false,
        slices};
    CHECK(fwdkern::row_combine_error(call) == nullptr);
    fwdkern::row_combine(call, isa, threads);
    for (int64_t r = 0; r < kOutRows; ++r)
        for (int64_t s = 0; s < slices; ++s) {
            double expected = 0, magnitude = 0;
            for (int64_t j = offset[r]; j < offset[r + 1]; ++j) {
                expected += double{coefficient[j]} * in[index[j] * slices + s];
                magnitude += std::fabs(double{coefficient[j]} * in[index[j] * slices + s]);
            }
            double got, bound = 8 * std::numeric_limits<float>::epsilon() * magnitude;
            if (bfloat16_out) {
                // A bfloat16 is s eeeeeeee mmmmmmm: rebuild it without the code under test.
                const uint16_t bits = narrow[r * slices + s];
                const int exponent = (bits >> 7) & 0xff;
                const double fraction = (bits & 0x7f) / 128.0;
                got = exponent ? std::ldexp(1 + fraction, exponent - 127) : std::ldexp(fraction, -126);
                if (bits & 0x8000) got = -got;
                bound += std::fabs(expected) / 256;
            } else {
                got = wide[r * slices + s];
            }
            CHECK(std::fabs(got - expected) <= bound);
        }
}

void check_errors() {
    std::vector<float> in(2 * 3), out(2 * 3), coefficient(2);
    std::vector<int64_t> offset = {0, 1, 2};
    std::vector<int32_t> index = {0, 1};
    const auto error = [&] {
        return fwdkern::row_combine_error({{in.data(), 2, 3, Storage::float32}, {out.data(), 2, 3, Storage::float32},
                                           offset.data(), index.data(), coefficient.data(), 2, false, 3});
    };
    CHECK(error() == nullptr);
    index[1] = 2;
    CHECK(error() != nullptr);
    index[1] = 1;
    offset[1] = 3;
    CHECK(error() != nullptr);
    offset[1] = 1;
    offset[2] = 1;
    CHECK(error() != nullptr);
}

}  // namespace

int main() {
    std::mt19937 random(0);
    for (int isa = 0; isa <= static_cast<int>(fwdkern::available_isa()); ++isa)
        for (int threads : {1, 3})
            for (int64_t slices : {1, 7, 33, 48, 65, 200})
                for (bool bfloat16_out : {false, true})
                    check_call(random, slices, static_cast<Isa>(isa), threads, bfloat16_out);
    check_errors();
}
