#include "emulated_instructions.h"

#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "number.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace fwdkern::cuda {

namespace {

using emulation::Arrival;
using emulation::Order;

constexpr int kWarpThreads = 32, kWarpgroupThreads = 128;
constexpr uint32_t kSharedBegin = 1040;  // a multiple of 16 as on a GPU, of no more
constexpr size_t kStackBytes = 256 * 1024;
constexpr int kNobody = -1;

[[noreturn]] void fail(const std::string& problem) { throw std::logic_error("emulation: " + problem); }

// Threads that wait for each other, and what the lanes of a warp hand each other.
struct Group {
    int size = 0, arrived = 0;
    const char* what = nullptr;  // they wait for
    std::vector<int> waiting;
    int64_t epoch = 0;  // barriers passed that order memory
    int turn = 0;       // of the two places for what is handed over
    uint32_t handed[2][kWarpThreads][6];
};

struct Copy {
    uint32_t target;
    const void* source;
    int size, bytes;
};

// A warpgroup's product that may still be under way.
struct WarpgroupProduct {
    Precision precision;
    int rows;
    float* sum;
    const uint32_t* a;
    uint64_t weights;
};

struct Thread {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[kStackBytes]};
    bool done = false;
    std::vector<Copy> open;  // copies not yet committed
    std::deque<std::vector<Copy>> committed;
    std::vector<uint32_t> unfenced;  // halfwords
    std::vector<WarpgroupProduct> products;
    bool fenced = false, products_open = false;
};

// Who touched two bytes of shared memory last, and when.
struct Access {
    int thread = kNobody;  // or kNobody - 1 - w: several threads of warp w; kSeveral: of several warps
    int64_t block_epoch = 0, warp_epoch = 0;
};
constexpr int kSeveral = -1000;

struct Halfword {
    Access write, read;
    bool in_flight = false;
    int unfenced = kNobody;
};

class Machine {
public:
    const char* run(int threads, int shared_bytes, Order order, const std::function<void()>& body);

    int self() const { return current_; }
    Thread& mine() { return *threads_[current_]; }
    Group& warp() { return warps_[current_ / kWarpThreads]; }
    Group& warpgroup() { return warpgroups_[current_ / kWarpgroupThreads]; }

    void sync_block() { wait(block_, "a barrier of the block", true); }
    void sync_warp() { wait(warp(), "a barrier of the warp", true); }

    void load(uint32_t address, void* value, int size) {
        for (uint32_t half = check(address, size, size); half < index(address + size); ++half) note_read(half);
        std::memcpy(value, at(address), size);
    }

    void store(uint32_t address, const void* value, int size) {
        for (uint32_t half = check(address, size, size); half < index(address + size); ++half) {
            note_write(half);
            halfwords_[half].unfenced = current_;
            mine().unfenced.push_back(half);
        }
        std::memcpy(at(address), value, size);
    }

    void copy(const Copy& copy) {
        if (copy.bytes < 0 || copy.bytes > copy.size) fail("a copy of more bytes than its size");
        if (copy.bytes > 0 && reinterpret_cast<uintptr_t>(copy.source) % copy.size != 0)
            fail("a copy from an address that is not a multiple of its size");
        for (uint32_t half = check(copy.target, copy.size, copy.size); half < index(copy.target + copy.size); ++half) {
            note_write(half);
            halfwords_[half].in_flight = true;
        }
        if (order_.arrival == Arrival::at_once) move(copy);
        mine().open.push_back(copy);
    }

    void commit_copies() {
        mine().committed.push_back(std::move(mine().open));
        mine().open.clear();
    }

    void wait_for_copies(size_t pending) {
        while (mine().committed.size() > pending) {
            for (const Copy& copy : mine().committed.front()) {
                if (order_.arrival == Arrival::when_waited_for) move(copy);
                for (uint32_t half = index(copy.target); half < index(copy.target + copy.size); ++half) {
                    halfwords_[half].in_flight = false;
                    halfwords_[half].write = now();
                    halfwords_[half].unfenced = current_;
                    mine().unfenced.push_back(half);
                }
            }
            mine().committed.pop_front();
        }
    }

    void fence_for_warpgroups() {
        for (uint32_t half : mine().unfenced)
            if (halfwords_[half].unfenced == current_) halfwords_[half].unfenced = kNobody;
        mine().unfenced.clear();
    }

