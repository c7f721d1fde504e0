"""The command line: `fwdkern explain`, `units`, `layers`, `info` and `demo`."""

from fwdkern.cli.app import app, main

__all__ = ["app", "main"]
