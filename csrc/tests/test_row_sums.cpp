#include <cmath>
#include <vector>

#include "check.h"
#include "fwdkern/row_sums.h"

int main() {
    for (const int64_t columns : {0, 1, 15, 16, 17, 511, 512, 513, 3000}) {
        for (const bool add : {false, true}) {
            const int64_t rows = 7;
            std::vector<float> maps(rows * columns), addend(rows), sum(rows, NAN), magnitude(rows, NAN);
            for (size_t i = 0; i < maps.size(); ++i) maps[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50);
            for (int64_t r = 0; r < rows; ++r) addend[r] = static_cast<float>(r) - 3;
            const std::vector<float> before = maps;
            fwdkern::row_sums(maps.data(), rows, columns, add ? addend.data() : nullptr, sum.data(), magnitude.data(), 2);
            for (int64_t r = 0; r < rows; ++r) {
                double expected = 0, absolute = 0;
                for (int64_t i = r * columns; i < (r + 1) * columns; ++i) {
                    const float value = before[i] + (add ? addend[r] : 0);
                    CHECK(maps[i] == value);
                    expected += value;
                    absolute += std::fabs(value);
                }
                CHECK(sum[r] == static_cast<float>(expected));  // small integers: no rounding
                CHECK(magnitude[r] == static_cast<float>(absolute));
            }
        }
    }
    return 0;
}
