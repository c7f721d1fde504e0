"""Triton kernels; installed as ``fwdkern.kernels``."""
