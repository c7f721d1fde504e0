"""`fwdkern info`: what is installed and what will run."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

import fwdkern
from fwdkern.cli import console


def info() -> None:
    """Print versions, the native library, devices, and which backends can run here, with reasons."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in _flat("", fwdkern.info()):
        table.add_row(key, value)
    console.stdout.print(table)


def _flat(prefix: str, content: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows += _flat(f"{name}.", value) or [(name, "none")]
        elif isinstance(value, (list, tuple)):
            rows.append((name, ", ".join(map(str, value)) or "none"))
        else:
            rows.append((name, "none" if value is None else str(value)))
    return rows
