#include "fwdkern/cuda/seed.h"

#include "maps.h"

namespace {

using namespace fwdkern::cuda;

void check_call(std::mt19937& random, int64_t rows, int64_t slices, int64_t gap, Type type) {
    std::normal_distribution<float> draw;
    std::vector<float> value(rows);
    std::vector<int32_t> column(rows);
    for (auto& each : value) each = draw(random);
    for (auto& each : column) each = static_cast<int32_t>(random() % (slices + 1)) - 1;
    HostMaps out(rows, slices, slices + gap, type);
    CHECK(seed_emulated({value.data(), column.data(), out.view(), slices}) == nullptr);
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t s = 0; s < slices; ++s) {
            const double expected = s == column[r] ? value[r] : 0.0;
            CHECK(std::fabs(out.get(r, s) - expected) <= out.rounding() * std::fabs(expected) + 0x1p-25);
        }
    out.check_gaps();
}

void check_errors() {
    float data[6], value[2] = {};
    const int32_t column[2] = {};
    const Seed good = {value, column, {data, 2, 3, Type::float32}, 3};
    CHECK(seed_error(good) == nullptr);
    const auto refused = [&](auto change) {
        Seed call = good;
        change(call);
        CHECK(seed_error(call) != nullptr && seed_emulated(call) == seed_error(call));
    };
    refused([](Seed& call) { call.value = nullptr; });
    refused([](Seed& call) { call.column = nullptr; });
    refused([](Seed& call) { call.out.data = nullptr; });
    refused([](Seed& call) { call.out.type = Type::boolean; });
    refused([](Seed& call) { call.out.stride = 2; });
    refused([](Seed& call) { call.out.rows = -1; });
    refused([](Seed& call) { call.slices = -1; });
    CHECK(seed_emulated({nullptr, nullptr, {nullptr, 0, 0, Type::float32}, 4}) == nullptr);
}

}  // namespace

int main() {
    std::mt19937 random(0);
    for (int64_t rows : {1, 5, 70})
        for (int64_t slices : {1, 7, 16, 33, 264, 3000})
            for (int64_t gap : {0, 3, 8})
                for (Type type : {Type::float32, Type::bfloat16, Type::float16})
                    check_call(random, rows, slices, gap, type);
    check_errors();
}
