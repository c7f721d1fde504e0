#pragma once

#include <cstdint>

#include "fwdkern/isa.h"

namespace fwdkern {

// A matrix [columns, depth] as these kernels read it: panels of recurrent_panel(isa) columns, [depth, panel] each, the
// last one padded with zeros.
int64_t recurrent_panel(Isa isa);

// In the order of fwdkern/ops/recurrent_freeze.py.
enum class Cell : int { rnn_tanh = 0, rnn_relu = 1, lstm = 2, gru = 3 };

// maps[s, b, t] += keep[b, t] * maps[s, b, p] + gain_out[b, t] * (weight @ (gain_in[b, p] * maps[s, b, p]))
// for every step t but the first, p the one before it, and slices active[p, 0] <= s < active[p, 1], ranges that grow.
struct RecurrentScan {
    float* maps;  // [slices, batch, steps, hidden]
    int64_t slices, batch, steps, hidden;
    const float* weight;                      // [hidden, hidden], in panels
    const float *keep, *gain_in, *gain_out;   // [batch, steps, hidden]; keep may be null for 0, gain_in for 1
    const int64_t* active;                    // [steps, 2]
    bool descending;
};

// Bit for bit the same for any thread count.
void recurrent_scan(const RecurrentScan& call, Isa isa, int threads);

// The values of a recurrent layer and its coefficients once they are frozen.
struct RecurrentFreeze {
    Cell cell;
    const float* driven;  // [batch, steps, gates * hidden]
    int64_t batch, steps, hidden;
    const float* weight;      // [gates * hidden, hidden], in panels
    const float* bias;        // [gates * hidden] or null
    const float* first;       // [batch, gates * hidden]
    const float* start;       // [batch, hidden]
    const int64_t* lengths;   // [batch]
    bool descending;
    float* out;  // [fields, batch, steps, hidden], 0 in steps that are padding
};

void recurrent_freeze(const RecurrentFreeze& call, Isa isa, int threads);

}  // namespace fwdkern
