#pragma once

#include "gathered_gemm_pipeline.h"

namespace fwdkern::cuda {

template <class In>
FWDKERN_DEVICE float load_map(uint32_t address) {
    if constexpr (sizeof(In) == 4)
        return float_of_bits(load_shared_32(address));
    else
        return widen(In{load_shared_16(address)});
}

// A warp's 16 slices of one fragment's maps, rounded.
template <class T>
FWDKERN_DEVICE void load_fragment(uint32_t stage, int warp, int lane, int fragment, uint32_t (&a)[4]) {
    using In = typename T::In;
    const int first = warp * kFragmentSlices;
    if constexpr (T::kPrecision == Precision::bf16 && sizeof(In) == 2) {
        const FragmentElement at = matrix_row_of_maps(lane, fragment);
        load_matrices<true>(stage + map_place<T>(at.term, first + at.slice), a);
    } else {
        FWDKERN_UNROLL
        for (int i = 0; i < 4; ++i) {
            const FragmentElement at = map_fragment<T>(lane, fragment, i);
            const float value = load_map<In>(stage + map_place<T>(at.term, first + at.slice));
            if constexpr (T::kPrecision == Precision::tf32)
                a[i] = sizeof(In) == 4 ? round_to_tf32(value) : bits_of_float(value);
            else
                a[i] = pair_of_bfloat16(value, load_map<In>(stage + map_place<T>(at.term + 1, first + at.slice)));
        }
    }
}

// The products of a stage by warps of their own: begin does nothing, end all.
template <class T>
struct WarpProduct {
    float sum[T::kRows / 2];

    FWDKERN_DEVICE void fence() const {}
    FWDKERN_DEVICE void begin(uint32_t) {}

    FWDKERN_DEVICE void end(uint32_t stage, int rows) {
        const int thread = anew(thread_in_block()), warp = thread / kWarp, lane = thread % kWarp;
        FWDKERN_UNROLL
        for (int fragment = 0; fragment < kFragments; ++fragment) {
            uint32_t a[4];
            load_fragment<T>(stage, warp, lane, fragment, a);
            FWDKERN_UNROLL
            for (int pair = 0; pair < T::kRows / 16; ++pair) {
                if (pair * 16 >= rows) continue;  // the same for the whole block
                const WeightUnit at = matrix_row_of_weights(lane, pair, fragment);
                uint32_t b[4];
                load_matrices<false>(stage + swizzled(at.row, at.unit), b);
                multiply_warp<T::kPrecision>(sum + pair * 8, a, b[0], b[1]);
                multiply_warp<T::kPrecision>(sum + pair * 8 + 4, a, b[2], b[3]);
            }
        }
    }
};

#if !defined(__CUDACC__) || FWDKERN_WARPGROUPS
// By warpgroups, which take weights from shared memory and go on while the next copies are asked for.
template <class T>
struct WarpgroupProduct {
    float sum[T::kRows / 2];
    uint32_t a[kFragments][4];

    FWDKERN_DEVICE void fence() const { fence_for_warpgroups(); }

    FWDKERN_DEVICE void begin(uint32_t stage) {
        const int thread = anew(thread_in_block()), warp = thread / kWarp, lane = thread % kWarp;
        FWDKERN_UNROLL
        for (int fragment = 0; fragment < kFragments; ++fragment)
            load_fragment<T>(stage, warp, lane, fragment, a[fragment]);
        const uint64_t weights = weights_descriptor(stage);
        begin_warpgroup();
        FWDKERN_UNROLL
        for (int fragment = 0; fragment < kFragments; ++fragment)
            multiply_warpgroup<T::kPrecision, T::kRows>(sum, a[fragment], fragment_descriptor(weights, fragment));
        commit_warpgroup();
    }

