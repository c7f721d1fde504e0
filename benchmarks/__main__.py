"""`python -m benchmarks [NAME ...]`: measure, print, and keep the results."""

import argparse
import sys
from pathlib import Path

from benchmarks import suite
from benchmarks.registry import WORKLOADS

parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure fwdkern and its rivals.")
parser.add_argument(
    "names", nargs="*", metavar="NAME", help=f"workloads, all by default: {', '.join(w.name for w in WORKLOADS)}"
)
parser.add_argument("--quick", action="store_true", help="one round, no memory, no curves: to see that everything runs")
parser.add_argument("--gpu", action="store_true", help="the workloads of GPUs instead, as `make gpu` does")
parser.add_argument("--seconds", type=float, default=480, help="with --gpu: after this time no workload is begun")
parser.add_argument("--out", type=Path, default=suite.RESULTS, help="folder for JSON, tables and pictures")
arguments = parser.parse_args()
try:
    if arguments.gpu:
        suite.run_gpu(arguments.out, arguments.seconds, arguments.names)
    else:
        suite.run(arguments.names, arguments.quick, arguments.out)
except RuntimeError as missing:
    sys.exit(str(missing))
except KeyError as unknown:
    sys.exit(unknown.args[0])
