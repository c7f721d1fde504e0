"""The launches that are compiled ahead of time: every tile of the tables, and every kind of argument on one tile."""

from collections.abc import Iterator
from typing import NamedTuple

from fwdkern.kernels import tiles
from fwdkern.kernels.tiles import Capability, GemmTile
from fwdkern.ops.gathered_gemm import PRECISIONS

TARGETS: dict[str, Capability] = {"sm_80": (8, 0), "sm_90a": (9, 0)}
STORAGES = ("float32", "bfloat16", "float16")


class Case(NamedTuple):
    """One call of a launcher: `tile` forces one of the gathered GEMM's tiles, `slices` that are no multiple of 16 take
    the 16-byte hints away, and `full` adds every optional argument."""

    target: str
    op: str
    storage: str = "float32"
    slices: int = 256
    full: bool = False
    groups: int = 1
    precision: str = "ieee"
    tile: GemmTile | None = None

    @property
    def name(self) -> str:
        parts = [self.target, self.op, self.storage, str(self.slices), "full" if self.full else "least"]
        if self.tile:
            parts += [self.precision, f"groups{self.groups}", "x".join(map(str, self.tile))]
        return "-".join(parts)


def cases() -> Iterator[Case]:
    for target, capability in TARGETS.items():
        for storage in STORAGES:
            for slices in (256, 250):
                for op in ("row_combine", "seed", "contract"):
                    yield Case(target, op, storage, slices, full=slices == 256)
        for slices in (1, 65, 129):
            yield Case(target, "row_combine", slices=slices)
        yield Case(target, "active_rows")
        for slices in (256, 250):
            for full in (False, True):
                yield Case(target, "recurrent_scan", slices=slices, full=full)
        for precision in PRECISIONS:
            for slices in (256, 250):
                table = tiles.gemm_tiles(precision, capability, aligned=slices == 256)
                for tile in table:
                    yield Case(target, "gathered_gemm", "float32", slices, True, 1, precision, tile)
                for storage in STORAGES:
                    for full in (False, True):
                        yield Case(target, "gathered_gemm", storage, slices, full, 2, precision, table[-1])
