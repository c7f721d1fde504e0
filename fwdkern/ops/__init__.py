"""Native ops: argument checks, backend choice, registration, and a plain torch reference beside each."""

from fwdkern.ops.active_rows import active_rows, active_rows_reference
from fwdkern.ops.native import native_info

__all__ = ["active_rows", "active_rows_reference", "native_info"]
