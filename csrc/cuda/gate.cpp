#include "fwdkern/cuda/gate.h"

#include "check.h"
#include "gate_body.h"

namespace fwdkern::cuda {

const char* gate_bits_error(const GateBits& call) {
    if (call.type != Type::boolean && !is_float(call.type)) return "the type of values is unknown";
    if (call.images < 0 || call.channels < 0 || call.positions < 0) return "values have a negative size";
    if (call.images > 0 && call.channels > 0 && call.positions > 0) {
        if (call.values == nullptr || call.bits == nullptr) return "values or bits have no address";
        if (address_of(call.values) % bytes_of(call.type) != 0)
            return "values lie across the boundaries of their elements";
    }
    return nullptr;
}

const char* gate_bits_emulated(const GateBits& call) { return launch_gate_bits(call, OnHost()); }

const char* gate_maps_error(const GateMaps& call) {
    if (!is_float(call.type)) return "the type of maps is unknown";
    if (call.images < 0 || call.height < 0 || call.width < 0 || call.channels < 0) return "maps have a negative size";
    if (call.gates < 1) return "there is no gate";
    if (call.images > 0 && call.height > 0 && call.width > 0 && call.channels > 0) {
        if (call.in == nullptr || call.out == nullptr || call.bits == nullptr) return "maps or bits have no address";
        if (address_of(call.in) % bytes_of(call.type) != 0 || address_of(call.out) % bytes_of(call.type) != 0)
            return "maps lie across the boundaries of their elements";
    }
    return nullptr;
}

const char* gate_maps_emulated(const GateMaps& call) { return launch_gate_maps(call, OnHost()); }

}  // namespace fwdkern::cuda