    // Hand `mine` to the other lanes of the warp; theirs in return, until this lane hands over the next.
    const uint32_t (*hand_over(const char* what, const uint32_t* words, int count))[6] {
        Group& group = warp();
        auto* place = group.handed[group.turn % 2];
        std::copy(words, words + count, place[current_ % kWarpThreads]);
        wait(group, what);
        return place;
    }

    void multiply_warpgroup(const WarpgroupProduct& product) {
        if (!mine().fenced) fail("a warpgroup's product before its fence");
        for (int row = 0; row < product.rows; ++row)
            for (int byte = 0; byte < 32; byte += 2) {
                const Halfword& half = halfwords_[check(weight_address(product.weights, row, byte), 2, 2)];
                if (half.unfenced != kNobody) fail("a warpgroup's product of weights that were not fenced");
                if (half.in_flight) fail("a warpgroup's product of weights that are under way");
            }
        mine().products.push_back(product);
        mine().products_open = true;
    }

    void commit_warpgroup() {
        mine().products_open = false;
        mine().fenced = false;
        if (order_.arrival == Arrival::at_once) multiply_all();
    }

    void wait_for_warpgroup() {
        if (mine().products_open) fail("waiting for a warpgroup's product that was not committed");
        if (order_.arrival == Arrival::when_waited_for) multiply_all();
    }

    // Tensor cores ignore what is beyond tf32.
    static float operand(Precision precision, uint32_t word, int half) {
        return precision == Precision::tf32 ? float_of_bits(word & 0xffffe000)
                                            : widen(Bfloat16{static_cast<uint16_t>(word >> 16 * half)});
    }

private:
    void entry();
    static void enter(uint32_t high, uint32_t low) {
        reinterpret_cast<Machine*>(uint64_t{high} << 32 | low)->entry();
    }

    void switch_to(ucontext_t& from, ucontext_t& to, const void* stack, size_t size, bool last = false) {
#if defined(__SANITIZE_ADDRESS__)
        void* kept = nullptr;
        __sanitizer_start_switch_fiber(last ? nullptr : &kept, stack, size);
        swapcontext(&from, &to);
        __sanitizer_finish_switch_fiber(kept, nullptr, nullptr);
#else
        (void)stack, (void)size, (void)last;
        swapcontext(&from, &to);
#endif
    }

    void yield(bool last = false) { switch_to(mine().context, main_, main_stack_, main_stack_bytes_, last); }

    void wait(Group& group, const char* what, bool orders_memory = false) {
        if (group.arrived > 0 && std::strcmp(group.what, what) != 0)
            fail(std::string("some threads are at ") + group.what + ", others at " + what);
        group.what = what;
        if (++group.arrived < group.size) {
            group.waiting.push_back(current_);
        } else {
            group.arrived = 0;
            ++group.turn;
            group.epoch += orders_memory;
            ready_.insert(ready_.end(), group.waiting.begin(), group.waiting.end());
            group.waiting.clear();
            ready_.push_back(current_);
        }
        yield();
    }

    uint32_t index(uint32_t address) const { return (address - kSharedBegin) / 2; }
    char* at(uint32_t address) { return memory_.data() + (address - kSharedBegin); }

    uint32_t check(uint32_t address, int size, int alignment) const {
        if (address % alignment != 0) fail("an address of shared memory that is not a multiple of the access's size");
        if (address < kSharedBegin || address + size > kSharedBegin + memory_.size())
            fail("an address beyond shared memory");
        return index(address);
    }

    void move(const Copy& copy) {
        std::memset(at(copy.target), 0, copy.size);
        if (copy.bytes > 0) std::memcpy(at(copy.target), copy.source, copy.bytes);
    }

    Access now() { return {current_, block_.epoch, warp().epoch}; }

    // Whether what was done then is seen by this thread.
    bool ordered(const Access& then) {
        if (then.thread == kNobody || then.thread == current_ || then.block_epoch != block_.epoch) return true;
        if (then.thread == kSeveral) return false;
        const int warp_then = then.thread >= 0 ? then.thread / kWarpThreads : kNobody - 1 - then.thread;
        return warp_then == current_ / kWarpThreads && then.warp_epoch != warp().epoch;
    }

    void note_read(uint32_t half) {
        Halfword& word = halfwords_[half];
        if (word.in_flight) fail("reading what is still being copied");
        if (!ordered(word.write)) fail("reading what another thread has written, without a barrier between");
        const Access before = word.read;
        word.read = now();
        if (ordered(before)) return;
        const int warp_before = before.thread >= 0 ? before.thread / kWarpThreads : kNobody - 1 - before.thread;
        word.read.thread = warp_before == current_ / kWarpThreads ? kNobody - 1 - warp_before : kSeveral;
    }

