#include "fwdkern/cuda/max_pool.h"

#include "check.h"
#include "max_pool_body.h"

namespace fwdkern::cuda {

namespace {

// Along one axis, the places of all windows are numbers of 31 bits.
bool axis_fits(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
    const int64_t limit = int64_t{1} << 30;
    return in + padding < limit && kernel * dilation < limit && (out - 1) * stride < in + padding;
}

const char* window_error(const PoolWindow& window) {
    if (window.kernel_height < 1 || window.kernel_width < 1) return "the window is empty";
    // In this order the product cannot overflow.
    if (window.kernel_height > 256 || window.kernel_width > 256 || window.kernel_height * window.kernel_width > 256)
        return "the window has more than 256 places";
    if (window.stride_y < 1 || window.stride_x < 1 || window.dilation_y < 1 || window.dilation_x < 1)
        return "a stride or dilation is not positive";
    if (window.padding_y < 0 || window.padding_x < 0) return "a padding is negative";
    return nullptr;
}

template <class Call>
const char* sizes_error(const Call& call) {
    if (call.images < 0 || call.in_height < 0 || call.in_width < 0 || call.channels < 0 || call.out_height < 0 ||
        call.out_width < 0)
        return "maps have a negative size";
    const PoolWindow& w = call.window;
    if (!axis_fits(call.in_height, call.out_height, w.kernel_height, w.stride_y, w.padding_y, w.dilation_y) ||
        !axis_fits(call.in_width, call.out_width, w.kernel_width, w.stride_x, w.padding_x, w.dilation_x))
        return "windows begin beyond the input";
    return nullptr;
}

}  // namespace

const char* max_pool_error(const MaxPool& call) {
    if (!is_float(call.type)) return "the type of values is unknown";
    if (const char* error = window_error(call.window)) return error;
    if (const char* error = sizes_error(call)) return error;
    if (call.images > 0 && call.out_height > 0 && call.out_width > 0 && call.channels > 0) {
        if (call.in == nullptr || call.out == nullptr || call.winner == nullptr)
            return "values, output or winners have no address";
        if (address_of(call.in) % bytes_of(call.type) != 0 || address_of(call.out) % bytes_of(call.type) != 0)
            return "values lie across the boundaries of their elements";
    }
    return nullptr;
}

const char* max_pool_emulated(const MaxPool& call) { return launch_max_pool(call, OnHost()); }

const char* max_unpool_error(const MaxUnpool& call) {
    if (!is_float(call.type)) return "the type of maps is unknown";
    if (const char* error = window_error(call.window)) return error;
    if (const char* error = sizes_error(call)) return error;
    if (call.winners < 1) return "there are no winners";
    if (call.images > 0 && call.in_height > 0 && call.in_width > 0 && call.channels > 0) {
        if (call.in == nullptr) return "the result has no address";
        if (call.out_height > 0 && call.out_width > 0 && (call.out == nullptr || call.winner == nullptr))
            return "maps or winners have no address";
        if (address_of(call.in) % bytes_of(call.type) != 0 || address_of(call.out) % bytes_of(call.type) != 0)
            return "maps lie across the boundaries of their elements";
    }
    return nullptr;
}

const char* max_unpool_emulated(const MaxUnpool& call) { return launch_max_unpool(call, OnHost()); }

}  // namespace fwdkern::cuda
