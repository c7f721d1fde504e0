import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fwdkern.errors import InputError
from fwdkern.scale import inputs
from fwdkern.scale.inputs import Columns, Item, list_inputs, read_items
from tests.scale.pictures import png, write_pictures


def tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def parquet(path: Path, rows: list[dict], group: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
    return path


def contents(items: list, columns: Columns | None = None) -> dict[str, bytes | OSError]:
    return {item.key: data for item, data in read_items(items, columns or Columns())}


def test_keys_are_paths_below_the_folder_and_sorted(tmp_path: Path) -> None:
    write_pictures(tmp_path / "b", 2)
    write_pictures(tmp_path / "a" / "deep", 1)
    (tmp_path / "notes.txt").write_text("left out")
    items = list_inputs([str(tmp_path)])
    assert [item.key for item in items] == ["a/deep/0000.png", "b/0000.png", "b/0001.png"]
    assert contents(items) == {"a/deep/0000.png": png(0), "b/0000.png": png(0), "b/0001.png": png(1)}


@pytest.mark.parametrize("name", ["folder", "glob", "files", "url"])
def test_the_ways_to_name_the_same_files(tmp_path: Path, name: str) -> None:
    folder = write_pictures(tmp_path / "in", 3)
    given = {
        "folder": [str(folder)],
        "glob": [f"{folder}/*.png"],
        "files": [f"{folder}/{index:04d}.png" for index in (2, 0, 1)],
        "url": [folder.as_uri()],
    }[name]
    assert [item.key for item in list_inputs(given)] == ["0000.png", "0001.png", "0002.png"]


@pytest.mark.parametrize("name", ["photos [2020]", "a*b?", "a::b"])
def test_names_that_look_like_globs_or_urls(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_pictures(tmp_path / name, 1)
    picture = folder / f"{name}.png"
    (folder / "0000.png").rename(picture)
    tar(folder / f"{name}.tar", {"1.png": png(1)})
    parquet(folder / f"{name}.parquet", [{"image": png(2)}])
    expected = {f"{name}.parquet/00000000": png(2), f"{name}.png": png(0), f"{name}.tar/1.png": png(1)}
    assert contents(list_inputs([str(folder)])) == expected
    assert contents(list_inputs([str(picture)])) == {f"{name}.png": png(0)}
    monkeypatch.chdir(tmp_path)
    assert contents(list_inputs([name])) == expected


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "in", 1)
    odd = os.fsdecode(b"\xe9")
    (folder / "0000.png").rename(folder / f"{odd}.png")
    tar(folder / f"{odd}.tar", {f"{odd}.png": png(1)})
    items = list_inputs([str(folder)])
    assert contents(items) == {"\\xe9.png": png(0), "\\xe9.tar/\\xe9.png": png(1)}
    assert "".join(item.key for item in items).isascii()


def test_a_folder_to_leave_out_is_not_opened(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 1)
    (tmp_path / "in" / "out" / "shards").mkdir(parents=True)
    (tmp_path / "in" / "out" / "shards" / "0.parquet").write_bytes(b"no pictures")
    write_pictures(tmp_path / "in" / "outer", 1)
    for without in (tmp_path / "in" / "out", tmp_path / "in" / "outer" / ".." / "out"):
        items = list_inputs([str(tmp_path / "in")], without=without)
        assert [item.key for item in items] == ["0000.png", "outer/0000.png"]


def test_other_file_systems() -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe("/scale-test/x/0.png", png(0))
    items = list_inputs(["memory://scale-test/"])
    assert contents(items) == {"x/0.png": png(0)}


def test_members_of_tar_shards_are_read_where_they_lie(tmp_path: Path) -> None:
    members = {"./7.jpg": b"seven", "7.cls": b"3", "a/8.PNG": b"eight", "9.json": b"{}"}
    tar(tmp_path / "in" / "shard-0.tar", members)
    write_pictures(tmp_path / "in", 1)
    items = list_inputs([str(tmp_path / "in")])
    expected = {"0000.png": png(0), "shard-0.tar/7.jpg": b"seven", "shard-0.tar/a/8.PNG": b"eight"}
    assert [item.key for item in items] == list(expected)
    assert contents(items) == expected
    assert contents(items[::-1]) == expected


def test_a_part_of_a_listing_reads_only_that(tmp_path: Path) -> None:
    path = tar(tmp_path / "s.tar", {f"{index}.png": bytes([index]) * (index + 1) for index in range(9)})
    items = list_inputs([str(path)])
    assert contents(items[4:6]) == {"s.tar/4.png": b"\4" * 5, "s.tar/5.png": b"\5" * 6}


def test_parquet_rows_by_number_and_by_key_column(tmp_path: Path) -> None:
    rows = [{"image": f"bytes {index}".encode(), "id": f"k{9 - index}"} for index in range(5)]
    path = str(parquet(tmp_path / "p.parquet", rows))
    by_number = list_inputs([path])
    assert [item.key for item in by_number] == [f"p.parquet/{index:08d}" for index in range(5)]
    assert contents(by_number)["p.parquet/00000003"] == b"bytes 3"
    columns = Columns(key="id")
    by_key = list_inputs([path], columns)
    assert contents(by_key, columns) == {row["id"]: row["image"] for row in rows}


def test_parquet_with_structs_of_bytes_and_with_nothing(tmp_path: Path) -> None:
    rows = [{"picture": {"bytes": b"one", "path": "x.png"}}, {"picture": None}]
    columns = Columns(image="picture")
    items = list_inputs([str(parquet(tmp_path / "p.parquet", rows))], columns)
    assert list(contents(items, columns).values()) == [b"one", b""]


def test_one_key_for_two_inputs_is_refused(tmp_path: Path) -> None:
    folders = [str(write_pictures(tmp_path / name, 1)) for name in ("a", "b")]
    with pytest.raises(InputError, match=r"'0000.png'.*a/0000.png.*b/0000.png"):
        list_inputs(folders)
    twice = tmp_path / "twice.tar"
    with tarfile.open(twice, "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("x.png"), io.BytesIO(b""))
    with pytest.raises(InputError, match=r"twice.tar/x.png"):
        list_inputs([str(twice)])
    rows = [{"image": b"", "id": "same"}, {"image": b"", "id": "same"}]
    with pytest.raises(InputError, match="'same'"):
        list_inputs([str(parquet(tmp_path / "p.parquet", rows))], Columns(key="id"))


def test_damaged_and_absent_inputs_are_named(tmp_path: Path) -> None:
    whole = tar(tmp_path / "s.tar", {"a.png": bytes(5000), "b.png": bytes(5000)}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:4000])
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    parquet(tmp_path / "p.parquet", [{"other": 1}])
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no picture")
    for given, message in (
        ([], "No input"),
        ([str(tmp_path / "absent")], "There is no file or folder"),
        ([f"{tmp_path}/*.webp"], "No file fits"),
        ([str(tmp_path / "empty")], "no picture"),
        ([str(tmp_path / "notes.txt")], "cannot be read"),
        ([str(tmp_path / "cut.tar")], "cut.tar is not a whole"),
        ([str(tmp_path / "cut.parquet")], "cut.parquet is not a whole"),
        ([str(tmp_path / "p.parquet")], "no column 'image'; it has other"),
        (["nowhere://x"], "cannot be opened"),
    ):
        with pytest.raises(InputError, match=message):
            list_inputs(given)


def test_a_file_that_is_gone_is_told_beside_the_others(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "in", 2)
    items = list_inputs([str(folder)])
    (folder / "0000.png").unlink()
    found = contents(items)
    assert isinstance(found["0000.png"], FileNotFoundError)
    assert found["0001.png"] == png(1)


def test_a_shard_that_goes_away_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = list_inputs([str(tar(tmp_path / "s.tar", {f"{index}.png": b"whole" for index in range(3)}))])

    def read(path: str, kind: str, group: list[Item], columns: Columns) -> Iterator[tuple[Item, bytes]]:
        yield group[0], b"whole"
        raise FileNotFoundError(path)

    monkeypatch.setattr(inputs, "_read_file", read)
    found = list(read_items(items))
    assert [item for item, _ in found] == items
    assert [isinstance(data, OSError) for _, data in found] == [False, True, True]