    void note_write(uint32_t half) {
        Halfword& word = halfwords_[half];
        if (word.in_flight) fail("writing where a copy is under way");
        if (!ordered(word.write)) fail("writing over what another thread has written, without a barrier between");
        if (!ordered(word.read)) fail("writing over what another thread has read, without a barrier between");
        word.write = now();
    }

    // Byte `byte` of a row of weights, as wgmma finds it by its descriptor.
    static uint32_t weight_address(uint64_t descriptor, int row, int byte) {
        if (descriptor >> 62 != 1 || (descriptor >> 49 & 7) != 0) fail("a descriptor of another layout");
        const uint32_t begin = (descriptor & 0x3fff) << 4, eight_rows = (descriptor >> 32 & 0x3fff) << 4;
        const uint32_t address = begin + row / 8 * eight_rows + row % 8 * 128 + byte;
        return address ^ (address >> 7 & 7) << 4;
    }

    void multiply_all() {
        Group& group = warpgroup();
        wait(group, "a product of the warpgroup");
        const int lane = current_ % kWarpThreads, first_lane = current_ - lane;
        const size_t count = mine().products.size();
        for (int other = 0; other < kWarpThreads; ++other)
            if (threads_[first_lane + other]->products.size() != count)
                fail("lanes with different numbers of products");
        for (size_t p = 0; p < count; ++p) {
            const WarpgroupProduct& product = mine().products[p];
            const int width = product.precision == Precision::tf32 ? 4 : 2;
            for (int i = 0; i < product.rows / 2; ++i) {
                const int slice = lane / 4 + i / 2 % 2 * 8, row = i / 4 * 8 + lane % 4 * 2 + i % 2;
                float sum = 0;
                for (int k = 0; k < 32 / width; ++k) {
                    const int holder = first_lane + slice % 8 * 4 + k * width / 4 % 4;
                    const uint32_t word = threads_[holder]->products[p].a[slice / 8 + k * width / 16 * 2];
                    uint32_t weight = 0;
                    load(weight_address(product.weights, row, k * width), &weight, width);
                    sum += operand(product.precision, word, k % 2) * operand(product.precision, weight, 0);
                }
                product.sum[i] += sum;
            }
        }
        wait(group, "the end of a warpgroup's product");
        mine().products.clear();
    }

    std::vector<std::unique_ptr<Thread>> threads_;
    std::vector<int> ready_;
    std::vector<Group> warps_, warpgroups_;
    Group block_;
    std::vector<char> memory_;
    std::vector<Halfword> halfwords_;
    Order order_{};
    const std::function<void()>* body_ = nullptr;
    int current_ = 0;
    ucontext_t main_;
    const void* main_stack_ = nullptr;
    size_t main_stack_bytes_ = 0;
    std::string problem_;
};

void Machine::entry() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &main_stack_, &main_stack_bytes_);
#endif
    try {
        (*body_)();
        if (!mine().open.empty()) fail("a copy that was not committed");
        for (const auto& group : mine().committed)
            if (!group.empty()) fail("a copy that nobody waited for");
        if (!mine().products.empty()) fail("a warpgroup's product that nobody waited for");
    } catch (const std::exception& error) {
        if (problem_.empty()) problem_ = error.what();
    }
    mine().done = true;
    yield(true);
}

const char* Machine::run(int threads, int shared_bytes, Order order, const std::function<void()>& body) {
    order_ = order;
    body_ = &body;
    problem_.clear();
    memory_.assign(shared_bytes, static_cast<char>(0xff));  // NaN
    halfwords_.assign(shared_bytes / 2, {});
    block_ = {};
    block_.size = threads;
    warps_.assign(threads / kWarpThreads, {});
    for (Group& group : warps_) group.size = kWarpThreads;
    warpgroups_.assign((threads + kWarpgroupThreads - 1) / kWarpgroupThreads, {});
    for (Group& group : warpgroups_) group.size = kWarpgroupThreads;
    ready_.clear();
    while (static_cast<int>(threads_.size()) < threads) threads_.push_back(std::make_unique<Thread>());
    for (int t = 0; t < threads; ++t) {
        Thread& thread = *threads_[t];
        thread.done = thread.fenced = thread.products_open = false;
        thread.open.clear();
        thread.committed.clear();
        thread.unfenced.clear();
        thread.products.clear();
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack.get();
        thread.context.uc_stack.ss_size = kStackBytes;
        thread.context.uc_link = nullptr;
        const uint64_t address = reinterpret_cast<uint64_t>(this);
        makecontext(&thread.context, reinterpret_cast<void (*)()>(&Machine::enter), 2,
                    static_cast<uint32_t>(address >> 32), static_cast<uint32_t>(address));
        ready_.push_back(t);
    }
    std::minstd_rand random(order.seed);
    while (problem_.empty() && !ready_.empty()) {
        const size_t next = random() % ready_.size();
        current_ = ready_[next];
        ready_[next] = ready_.back();
        ready_.pop_back();
        Thread& thread = *threads_[current_];
        switch_to(main_, thread.context, thread.stack.get(), kStackBytes);
    }
    if (problem_.empty() && !std::all_of(threads_.begin(), threads_.begin() + threads, [](auto& t) { return t->done; }))
        problem_ = "emulation: some threads wait for others that have gone";
    return problem_.empty() ? nullptr : problem_.c_str();
}

