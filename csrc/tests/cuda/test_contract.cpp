#include "fwdkern/cuda/contract.h"

#include "maps.h"

namespace {

using namespace fwdkern::cuda;

void check_call(std::mt19937& random, int64_t targets, int64_t slices, int64_t gap, Type in_type, Type out_type) {
    constexpr int64_t kInRows = 9;
    HostMaps pulled(kInRows, targets, targets + gap, in_type), out(targets, slices, slices + gap, out_type);
    pulled.fill(random);
    const Terms terms(random, slices, kInRows, 5);
    CHECK(contract_emulated({pulled.view(), out.view(), terms.offset.data(), terms.index.data(),
                             terms.coefficient.data(), slices}) == nullptr);
    for (int64_t k = 0; k < targets; ++k)
        for (int64_t s = 0; s < slices; ++s) {
            double expected = 0, magnitude = 0;
            for (int64_t j = terms.offset[s]; j < terms.offset[s + 1]; ++j) {
                const double term = double{terms.coefficient[j]} * pulled.get(terms.index[j], k);
                expected += term;
                magnitude += std::fabs(term);
            }
            CHECK(std::fabs(out.get(k, s) - expected) <= 7 * 0x1p-23 * magnitude + 1.01 * out.rounding() * std::fabs(expected) + 0x1p-25);
        }
    out.check_gaps();
}

void check_errors() {
    float data[12] = {};
    const int64_t offset[4] = {};
    const Contract good = {{data, 3, 2, Type::float32}, {data + 6, 2, 3, Type::float32}, offset, nullptr, nullptr, 3};
    CHECK(contract_error(good) == nullptr);
    const auto refused = [&](auto change) {
        Contract call = good;
        change(call);
        CHECK(contract_error(call) != nullptr && contract_emulated(call) == contract_error(call));
    };
    refused([](Contract& call) { call.offset = nullptr; });
    refused([](Contract& call) { call.pulled.data = nullptr; });
    refused([](Contract& call) { call.pulled.type = Type::boolean; });
    refused([](Contract& call) { call.out.data = nullptr; });
    refused([](Contract& call) { call.out.type = Type::boolean; });
    refused([](Contract& call) { call.out.stride = 2; });
    refused([](Contract& call) { call.out.rows = -1; });
    refused([](Contract& call) { call.slices = -1; });
    CHECK(contract_emulated({{nullptr, 0, 0, Type::float32}, {nullptr, 0, 0, Type::float32}, nullptr, nullptr, nullptr,
                             0}) == nullptr);
}

}  // namespace

int main() {
    std::mt19937 random(0);
    for (int64_t targets : {1, 7, 64, 72, 130})
        for (int64_t slices : {1, 31, 32, 33, 100})
            for (int64_t gap : {0, 3, 8})
                for (Type in : {Type::float32, Type::bfloat16, Type::float16})
                    for (Type out : {Type::float32, Type::bfloat16, Type::float16})
                        check_call(random, targets, slices, gap, in, out);
    check_errors();
}
