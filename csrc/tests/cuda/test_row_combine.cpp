#include "fwdkern/cuda/row_combine.h"

#include "maps.h"

namespace {

using namespace fwdkern::cuda;

void check_call(std::mt19937& random, int64_t rows, int64_t slices, int64_t gap, Type in_type, Type out_type,
                bool accumulate) {
    constexpr int64_t kInRows = 9;
    HostMaps in(kInRows, slices, slices + gap, in_type), out(rows, slices, slices + gap, out_type);
    in.fill(random);
    if (accumulate) out.fill(random);
    HostMaps before = out;
    const Terms terms(random, rows, kInRows, 9);
    const RowCombine call = {in.view(), out.view(), terms.offset.data(), terms.index.data(), terms.coefficient.data(),
                             accumulate, slices};
    CHECK(row_combine_emulated(call) == nullptr);
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t s = 0; s < slices; ++s) {
            double expected = accumulate ? before.get(r, s) : 0.0, magnitude = std::fabs(expected);
            for (int64_t j = terms.offset[r]; j < terms.offset[r + 1]; ++j) {
                const double term = double{terms.coefficient[j]} * in.get(terms.index[j], s);
                expected += term;
                magnitude += std::fabs(term);
            }
            CHECK(std::fabs(out.get(r, s) - expected) <= 11 * 0x1p-23 * magnitude + 1.01 * out.rounding() * std::fabs(expected) + 0x1p-25);
        }
    out.check_gaps();
}

void check_errors() {
    float data[12] = {};
    const int64_t offset[3] = {};
    const RowCombine good = {{data, 2, 3, Type::float32}, {data + 6, 2, 3, Type::float32}, offset, nullptr, nullptr,
                             false, 3};
    CHECK(row_combine_error(good) == nullptr && row_combine_emulated(good) == nullptr);
    const auto refused = [&](auto change) {
        RowCombine call = good;
        change(call);
        CHECK(row_combine_error(call) != nullptr);
        CHECK(row_combine_emulated(call) == row_combine_error(call));
    };
    refused([](RowCombine& call) { call.in.type = static_cast<Type>(7); });
    refused([](RowCombine& call) { call.in.type = Type::boolean; });
    refused([](RowCombine& call) { call.out.type = static_cast<Type>(-1); });
    refused([](RowCombine& call) { call.in.rows = -1; });
    refused([](RowCombine& call) { call.out.rows = -1; });
    refused([](RowCombine& call) { call.slices = -1; });
    refused([](RowCombine& call) { call.in.data = nullptr; });
    refused([](RowCombine& call) { call.out.data = nullptr; });
    refused([](RowCombine& call) { call.out.stride = 2; });
    refused([](RowCombine& call) { call.offset = nullptr; });
    refused([&](RowCombine& call) { call.in.data = reinterpret_cast<char*>(data) + 2; });
    refused([&](RowCombine& call) { call.out.data = reinterpret_cast<char*>(data) + 1; });
    // Nothing to do needs no addresses.
    CHECK(row_combine_emulated({{nullptr, 0, 0, Type::float32}, {nullptr, 0, 0, Type::float32}, nullptr, nullptr,
                                nullptr, false, 0}) == nullptr);
}

}  // namespace

int main() {
    std::mt19937 random(0);
    for (int64_t rows : {1, 5, 70})
        for (int64_t slices : {1, 7, 16, 33, 64, 200, 264})
            for (int64_t gap : {0, 3, 8})
                for (Type in : {Type::float32, Type::bfloat16, Type::float16})
                    for (Type out : {Type::float32, Type::bfloat16, Type::float16})
                        for (bool accumulate : {false, true}) check_call(random, rows, slices, gap, in, out, accumulate);
    check_errors();
}
