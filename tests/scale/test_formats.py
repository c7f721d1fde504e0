from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr

from fwdkern.errors import InputError
from fwdkern.scale.formats import check_format, read_tables, write_tables

ABOUT = {"model": {"name": "digits"}, "fwdkern": "0"}


def tables() -> dict[str, dict[str, np.ndarray]]:
    generator = np.random.default_rng(0)
    return {
        "8x9": {
            "key": np.array(["a", "bc/ü.png", "d"]),
            "target": np.arange(6).reshape(3, 2),
            "delta": generator.random(3, np.float32),
            "map": generator.standard_normal((3, 2, 8, 9)).astype(np.float16),
        },
        "best/relu.1": {"key": np.array([["a", "d"], ["d", "a"]]), "map": np.ones((2, 2, 8, 9), np.float32)},
    }


@pytest.mark.parametrize("form", ["zarr", "parquet"])
def test_what_is_written_is_read_and_has_the_same_bytes_again(tmp_path: Path, form: str) -> None:
    written = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        write_tables(folder, tables(), form, ABOUT)
        written.append({p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    assert written[0] == written[1]
    found = read_tables(tmp_path / "one")
    assert found.keys() == tables().keys()
    for name, table in tables().items():
        assert found[name].keys() == table.keys()
        for column, values in table.items():
            read = found[name][column][...]
            assert read.shape == values.shape
            assert (read == values).all()
            assert column == "key" or read.dtype == values.dtype


def test_zarr_alone_reads_one_row(tmp_path: Path) -> None:
    write_tables(tmp_path, tables(), "zarr", ABOUT)
    group = zarr.open_group(str(tmp_path / "tables.zarr"), mode="r")
    assert group.attrs["model"] == {"name": "digits"}
    maps = group["8x9/map"]
    assert isinstance(maps, zarr.Array)
    assert maps.chunks == (1, 2, 8, 9) and maps.shards == (3, 2, 8, 9)
    assert (maps[1] == tables()["8x9"]["map"][1]).all()


def test_pyarrow_alone_reads_tensors(tmp_path: Path) -> None:
    write_tables(tmp_path, tables(), "parquet", ABOUT)
    table = pq.read_table(tmp_path / "8x9.parquet")
    assert table["key"].to_pylist() == ["a", "bc/ü.png", "d"]
    assert (table["map"].combine_chunks().to_numpy_ndarray() == tables()["8x9"]["map"]).all()
    assert b'"digits"' in table.schema.metadata[b"fwdkern"]


def test_unknown_format() -> None:
    with pytest.raises(InputError, match="'zarr', 'parquet'"):
        check_format("hdf5")