Machine& machine() {
    static thread_local Machine one;
    return one;
}

}  // namespace

namespace emulation {

const char* run_block(int threads, int shared_bytes, Order order, const std::function<void()>& body) {
    return machine().run(threads, shared_bytes, order, body);
}

void copy(uint32_t target, const void* source, int size, int bytes) { machine().copy({target, source, size, bytes}); }
void wait_for_copies(int pending) { machine().wait_for_copies(static_cast<size_t>(pending)); }
void load(uint32_t address, void* value, int size) { machine().load(address, value, size); }
void store(uint32_t address, const void* value, int size) { machine().store(address, value, size); }

void load_matrices(uint32_t address, bool transposed, uint32_t (&value)[4]) {
    const auto* handed = machine().hand_over(transposed ? "ldmatrix.trans" : "ldmatrix", &address, 1);
    const int lane = machine().self() % kWarpThreads;
    for (int matrix = 0; matrix < 4; ++matrix) {
        const auto element = [&](int row, int column) {
            uint16_t bits;
            const uint32_t begin = handed[matrix * 8 + row][0];
            if (begin % 16 != 0) fail("a row of a matrix at an address that is not a multiple of 16");
            machine().load(begin + column * 2, &bits, sizeof bits);
            return uint32_t{bits};
        };
        const int row = lane / 4, column = lane % 4 * 2;
        value[matrix] = transposed ? element(column, row) | element(column + 1, row) << 16
                                   : element(row, column) | element(row, column + 1) << 16;
    }
}

void multiply_warp(Precision precision, float* sum, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    const uint32_t mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
    const auto* handed = machine().hand_over("mma", mine, 6);
    const int lane = machine().self() % kWarpThreads, width = precision == Precision::tf32 ? 4 : 2;
    for (int i = 0; i < 4; ++i) {
        const int slice = lane / 4 + i / 2 * 8, row = lane % 4 * 2 + i % 2;
        float total = 0;
        for (int k = 0; k < 32 / width; ++k) {
            const int within = k * width / 4 % 4, part = k * width / 16;
            total += Machine::operand(precision, handed[slice % 8 * 4 + within][slice / 8 + part * 2], k % 2) *
                     Machine::operand(precision, handed[row * 4 + within][4 + part], k % 2);
        }
        sum[i] += total;
    }
}

void multiply_warpgroup(Precision precision, int rows, float* sum, const uint32_t* a, uint64_t weights) {
    machine().multiply_warpgroup({precision, rows, sum, a, weights});
}

void wait_for_warpgroup() { machine().wait_for_warpgroup(); }

}  // namespace emulation

int thread_in_block() { return machine().self(); }
void sync_threads() { machine().sync_block(); }
void sync_warp() { machine().sync_warp(); }
uint32_t shared_memory() { return kSharedBegin; }
void commit_copies() { machine().commit_copies(); }
void fence_for_warpgroups() { machine().fence_for_warpgroups(); }
void begin_warpgroup() { machine().mine().fenced = true; }
void commit_warpgroup() { machine().commit_warpgroup(); }

uint32_t round_to_tf32(float value) {
    const uint32_t bits = bits_of_float(value);
    return value != value ? bits | 0x400000 : (bits + 0x1000) & 0xffffe000;
}

uint32_t pair_of_bfloat16(float low, float high) {
    return narrow<Bfloat16>(low).bits | static_cast<uint32_t>(narrow<Bfloat16>(high).bits) << 16;
}

}  // namespace fwdkern::cuda
