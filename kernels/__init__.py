"""Triton kernels; installed as ``fwdkern.kernels``. A file holds the kernels of one op and the launcher of them.

Importing these modules imports triton; the ops do so when a kernel first runs. Launchers check nothing, allocate only
what they document, and never wait for the device. Integers whose divisibility helps no access are not specialised, so
that the layers of a network share their compilations.
"""
