"""Native ops: argument checks, backend choice, registration, and a plain torch reference beside each."""

from fwdkern.ops.active_rows import active_rows, active_rows_on_device, active_rows_reference
from fwdkern.ops.contract import contract, contract_reference
from fwdkern.ops.gathered_gemm import gathered_gemm, gathered_gemm_reference
from fwdkern.ops.native import native_info
from fwdkern.ops.recurrent_freeze import recurrent_freeze, recurrent_freeze_reference
from fwdkern.ops.recurrent_scan import recurrent_scan, recurrent_scan_reference
from fwdkern.ops.row_combine import row_combine, row_combine_reference
from fwdkern.ops.seed import seed, seed_reference

__all__ = [
    "active_rows",
    "active_rows_on_device",
    "active_rows_reference",
    "contract",
    "contract_reference",
    "gathered_gemm",
    "gathered_gemm_reference",
    "native_info",
    "recurrent_freeze",
    "recurrent_freeze_reference",
    "recurrent_scan",
    "recurrent_scan_reference",
    "row_combine",
    "row_combine_reference",
    "seed",
    "seed_reference",
]
