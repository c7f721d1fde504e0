// Every index function of the CUDA gathered GEMM, over all threads of all tiles: what is copied where, what lanes hold
// by the PTX manual, in which banks it lies; the choice of tiles, and the checks of the C interface.
#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "cuda/gathered_gemm_call.h"
#include "check.h"

namespace {

using namespace fwdkern::cuda;

constexpr int kBanks = 32;

template <class Use>
void for_all_tiles(Use use) {
    for (Precision precision : {Precision::ieee, Precision::tf32, Precision::bf16})
        for (Type type : {Type::float32, Type::bfloat16, Type::float16})
            with_gemm(precision, type, [&](auto gemm) {
                using G = decltype(gemm);
                for (TileShape shape : kAllShapes)
                    if (has_shape<G>(shape))
                        with_tile<G::kPrecision, typename G::In>(shape, [&](auto tile) { return use(tile), 0; });
                return 0;
            });
}

// The most different words that lie in one bank, of those that a warp touches at once.
int conflicts(const std::vector<uint32_t>& places) {
    std::map<uint32_t, std::set<uint32_t>> words;
    for (uint32_t place : places) words[place / 4 % kBanks].insert(place / 4);
    size_t most = 0;
    for (const auto& [bank, inside] : words) most = std::max(most, inside.size());
    return static_cast<int>(most);
}

template <class T>
void check_copies() {
    constexpr int kSize = sizeof(typename T::In);
    std::set<std::pair<int, int>> maps;
    std::set<uint32_t> bytes;
    for (int thread = 0; thread < T::kThreads; ++thread)
        for (int i = 0; i < T::kMapCopies; ++i) {
            const MapCopy copy = map_copy<T>(thread, i);
            CHECK(copy.term >= 0 && copy.term < T::kDepth && copy.slice >= 0 && copy.slice + T::kPerCopy <= T::kSlices);
            CHECK(copy.slice == map_copy<T>(thread, 0).slice);
            CHECK(maps.insert({copy.term, copy.slice}).second);
            const uint32_t place = map_place<T>(copy.term, copy.slice);
            CHECK(place % 16 == 0 && place >= static_cast<uint32_t>(T::kWeightsBytes));
            CHECK(place + 16 <= static_cast<uint32_t>(T::kStageBytes));
            for (uint32_t byte = 0; byte < 16; byte += kSize) {
                CHECK(bytes.insert(place + byte).second);
                CHECK(map_place<T>(copy.term, copy.slice + static_cast<int>(byte) / kSize) == place + byte);
            }
        }
    CHECK(maps.size() * T::kPerCopy == static_cast<size_t>(T::kDepth * T::kSlices));

    std::set<std::pair<int, int>> words;
    for (int warp = 0; warp < T::kWarps; ++warp)
        for (int column = 0; column < T::kColumns; ++column)
            for (int i = 0; i < T::kWeightCopies; ++i) {
                std::vector<uint32_t> places;
                for (int lane = 0; lane < kWarp; ++lane) {
                    const int thread = warp * kWarp + lane;
                    const WeightCopy copy = weight_copy<T>(thread, column, i);
                    CHECK(copy.row == weight_copy<T>(thread, column, 0).row);
                    CHECK(copy.row >= 0 && copy.row < T::kRows && copy.word >= 0 && copy.word < kWords);
                    CHECK(words.insert({copy.row, copy.word}).second);
                    const uint32_t place = weight_place<T>(copy.row, copy.word);
                    CHECK(place + 4 <= static_cast<uint32_t>(T::kWeightsBytes) && bytes.insert(place).second);
                    places.push_back(place);
                }
                CHECK(conflicts(places) == 1);
            }
    CHECK(words.size() == static_cast<size_t>(T::kRows * kWords));
}

// Operands and lists: asked for, arrived and used before their place is asked for again.
template <class T>
void check_pipeline() {
    CHECK(T::kSharedBytes <= 227 * 1024);
    CHECK(!T::kTensorCores || T::kStageBytes % kSwizzleAlignment == 0);
    std::map<uint32_t, int> stage, list;  // what lies in each place
    for (int step = 0; step < T::kLists; ++step) CHECK(list.emplace(list_of<T>(step), step).second);
    for (int step = 0; step < T::kStages - 1; ++step) {
        CHECK(list.at(list_of<T>(step)) == step);
        CHECK(stage.emplace(stage_of<T>(step), step).second);
    }
    for (int step = 0; step < 100; ++step) {
        CHECK(stage.at(stage_of<T>(step)) == step);
        const int asked = operands_asked_in<T>(step), asked_list = list_asked_in<T>(step);
        CHECK(list.at(list_of<T>(asked)) == asked);
        const auto free_since = stage.find(stage_of<T>(asked));
        CHECK(free_since == stage.end() || free_since->second < step);
        stage[stage_of<T>(asked)] = asked;
        // Read last in the turn before.
        CHECK(list.at(list_of<T>(asked_list)) < asked);
        list[list_of<T>(asked_list)] = asked_list;
    }
    for (const auto& [place, step] : stage)
        CHECK(place + T::kStageBytes <= static_cast<uint32_t>(T::kStages * T::kStageBytes));
    for (const auto& [place, step] : list) {
        CHECK(place >= static_cast<uint32_t>(T::kStages * T::kStageBytes) && place % sizeof(Term) == 0);
        CHECK(place + T::kListBytes + kSwizzleAlignment <= static_cast<uint32_t>(T::kSharedBytes));
    }
}

// mma.m16n8k8 (tf32) and .m16n8k16 (bfloat16) of the PTX manual: "groupID = %laneid >> 2", and so on; wgmma's operand
// in registers is four of them below each other. Element e of a lane's registers for A, as the manual counts them.
std::pair<int, int> manual_a(Precision precision, int lane, int e) {
    const int group = lane >> 2, within = lane % 4;
    if (precision == Precision::tf32)
        return {e == 0 || e == 2 ? group : group + 8, e == 0 || e == 1 ? within : within + 4};
    const bool upper = e == 0 || e == 1 || e == 4 || e == 5;
    return {upper ? group : group + 8, within * 2 + (e & 1) + (e < 4 ? 0 : 8)};
}

std::pair<int, int> manual_b(Precision precision, int lane, int e) {  // {k, n}
    const int group = lane >> 2, within = lane % 4;
    if (precision == Precision::tf32) return {e == 0 ? within : within + 4, group};
    return {within * 2 + (e & 1) + (e < 2 ? 0 : 8), group};
}

std::pair<int, int> manual_c(int lane, int e) { return {e < 2 ? lane >> 2 : (lane >> 2) + 8, lane % 4 * 2 + (e & 1)}; }

template <class T>
void check_fragments() {
    constexpr int kPerRegister = T::kTermsInWord, kDepth = kFragmentBytes / 4 * kPerRegister;
    for (int fragment = 0; fragment < kFragments; ++fragment) {
        std::set<std::pair<int, int>> held;
        for (int reg = 0; reg < 4; ++reg) {
            std::vector<uint32_t> places;
            for (int lane = 0; lane < kWarp; ++lane) {
                const FragmentElement at = map_fragment<T>(lane, fragment, reg);
                for (int half = 0; half < kPerRegister; ++half) {
                    const auto expected = manual_a(T::kPrecision, lane, reg * kPerRegister + half);
                    CHECK(at.slice == expected.first && at.term + half == fragment * kDepth + expected.second);
                    CHECK(held.insert({at.slice, at.term + half}).second);
                }
                places.push_back(map_place<T>(at.term, at.slice));
            }
            CHECK(conflicts(places) == 1);
        }
        CHECK(held.size() == static_cast<size_t>(kFragmentSlices * kDepth));

        // ldmatrix: lane 8 m + r gives the address of row r of matrix m; with .trans lane l receives of it elements
        // (2 (l % 4), l / 4) and (2 (l % 4) + 1, l / 4), otherwise (l / 4, 2 (l % 4)) and its neighbour.
        for (int matrix = 0; matrix < 4; ++matrix) {
            std::vector<uint32_t> maps, weights;
            for (int row = 0; row < 8; ++row) {
                const FragmentElement at = matrix_row_of_maps(matrix * 8 + row, fragment);
                const WeightUnit unit = matrix_row_of_weights(matrix * 8 + row, 0, fragment);
                for (uint32_t word = 0; word < 16; word += 4) {
                    maps.push_back(map_place<T>(at.term, at.slice) + word);
                    weights.push_back(swizzled(unit.row, unit.unit) + word);
                }
                for (int column = 0; column < 4; ++column) {
                    const auto expected = manual_b(T::kPrecision, row * 4 + column, matrix % 2 * kPerRegister);
                    CHECK(unit.row == matrix / 2 * 8 + expected.second);
                    CHECK(unit.unit * 16 + column * 4 == fragment * kFragmentBytes + expected.first * 4 / kPerRegister);
                }
                if (T::kPrecision == Precision::bf16)
                    for (int slice = 0; slice < 8; ++slice) {
                        const auto expected = manual_a(Precision::bf16, slice * 4 + row / 2, matrix * 2 + row % 2);
                        CHECK(at.slice + slice == expected.first && at.term == fragment * kDepth + expected.second);
                    }
            }
            CHECK(conflicts(weights) == 1);
            if (T::kPrecision == Precision::bf16 && sizeof(typename T::In) == 2) CHECK(conflicts(maps) == 1);
        }
    }
}

// "Matrix descriptor" and "128-byte swizzling" of the PTX manual, against where weights are stored.
template <class T>
void check_descriptor() {
    for (uint32_t stage : {0u, 3u * 1024, 200u * 1024}) {
        const uint64_t descriptor = weights_descriptor(stage);
        CHECK((descriptor & 0x3fff) == stage >> 4);
        CHECK((descriptor >> 32 & 0x3fff) == 1024 >> 4);
        CHECK((descriptor >> 49 & 7) == 0);
        CHECK(descriptor >> 62 == 1);
        CHECK((descriptor & ~(0x3fffull | 0x3fffull << 16 | 0x3fffull << 32 | 3ull << 62)) == 0);
        for (int fragment = 0; fragment < kFragments; ++fragment) {
            const uint64_t own = fragment_descriptor(descriptor, fragment);
            CHECK((own & ~0x3fffull) == (descriptor & ~0x3fffull));
            for (int row = 0; row < T::kRows; ++row)
                for (int word = 0; word < kFragmentBytes / 4; ++word) {
                    uint32_t address = static_cast<uint32_t>((own & 0x3fff) << 4);
                    address += row / 8 * 1024 + row % 8 * 128 + word * 4;
                    address ^= (address >> 7 & 7) << 4;
                    CHECK(address == stage + weight_place<T>(row, fragment * kFragmentBytes / 4 + word));
                }
        }
    }
}

template <class T>
void check_results() {
    std::set<std::pair<int, int>> sums, written;
    for (int lane = 0; lane < kWarp; ++lane) {
        for (int i = 0; i < 4; ++i) {
            const SumElement at = sum_of(lane, i);
            CHECK(std::make_pair(at.slice, at.row) == manual_c(lane, i));
            CHECK(sums.insert({at.slice, at.row}).second);
        }
        for (int i = 0; i < 4; ++i) CHECK(written.insert({written_by(lane).slice + i, written_by(lane).row}).second);
    }
    CHECK(sums == written && sums.size() == 16 * 8);

    std::set<uint32_t> places;
    for (int row = 0; row < T::kRows; ++row)
        for (int slice = 0; slice < kFragmentSlices; ++slice) {
            const uint32_t place = turned_place(row, slice);
            CHECK(place < turned_place(T::kRows, 0) && places.insert(place).second);
            CHECK(place == turned_place(row, slice / 4 * 4) + slice % 4 * 4);
        }
    for (int group = 0; group < T::kRows; group += 8) {
        for (int i = 0; i < 4; ++i) {
            std::vector<uint32_t> stored;
            for (int lane = 0; lane < kWarp; ++lane)
                stored.push_back(turned_place(group + sum_of(lane, i).row, sum_of(lane, i).slice));
            CHECK(conflicts(stored) == 2);
        }
        for (int first = 0; first < kWarp; first += 8) {  // 16 bytes of eight lanes move at once
            std::vector<uint32_t> loaded;
            for (int lane = first; lane < first + 8; ++lane)
                for (uint32_t word = 0; word < 16; word += 4)
                    loaded.push_back(turned_place(group + written_by(lane).row, written_by(lane).slice) + word);
            CHECK(conflicts(loaded) == 1);
        }
    }
}

template <class T>
void check_plain() {
    std::set<std::pair<int, int>> sums;
    for (int thread = 0; thread < T::kThreads; ++thread) {
        const SumElement own = plain_sums_of<T>(thread);
        for (int half = 0; half < 2; ++half)
            for (int row = 0; row < 4; ++row)
                for (int i = 0; i < 4; ++i)
                    CHECK(sums.insert({own.slice + half * T::kSlices / 2 + i, own.row + row}).second);
        CHECK(weight_place<T>(own.row, 5) % 16 == 0 && map_place<T>(5, own.slice) % (4 * sizeof(typename T::In)) == 0);
        CHECK(weight_place<T>(own.row + 3, 5) == weight_place<T>(own.row, 5) + 12);
    }
    CHECK(sums.size() == static_cast<size_t>(T::kSlices * T::kRows) && sums.rbegin()->first == T::kSlices - 1);
}

void check_segments() {
    std::mt19937 random(0);
    for (int round = 0; round < 200; ++round) {
        const int64_t groups = 1 + round % 4, width = 1 + random() % 40, positions = 1 + random() % 4;
        std::vector<int64_t> offset{0};
        std::vector<int32_t> channel;
        for (int64_t p = 0; p < positions; ++p) {
            for (int64_t c = 0; c < groups * width; ++c)
                if (random() % 3) channel.push_back(static_cast<int32_t>(c));
            offset.push_back(static_cast<int64_t>(channel.size()));
        }
        const RowList list = {offset.data(), channel.data(), positions};
        using T = Tile<Precision::tf32, float, 64, 32>;
        GemmArguments call = {};
        call.out_rows = list;
        call.groups = groups;
        call.width = width;
        call.row_blocks = static_cast<int>(blocks_of(width, T::kRows));
        std::set<int64_t> rows;
        for (int64_t x = 0; x < positions * groups * call.row_blocks; ++x) {
            const Share share = share_of<T>(call, x, 3);
            CHECK(share.slice == 3 * T::kSlices && share.rows <= T::kRows);
            for (int r = 0; r < share.rows; ++r) {
                const int64_t row = share.first + r;
                CHECK(rows.insert(row).second);
                CHECK(row >= offset[share.segment / groups] && row < offset[share.segment / groups + 1]);
                CHECK(channel[row] / width == share.group);
            }
        }
        CHECK(rows.size() == channel.size());
    }
    int64_t place[ListTerms::kTaps + 1];
    for (int round = 0; round < 100; ++round) {
        place[0] = 0;
        for (int t = 0; t < ListTerms::kTaps; ++t) place[t + 1] = place[t] + random() % 3;
        for (int t = 0; t < ListTerms::kTaps; ++t)
            for (int64_t i = place[t]; i < place[t + 1]; ++i) CHECK(ListTerms::tap_of(place, i) == t);
    }
}

void check_tile_choice() {
    const auto chosen = [](int64_t segments, int64_t mean, int64_t slices, int64_t width = 256,
                           int64_t shared = 227 * 1024) {
        const TileShape shape = tile_shape<Precision::tf32, float>({segments, segments * mean, slices, width, shared});
        return std::make_pair(shape.rows, shape.slices);
    };
    for (auto [mean, rows] : {std::pair{0, 32}, {5, 32}, {32, 32}, {33, 64}, {64, 64}, {65, 128}, {256, 128}})
        CHECK(chosen(3136, mean, 256).first == rows);
    for (auto [slices, wide] : {std::pair{1, 64}, {64, 64}, {65, 128}, {128, 128}, {129, 256}, {2000, 256}})
        CHECK(chosen(3136, 40, slices).second == wide);
    CHECK(chosen(3136, 200, 256, 12).first == 32);               // no more rows than channels
    CHECK(chosen(1, 300, 256, 1000) == std::make_pair(32, 64));  // one position alone: the smallest blocks
    CHECK(chosen(65, 77, 256) == std::make_pair(64, 128) && chosen(66, 77, 256) == std::make_pair(128, 128));
    CHECK(chosen(132, 77, 256) == std::make_pair(128, 256));
    CHECK(chosen(3136, 77, 256, 256, 99 * 1024) == std::make_pair(64, 128));
    for_all_tiles([](auto tile) {
        using T = decltype(tile);
        if (T::kSlices == 64 && T::kRows == 32) CHECK(T::kSharedBytes <= 99 * 1024);
    });
}

void check_errors() {
    float maps[8] = {}, out[8] = {}, weight[4] = {};
    int64_t offset[2] = {0, 2};
    int32_t channel[2] = {0, 1}, taps[1] = {0};
    alignas(16) char scratch[64];
    const GatheredGemm good = {{maps, 2, 4, Type::float32}, {offset, channel, 1}, {out, 2, 4, Type::float32},
                               {offset, channel, 1}, taps, 1, weight, 2, 2, 1, nullptr, false, 4, nullptr,
                               Precision::ieee, scratch, sizeof scratch};
    CHECK(gathered_gemm_error(good) == nullptr);
    const auto rejected = [&](auto change) {
        GatheredGemm call = good;
        change(call);
        return gathered_gemm_error(call) != nullptr && gathered_gemm_emulated(call) != nullptr;
    };
    CHECK(rejected([](auto& c) { c.in.type = static_cast<Type>(3); }));
    CHECK(rejected([](auto& c) { c.in.data = nullptr; }));
    CHECK(rejected([](auto& c) { c.in.rows = -1; }));
    CHECK(rejected([](auto& c) { c.slices = -1; }));
    CHECK(rejected([](auto& c) { c.out.data = nullptr; }));
    CHECK(rejected([](auto& c) { c.out.data = reinterpret_cast<char*>(c.out.data) + 2; }));
    CHECK(rejected([](auto& c) { c.out.stride = 3; }));
    CHECK(rejected([](auto& c) { c.in_rows.offset = nullptr; }));
    CHECK(rejected([](auto& c) { c.in_rows.positions = -1; }));
    CHECK(rejected([](auto& c) { c.out_rows.offset = nullptr; }));
    CHECK(rejected([](auto& c) { c.out_rows.channel = nullptr; }));
    CHECK(rejected([](auto& c) { c.precision = static_cast<Precision>(3); }));
    CHECK(rejected([](auto& c) { c.tap_count = -1; }));
    CHECK(rejected([](auto& c) { c.in_channels = -2; }));
    CHECK(rejected([](auto& c) { c.out_channels = -2; }));
    CHECK(rejected([](auto& c) { c.groups = 0; }));
    CHECK(rejected([](auto& c) { c.groups = 3; }));
    CHECK(rejected([](auto& c) { c.in_channels = int64_t{1} << 32; }));
    CHECK(rejected([](auto& c) { c.taps = nullptr; }));
    CHECK(rejected([](auto& c) { c.weight = nullptr; }));
    CHECK(rejected([](auto& c) { c.weight = reinterpret_cast<const char*>(c.weight) + 2; }));
    CHECK(rejected([](auto& c) { c.scratch = static_cast<char*>(c.scratch) + 4; }));
    CHECK(rejected([](auto& c) { c.scratch_bytes = 35; }));
    GatheredGemm least = good;
    least.scratch_bytes = 36;
    CHECK(gathered_gemm_error(least) == nullptr && gathered_gemm_scratch(1, 1, 2, 1) == 36);
    CHECK(gathered_gemm_scratch(7, 1, 2, 1) == 7 * 36 && gathered_gemm_scratch(0, 1, 2, 1) == 0);
    CHECK(gathered_gemm_scratch(int64_t{1} << 40, 1, 2, 1) <= kScratchBytes);
    CHECK(gathered_gemm_scratch(5, 49, 1 << 20, 1) == (int64_t{49} << 24) + 4);
    GatheredGemm nothing = good;
    nothing.slices = 0;
    nothing.scratch = nullptr;
    nothing.scratch_bytes = 0;
    CHECK(gathered_gemm_error(nothing) == nullptr && gathered_gemm_emulated(nothing) == nullptr);
}

}  // namespace

int main() {
    for_all_tiles([](auto tile) {
        using T = decltype(tile);
        check_copies<T>();
        check_pipeline<T>();
        if constexpr (T::kTensorCores) {
            check_fragments<T>();
            check_descriptor<T>();
            check_results<T>();
        } else {
            check_plain<T>();
        }
    });
    check_segments();
    check_tile_choice();
    check_errors();
}
