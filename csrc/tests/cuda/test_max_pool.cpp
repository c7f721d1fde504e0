#include "fwdkern/cuda/max_pool.h"

#include <algorithm>

#include "cuda/max_pool_body.h"
#include "maps.h"

namespace {

using namespace fwdkern::cuda;

int out_size(int in, int kernel, int stride, int padding, int dilation) {
    return (in + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
}

// The two directions of an axis say the same.
void check_axis(int in, int kernel, int stride, int padding, int dilation) {
    const int out = out_size(in, kernel, stride, padding, dilation);
    for (int i = 0; i < kernel; ++i) {
        for (int o = 0; o < out; ++o) {
            const int at = place_of(o, i, stride, padding, dilation, in);
            const int expected = o * stride - padding + i * dilation;
            CHECK(at == (expected >= 0 && expected < in ? expected : -1));
            if (at >= 0) CHECK(window_of(at, i, stride, padding, dilation, out) == o);
        }
        for (int at = 0; at < in; ++at) {
            const int o = window_of(at, i, stride, padding, dilation, out);
            if (o >= 0)
                CHECK(o < out && place_of(o, i, stride, padding, dilation, in) == at);
            else
                for (int other = 0; other < out; ++other) CHECK(place_of(other, i, stride, padding, dilation, in) != at);
        }
    }
}

void check_call(std::mt19937& random, int64_t channels, const PoolWindow& w, int64_t gap, Type type) {
    constexpr int64_t kImages = 2, kPulled = 4;
    constexpr int kHeight = 7, kWidth = 6;
    const int height = out_size(kHeight, w.kernel_height, w.stride_y, w.padding_y, w.dilation_y);
    const int width = out_size(kWidth, w.kernel_width, w.stride_x, w.padding_x, w.dilation_x);
    HostMaps in(kImages * kHeight * kWidth, channels, channels, type), out(kImages * height * width, channels, channels, type);
    for (int64_t r = 0; r < in.rows; ++r)
        for (int64_t c = 0; c < channels; ++c) in.set(r, c, static_cast<float>(random() % 4));  // ties
    in.set(5, 0, std::numeric_limits<float>::quiet_NaN());
    std::vector<uint8_t> winner(out.rows * channels, 0xff);
    CHECK(max_pool_emulated({in.bytes.data(), type, kImages, kHeight, kWidth, channels, w, out.bytes.data(), height,
                             width, winner.data()}) == nullptr);
    HostMaps maps(kPulled * height * width, channels, channels + gap, type);
    maps.fill(random);
    HostMaps pulled(kPulled * kHeight * kWidth, channels, channels, type);
    CHECK(max_unpool_emulated({maps.bytes.data(), type, height * width * maps.stride, width * maps.stride, maps.stride,
                               winner.data(), kImages, kPulled, height, width, channels, w, pulled.bytes.data(),
                               kHeight, kWidth}) == nullptr);
    std::vector<double> expected(pulled.rows * channels), magnitude(expected);
    for (int64_t row = 0; row < out.rows; ++row)
        for (int64_t c = 0; c < channels; ++c) {
            const int64_t image = row / (height * width);
            const int y = static_cast<int>(row / width % height), x = static_cast<int>(row % width);
            int won = -1;
            int64_t from = 0;
            float best = 0;
            for (int place = 0; place < w.kernel_height * w.kernel_width; ++place) {
                const int in_y = y * w.stride_y - w.padding_y + place / w.kernel_width * w.dilation_y;
                const int in_x = x * w.stride_x - w.padding_x + place % w.kernel_width * w.dilation_x;
                if (in_y < 0 || in_y >= kHeight || in_x < 0 || in_x >= kWidth) continue;
                const float value = in.get((image * kHeight + in_y) * kWidth + in_x, c);
                if (won < 0 || value > best || std::isnan(value)) {
                    best = value;
                    won = place;
                    from = static_cast<int64_t>(in_y) * kWidth + in_x;
                }
            }
            CHECK(winner[row * channels + c] == won);
            CHECK(out.get(row, c) == best || (std::isnan(best) && std::isnan(out.get(row, c))));
            for (int64_t i = image; i < kPulled; i += kImages) {
                const int64_t to = (i * kHeight * kWidth + from) * channels + c;
                const double value = maps.get((i * height + y) * width + x, c);
                expected[to] += value;
                magnitude[to] += std::fabs(value);
            }
        }
    for (int64_t r = 0; r < pulled.rows; ++r)
        for (int64_t c = 0; c < channels; ++c) {
            const int64_t at = r * channels + c;
            CHECK(std::fabs(pulled.get(r, c) - expected[at]) <= 9 * 0x1p-23 * magnitude[at] + 1.01 * pulled.rounding() * std::fabs(expected[at]));
        }
}

void check_errors() {
    float in[16] = {}, out[4];
    uint8_t winner[4] = {};
    const PoolWindow window = {2, 2, 2, 2, 0, 0, 1, 1};
    const MaxPool good = {in, Type::float32, 1, 4, 4, 1, window, out, 2, 2, winner};
    const MaxUnpool back = {out, Type::float32, 4, 2, 1, winner, 1, 1, 2, 2, 1, window, in, 4, 4};
    CHECK(max_pool_error(good) == nullptr && max_unpool_error(back) == nullptr);
    const auto refused = [&](auto change) {
        MaxPool call = good;
        change(call);
        CHECK(max_pool_error(call) != nullptr && max_pool_emulated(call) == max_pool_error(call));
        MaxUnpool other = back;
        change(other);
        CHECK(max_unpool_error(other) != nullptr && max_unpool_emulated(other) == max_unpool_error(other));
    };
    refused([](auto& call) { call.type = Type::boolean; });
    refused([](auto& call) { call.images = -1; });
    refused([](auto& call) { call.channels = -1; });
    refused([](auto& call) { call.in_height = -1; });
    refused([](auto& call) { call.in_width = -1; });
    refused([](auto& call) { call.out_height = -1; });
    refused([](auto& call) { call.out_width = -1; });
    refused([](auto& call) { call.window.kernel_height = 0; });
    refused([](auto& call) { call.window.kernel_width = 200; });
    refused([](auto& call) { call.window.kernel_height = 1 << 20; });
    refused([](auto& call) { call.window.stride_y = 0; });
    refused([](auto& call) { call.window.stride_x = -1; });
    refused([](auto& call) { call.window.padding_y = -1; });
    refused([](auto& call) { call.window.padding_x = 1 << 30; });
    refused([](auto& call) { call.window.dilation_y = 0; });
    refused([](auto& call) { call.window.dilation_x = 1 << 30; });
    refused([](auto& call) { call.out_height = 3; });
    refused([](auto& call) { call.out_width = 1 << 30; });
    refused([](auto& call) { call.in = nullptr; });
    refused([](auto& call) { call.out = nullptr; });
    refused([](auto& call) { call.winner = nullptr; });
    refused([&](auto& call) { call.in = reinterpret_cast<char*>(in) + 1; });
    refused([&](auto& call) { call.out = reinterpret_cast<char*>(out) + 1; });
    MaxUnpool none = back;
    none.winners = 0;
    CHECK(max_unpool_error(none) != nullptr);
}

}  // namespace

int main() {
    for (int in = 1; in <= 9; ++in)
        for (int kernel = 1; kernel <= 4; ++kernel)
            for (int stride = 1; stride <= 3; ++stride)
                for (int padding = 0; padding <= kernel / 2; ++padding)
                    for (int dilation = 1; dilation <= 2; ++dilation)
                        if (in + 2 * padding >= dilation * (kernel - 1) + 1)
                            check_axis(in, kernel, stride, padding, dilation);
    std::mt19937 random(0);
    const PoolWindow windows[] = {{2, 2, 2, 2, 0, 0, 1, 1}, {3, 3, 2, 2, 1, 1, 1, 1}, {3, 2, 1, 2, 1, 0, 1, 1},
                                  {2, 2, 1, 1, 0, 0, 2, 2}, {1, 1, 3, 3, 0, 0, 1, 1}};
    for (const PoolWindow& window : windows)
        for (int64_t channels : {1, 8, 13, 24})
            for (int64_t gap : {0, 3, 8})
                for (Type type : {Type::float32, Type::bfloat16, Type::float16})
                    check_call(random, channels, window, gap, type);
    check_errors();
}
