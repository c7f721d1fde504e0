#pragma once

#include <pybind11/pybind11.h>

// The submodule `cuda`.
void bind_cuda(pybind11::module_& module);
