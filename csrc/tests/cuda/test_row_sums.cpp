#include "fwdkern/cuda/row_sums.h"

#include "maps.h"

namespace {

using namespace fwdkern::cuda;

void check_call(std::mt19937& random, int64_t rows, int64_t columns, int64_t gap, bool add) {
    std::normal_distribution<float> draw;
    std::vector<float> addend(rows);
    for (auto& each : addend) each = draw(random);
    HostMaps maps(rows, columns, columns + gap, Type::float32);
    maps.fill(random);
    HostMaps found = maps;
    const int64_t parts = row_sum_parts(columns);
    std::vector<float> sum(rows * parts, NAN), magnitude(rows * parts, NAN);
    CHECK(row_sums_emulated({found.view(), columns, add ? addend.data() : nullptr, sum.data(), magnitude.data()}) ==
          nullptr);
    for (int64_t r = 0; r < rows; ++r) {
        double exact = 0, size = 0, total = 0, total_size = 0;
        for (int64_t c = 0; c < columns; ++c) {
            const float expected = add ? maps.get(r, c) + addend[r] : maps.get(r, c);
            CHECK(found.get(r, c) == expected);
            exact += expected;
            size += std::fabs(expected);
        }
        for (int64_t p = 0; p < parts; ++p) {
            total += sum[r * parts + p];
            total_size += magnitude[r * parts + p];
        }
        // A thread's 32 elements one after the other, then halves of at most 256 threads.
        const double bound = 40 * std::numeric_limits<float>::epsilon() * size;
        CHECK(std::fabs(total - exact) <= bound && std::fabs(total_size - size) <= bound);
    }
    found.check_gaps();
}

void check_errors() {
    float data[6] = {}, sum[2], magnitude[2];
    const RowSums good = {{data, 2, 3, Type::float32}, 3, nullptr, sum, magnitude};
    CHECK(row_sums_error(good) == nullptr);
    const auto refused = [&](auto change) {
        RowSums call = good;
        change(call);
        CHECK(row_sums_error(call) != nullptr && row_sums_emulated(call) == row_sums_error(call));
    };
    refused([](RowSums& call) { call.sum = nullptr; });
    refused([](RowSums& call) { call.magnitude = nullptr; });
    refused([](RowSums& call) { call.maps.data = nullptr; });
    refused([](RowSums& call) { call.maps.type = Type::bfloat16; });
    refused([](RowSums& call) { call.maps.stride = 2; });
    refused([](RowSums& call) { call.maps.rows = -1; });
    refused([](RowSums& call) { call.columns = -1; });
    CHECK(row_sums_emulated({{nullptr, 0, 0, Type::float32}, 0, nullptr, nullptr, nullptr}) == nullptr);
}

}  // namespace

int main() {
    std::mt19937 random(0);
    for (int64_t rows : {1, 5, 70})
        for (int64_t columns : {1, 7, 16, 33, 264, 2048, 8192, 8200, 20001})
            for (int64_t gap : {0, 3, 8})
                for (bool add : {false, true}) check_call(random, rows, columns, gap, add);
    check_errors();
}
