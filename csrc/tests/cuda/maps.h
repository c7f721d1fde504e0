#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "check.h"
#include "cuda/number.h"

// Maps of any type on the host, each row apart from the next, so that the address sanitizer and the gaps show what is
// read or written beside them.
struct HostMaps {
    int64_t rows, slices, stride;
    fwdkern::cuda::Type type;
    std::vector<char> bytes;

    HostMaps(int64_t rows, int64_t slices, int64_t stride, fwdkern::cuda::Type type)
        : rows(rows), slices(slices), stride(stride), type(type),
          bytes(rows > 0 ? ((rows - 1) * stride + slices) * bytes_of(type) : 0, static_cast<char>(0xff)) {}  // NaN

    fwdkern::cuda::Maps view() { return {bytes.data(), rows, stride, type}; }

    char* at(int64_t row, int64_t slice) { return bytes.data() + (row * stride + slice) * bytes_of(type); }

    float get(int64_t row, int64_t slice) {
        float value = 0;
        fwdkern::cuda::with_type(type, [&](auto number) {
            std::memcpy(&number, at(row, slice), sizeof number);
            value = fwdkern::cuda::widen(number);
            return nullptr;
        });
        return value;
    }

    void set(int64_t row, int64_t slice, float value) {
        fwdkern::cuda::with_type(type, [&](auto number) {
            number = fwdkern::cuda::narrow<decltype(number)>(value);
            std::memcpy(at(row, slice), &number, sizeof number);
            return nullptr;
        });
    }

    void fill(std::mt19937& random) {
        std::normal_distribution<float> draw;
        for (int64_t r = 0; r < rows; ++r)
            for (int64_t s = 0; s < slices; ++s) set(r, s, draw(random));
    }

    // Half a unit in the last place, relative.
    double rounding() const {
        return type == fwdkern::cuda::Type::float32 ? 0x1p-24 : type == fwdkern::cuda::Type::bfloat16 ? 0x1p-8 : 0x1p-11;
    }

    void check_gaps() {
        for (int64_t r = 0; r + 1 < rows; ++r)
            for (int64_t s = slices; s < stride; ++s) CHECK(std::isnan(get(r, s)));
    }
};

// Terms of sparse combinations: `length` has the number of each.
struct Terms {
    std::vector<int64_t> offset{0};
    std::vector<int32_t> index;
    std::vector<float> coefficient;

    Terms(std::mt19937& random, int64_t count, int64_t in_rows, int longest) {
        std::normal_distribution<float> draw;
        for (int64_t r = 0; r < count; ++r) offset.push_back(offset.back() + random() % (longest + 1));
        for (int64_t j = 0; j < offset.back(); ++j) {
            index.push_back(static_cast<int32_t>(random() % in_rows));
            coefficient.push_back(draw(random));
        }
    }
};
