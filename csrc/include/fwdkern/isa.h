#pragma once

namespace fwdkern {

// Ordered: a machine that runs one runs all before it.
enum class Isa : int { scalar = 0, avx2 = 1, avx512 = 2 };

// The best instruction set that this machine runs and this library was built with.
Isa available_isa();

const char* compiler_name();

}  // namespace fwdkern
