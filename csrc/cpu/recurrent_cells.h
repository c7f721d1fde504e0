#pragma once

// Loops over a state's numbers, which each instruction-set file compiles for itself: everything here has internal
// linkage, so that no copy can stand in for another.
#include <cstdint>
#include <cstring>

namespace fwdkern {

namespace {

// exp and tanh by the polynomials of S. Moshier's Cephes library, without branches, so that loops become vectors.
inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    const float shifted = x * 1.44269504f + 12582912.0f;  // the integer part lies in the lowest bits
    const float n = shifted - 12582912.0f;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = (y * r * r + r) + 1.0f;
    int32_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits - 0x4b400000 + 127) << 23;
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return y * power;
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

// tanh(x) / x, 1 at 0, and tanh(x).
inline float tanh_ratio(float x, float* value) {
    const float z = x * x;
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    const float small = 1.0f + z * p;
    const float magnitude = x < 0.0f ? -x : x;
    const float far = (1.0f - 2.0f / (exponential(2.0f * magnitude) + 1.0f)) / magnitude;
    const float ratio = magnitude < 0.625f ? small : far;
    *value = ratio * x;
    return ratio;
}

void scale(const float* in, const float* gain, int64_t count, float* out) {
    if (!gain) {
        std::memcpy(out, in, count * sizeof *out);
        return;
    }
    for (int64_t i = 0; i < count; ++i) out[i] = in[i] * gain[i];
}

void finish(const float* product, const float* gain, const float* keep, const float* before, int64_t count,
            float* out) {
    if (keep)
        for (int64_t i = 0; i < count; ++i) out[i] += keep[i] * before[i] + gain[i] * product[i];
    else
        for (int64_t i = 0; i < count; ++i) out[i] += gain[i] * product[i];
}

void step_tanh(const float* __restrict driven, const float* __restrict recurrent, int64_t hidden,
               float* const* fields, float* __restrict state, float* __restrict exposed) {
    float *__restrict gain = fields[0], *__restrict shown = fields[1];
    for (int64_t i = 0; i < hidden; ++i) {
        float value;
        gain[i] = tanh_ratio(driven[i] + recurrent[i], &value);
        shown[i] = state[i] = exposed[i] = value;
    }
}

void step_relu(const float* __restrict driven, const float* __restrict recurrent, int64_t hidden,
               float* const* fields, float* __restrict state, float* __restrict exposed) {
    float *__restrict gain = fields[0], *__restrict shown = fields[1];
    for (int64_t i = 0; i < hidden; ++i) {
        const float z = driven[i] + recurrent[i];
        gain[i] = z > 0.0f ? 1.0f : 0.0f;
        const float value = z <= 0.0f ? 0.0f : z;  // a NaN stays one
        shown[i] = state[i] = exposed[i] = value;
    }
}

void step_lstm(const float* __restrict driven, const float* __restrict recurrent, int64_t hidden,
               float* const* fields, float* __restrict state, float* __restrict exposed) {
    float *__restrict gain = fields[0], *__restrict keep = fields[1];
    float *__restrict expose = fields[2], *__restrict shown = fields[3];
    for (int64_t i = 0; i < hidden; ++i) {
        const float enter = sigmoid(driven[i] + recurrent[i]);
        const float kept = sigmoid(driven[hidden + i] + recurrent[hidden + i]);
        const float open = sigmoid(driven[3 * hidden + i] + recurrent[3 * hidden + i]);
        float value, unused;
        gain[i] = enter * tanh_ratio(driven[2 * hidden + i] + recurrent[2 * hidden + i], &value);
        const float cell = kept * state[i] + enter * value;
        const float show = open * tanh_ratio(cell, &unused);
        keep[i] = kept;
        expose[i] = show;
        shown[i] = state[i] = cell;
        exposed[i] = show * cell;
    }
}

void step_gru(const float* __restrict driven, const float* __restrict recurrent, int64_t hidden,
              float* const* fields, float* __restrict state, float* __restrict exposed) {
    float *__restrict gain = fields[0], *__restrict feed = fields[1];
    float *__restrict keep = fields[2], *__restrict shown = fields[3];
    for (int64_t i = 0; i < hidden; ++i) {
        const float reset = sigmoid(driven[i] + recurrent[i]);
        const float kept = sigmoid(driven[hidden + i] + recurrent[hidden + i]);
        float value;
        const float ratio = tanh_ratio(driven[2 * hidden + i] + reset * recurrent[2 * hidden + i], &value);
        const float through = (1.0f - kept) * ratio;
        gain[i] = through;
        feed[i] = through * reset;
        keep[i] = kept;
        const float now = kept * state[i] + (1.0f - kept) * value;
        shown[i] = state[i] = exposed[i] = now;
    }
}

}  // namespace

}  // namespace fwdkern
