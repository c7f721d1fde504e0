"""`fwdkern bench`: measure fwdkern and its rivals on this machine."""

import importlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from fwdkern.errors import InputError

_ROOT = Path(__file__).resolve().parents[2]


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Workloads; without any, all of them and the curves."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One round without memory and curves; prints, writes nothing.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Where results go; benchmarks/results by default."),
    ] = None,
) -> None:
    """Measure speed and memory beside other ways to the same maps; every result is checked first.

    Needs the repository, installed with: pip install --editable ".[bench]". The same as: python -m benchmarks

    Examples:

        fwdkern bench --quick digits-units

        fwdkern bench
    """
    if not (_ROOT / "benchmarks" / "suite.py").is_file():
        raise InputError(
            "The benchmarks are not part of the installed package; clone the repository and install it from there with "
            'pip install --editable ".[bench]".'
        )
    if str(_ROOT) not in sys.path:
        sys.path.insert(0, str(_ROOT))
    try:
        suite = importlib.import_module("benchmarks.suite")
    except ModuleNotFoundError as missing:
        raise InputError(
            f'The benchmarks need {missing.name}, which is not installed; pip install --editable ".[bench]" brings it.'
        ) from missing
    try:
        suite.run(names or [], quick, out or suite.RESULTS)
    except KeyError as unknown:
        raise InputError(str(unknown.args[0])) from unknown
