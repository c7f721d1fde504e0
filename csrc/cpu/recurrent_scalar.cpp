#include "recurrent_cells.h"
#include "recurrent_kernels.h"

namespace fwdkern {

namespace {

constexpr int kPanel = 4;

void multiply(const float* in, int64_t rows, int64_t depth, const float* packed, int64_t panels, float* out) {
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t p = 0; p < panels; ++p) {
            float sum[kPanel] = {};
            for (int64_t k = 0; k < depth; ++k)
                for (int j = 0; j < kPanel; ++j) sum[j] += in[r * depth + k] * packed[(p * depth + k) * kPanel + j];
            std::memcpy(out + (r * panels + p) * kPanel, sum, sizeof sum);
        }
}

}  // namespace

const RecurrentKernels recurrent_kernels_scalar = {
    4, kPanel, multiply, scale, finish, {step_tanh, step_relu, step_lstm, step_gru}};

}  // namespace fwdkern
