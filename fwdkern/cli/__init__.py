"""The command line: `fwdkern explain`, `units`, `layers`, `info`, `demo` and `bench`."""

from fwdkern.cli.app import app, main

__all__ = ["app", "main"]