    FWDKERN_DEVICE void end(uint32_t, int) { wait_for_warpgroup(sum); }
};
#endif

// -- results ---------------------------------------------------------------------------------------------------------

template <class Out>
FWDKERN_DEVICE void write_as(const GemmArguments& call, int64_t row, int64_t slice, const float (&value)[4]) {
    struct alignas(4 * sizeof(Out)) Four {
        Out element[4];
    };
    Out* place = static_cast<Out*>(call.out.data) + row * call.out.stride + slice;
    if (call.out_aligned && slice + 4 <= call.slices) {
        Four four;
        if (call.accumulate) four = *reinterpret_cast<const Four*>(place);
        FWDKERN_UNROLL
        for (int i = 0; i < 4; ++i)
            four.element[i] = narrow<Out>(call.accumulate ? value[i] + widen(four.element[i]) : value[i]);
        *reinterpret_cast<Four*>(place) = four;
    } else {
        FWDKERN_UNROLL
        for (int i = 0; i < 4; ++i)
            if (slice + i < call.slices)
                place[i] = narrow<Out>(call.accumulate ? value[i] + widen(place[i]) : value[i]);
    }
}

// Four sums of an output row, from `slice` on.
FWDKERN_DEVICE void write_sums(const GemmArguments& call, int64_t row, int64_t slice, float (&value)[4]) {
    if (slice >= call.slices) return;
    if (call.row_scale != nullptr) {
        const float scale = call.row_scale[row];
        FWDKERN_UNROLL
        for (int i = 0; i < 4; ++i) value[i] *= scale;
    }
    if (call.out.type == Type::float32)
        write_as<float>(call, row, slice, value);
    else if (call.out.type == Type::bfloat16)
        write_as<Bfloat16>(call, row, slice, value);
    else
        write_as<Float16>(call, row, slice, value);
}

// Lanes hold few slices of many rows; turned over, they write four slices of a row at once.
template <class T>
FWDKERN_DEVICE void write_product(const GemmArguments& call, const Share& share, uint32_t shared,
                                  const float (&sum)[T::kRows / 2]) {
    const int thread = anew(thread_in_block()), warp = thread / kWarp, lane = thread % kWarp;
    const uint32_t own = shared + warp * turned_place(T::kRows, 0);
    FWDKERN_UNROLL
    for (int i = 0; i < T::kRows / 2; ++i) {
        const SumElement at = sum_of(lane, i % 4);
        store_shared_32(own + turned_place(i / 4 * 8 + at.row, at.slice), bits_of_float(sum[i]));
    }
    sync_warp();
    const SumElement written = written_by(lane);
    FWDKERN_UNROLL_BY(2)
    for (int row = written.row; row < share.rows; row += 8) {
        uint32_t bits[4];
        load_shared_128(own + turned_place(row, written.slice), bits);
        float value[4];
        FWDKERN_UNROLL
        for (int i = 0; i < 4; ++i) value[i] = float_of_bits(bits[i]);
        write_sums(call, share.first + row, share.slice + warp * kFragmentSlices + written.slice, value);
    }
}

// -- blocks ----------------------------------------------------------------------------------------------------------

// The beginning of a block: the first lists, then the first stages of the pipeline.
template <class T>
FWDKERN_DEVICE void fill_pipeline(Loader<T>& loader) {
    for (int step = 0; step < T::kLists; ++step) loader.ask_for_list(step);
    commit_copies();
    wait_for_copies<0>();
    sync_threads();
    for (int step = 0; step < T::kStages - 1; ++step) {
        loader.ask_for_operands(step);
        loader.store_operands(step);
        commit_copies();
    }
}

// Ends when a step's operands and the list of those that are asked for next have arrived, and all threads are done with
// the step before, whose stage is free then.
template <class T, class Product>
FWDKERN_DEVICE void next_step(const Product& product) {
    wait_for_copies<T::kStages - 2>();
    product.fence();
    sync_threads();
}

template <class T>
FWDKERN_DEVICE void ask_ahead(Loader<T>& loader, int step) {
    loader.ask_for_operands(operands_asked_in<T>(step));
    loader.ask_for_list(list_asked_in<T>(step));
    commit_copies();
}

FWDKERN_DEVICE uint32_t aligned_shared_memory() {
    return (shared_memory() + kSwizzleAlignment - 1) / kSwizzleAlignment * kSwizzleAlignment;
}

template <class T, class Product>
FWDKERN_DEVICE void tensor_core_block(const GemmArguments& call, int64_t x, int64_t y) {
    const Share share = share_of<T>(call, x, y);
    if (share.rows <= 0) return;
    const uint32_t shared = aligned_shared_memory();
    Loader<T> loader(call, share, shared);
    fill_pipeline(loader);
    Product product;
    FWDKERN_UNROLL
    for (int i = 0; i < T::kRows / 2; ++i) product.sum[i] = 0;
    for (int step = 0; step < loader.steps(); ++step) {
        next_step<T>(product);
        const uint32_t stage = shared + stage_of<T>(step);
        product.begin(stage);
        ask_ahead(loader, step);
        product.end(stage, share.rows);
        loader.store_operands(operands_asked_in<T>(step));
    }
    sync_threads();
    write_product<T>(call, share, shared, product.sum);
}

// Every thread multiplies for itself, float32 by float32.
template <class T>
struct PlainProduct {
    float sum[2][4][4];  // [half of the slices, output row, slice]

    FWDKERN_DEVICE void fence() const {}

    FWDKERN_DEVICE void add(uint32_t stage, SumElement own) {
        using In = typename T::In;
        FWDKERN_UNROLL_BY(4)
        for (int word = 0; word < kWords; ++word) {
            uint32_t weight[4];
            load_shared_128(stage + weight_place<T>(own.row, word), weight);
            FWDKERN_UNROLL
            for (int half = 0; half < 2; ++half) {
                const uint32_t place = stage + map_place<T>(word, own.slice + half * (T::kSlices / 2));
                float map[4];
                if constexpr (sizeof(In) == 4) {
                    uint32_t bits[4];
                    load_shared_128(place, bits);
                    FWDKERN_UNROLL
                    for (int i = 0; i < 4; ++i) map[i] = float_of_bits(bits[i]);
                } else {
                    const int64_t bits = load_shared_64(place);
                    FWDKERN_UNROLL
                    for (int i = 0; i < 4; ++i) map[i] = widen(In{static_cast<uint16_t>(bits >> 16 * i)});
                }
                FWDKERN_UNROLL
                for (int row = 0; row < 4; ++row)
                    FWDKERN_UNROLL
                    for (int i = 0; i < 4; ++i) sum[half][row][i] += float_of_bits(weight[row]) * map[i];
            }
        }
    }
};

template <class T>
FWDKERN_DEVICE void plain_block(const GemmArguments& call, int64_t x, int64_t y) {
    const Share share = share_of<T>(call, x, y);
    if (share.rows <= 0) return;
    const uint32_t shared = aligned_shared_memory();
    Loader<T> loader(call, share, shared);
    fill_pipeline(loader);
    PlainProduct<T> product = {};
    const SumElement own = plain_sums_of<T>(thread_in_block());
    for (int step = 0; step < loader.steps(); ++step) {
        next_step<T>(product);
        ask_ahead(loader, step);
        product.add(shared + stage_of<T>(step), own);
    }
    FWDKERN_UNROLL
    for (int half = 0; half < 2; ++half)
        FWDKERN_UNROLL
        for (int row = 0; row < 4; ++row)
            if (own.row + row < share.rows)
                write_sums(call, share.first + own.row + row, share.slice + own.slice + half * (T::kSlices / 2),
                           product.sum[half][row]);
}

}  // namespace fwdkern::cuda
