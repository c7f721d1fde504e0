// The emulation must object to what a GPU would punish with wrong results now and then.
#include "cuda/emulated_instructions.h"

#include <cstring>
#include <functional>
#include <vector>

#include "check.h"
#include "cuda/number.h"

namespace {

using namespace fwdkern::cuda;
using emulation::Arrival;

constexpr int kThreads = 128, kBytes = 8192;

const char* run(const std::function<void()>& body, Arrival arrival = Arrival::when_waited_for) {
    return emulation::run_block(kThreads, kBytes, {arrival, 1}, body);
}

uint32_t own_place() { return shared_memory() + thread_in_block() * 16; }
uint32_t other_place(int other) { return shared_memory() + (thread_in_block() ^ other) * 16; }

void expect(const char* error, const char* part) { CHECK(error != nullptr && std::strstr(error, part) != nullptr); }

void check_barriers() {
    const auto exchange = [](int other, void (*barrier)()) {
        return run([=] {
            store_shared_32(own_place(), static_cast<uint32_t>(thread_in_block()));
            barrier();
            CHECK(load_shared_32(other_place(other)) == static_cast<uint32_t>(thread_in_block() ^ other));
        });
    };
    const auto nothing = [] {};
    CHECK(exchange(64, sync_threads) == nullptr);
    CHECK(exchange(16, sync_warp) == nullptr);
    CHECK(exchange(0, nothing) == nullptr);
    expect(exchange(64, sync_warp), "without a barrier");
    expect(run([] {
               load_shared_32(other_place(1));
               store_shared_32(own_place(), 0);
           }),
           "without a barrier");
    expect(run([] {
               if (thread_in_block() > 0) sync_threads();
           }),
           "wait for others");
    expect(run([] {
               thread_in_block() % 2 ? sync_warp() : emulation::multiply_warp(Precision::tf32, nullptr, {}, 0, 0);
           }),
           "others at");
    expect(run([] { load_shared_32(shared_memory() + kBytes); }), "beyond");
    expect(run([] { load_shared_32(shared_memory() + 2); }), "multiple");
}

void check_copies() {
    alignas(16) static const uint32_t source[5] = {1, 2, 3, 4, 5};
    for (Arrival arrival : {Arrival::at_once, Arrival::when_waited_for}) {
        const auto copied = [=](const void* from, int bytes, bool wait, bool commit = true) {
            return run(
                [=] {
                    copy_async<16>(own_place(), from, bytes);
                    if (commit) commit_copies();
                    if (wait) wait_for_copies<0>();
                    uint32_t value[4];
                    load_shared_128(own_place(), value);
                    CHECK(value[0] == 1 && value[2] == (bytes > 8 ? 3 : 0) && value[3] == (bytes > 12 ? 4 : 0));
                },
                arrival);
        };
        CHECK(copied(source, 16, true) == nullptr);
        CHECK(copied(source, 8, true) == nullptr);
        expect(copied(source, 16, false), "still being copied");
        expect(copied(source, 16, true, false), "still being copied");
        expect(copied(source + 1, 16, true), "multiple of its size");
        expect(copied(source, 20, true), "more bytes");
        expect(run([] { copy_async<16>(own_place(), source, 16), commit_copies(); }, arrival), "nobody waited for");
    }
}

// A product of ones, 32 output rows.
const char* multiply(Arrival arrival, bool fence, bool begin, bool wait, uint64_t layout = 1) {
    return run(
        [=] {
            const uint32_t weights = (shared_memory() + 1023) / 1024 * 1024;
            for (int word = thread_in_block(); word < 32 * 32; word += kThreads)
                store_shared_32(weights + word * 4, bits_of_float(1));
            if (fence) fence_for_warpgroups();
            sync_threads();
            float sum[16] = {};
            const uint32_t one = bits_of_float(1), a[4] = {one, one, one, one};
            if (begin) begin_warpgroup();
            multiply_warpgroup<Precision::tf32, 32>(sum, a, weights >> 4 | uint64_t{64} << 32 | layout << 62);
            commit_warpgroup();
            if (!wait) return;
            wait_for_warpgroup(sum);
            for (float each : sum) CHECK(each == 8);
        },
        arrival);
}

void check_products() {
    for (Arrival arrival : {Arrival::at_once, Arrival::when_waited_for}) {
        CHECK(multiply(arrival, true, true, true) == nullptr);
        expect(multiply(arrival, false, true, true), "not fenced");
        expect(multiply(arrival, true, false, true), "before its fence");
        expect(multiply(arrival, true, true, true, 2), "another layout");
    }
    expect(multiply(Arrival::when_waited_for, true, true, false), "nobody waited for");
}

}  // namespace

int main() {
    check_barriers();
    check_copies();
    check_products();
}
