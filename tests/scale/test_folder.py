import errno
import fcntl
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from fwdkern.errors import InputError
from fwdkern.scale.folder import RunFolder, committing, is_full

HOLD = """
import sys, time
from pathlib import Path
from fwdkern.scale.folder import RunFolder
with RunFolder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_runs_on_one_folder_are_refused_and_a_dead_one_lets_go(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match=f"process {holder.pid} on "), RunFolder(tmp_path / "out"):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with RunFolder(tmp_path / "out") as folder:
            assert folder.committed() == set()
    finally:
        holder.kill()
        holder.communicate()


def test_a_lock_whose_file_was_removed_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run, which had made the folder and did not begin, removes it between opening and locking."""
    place, taken = tmp_path / "out", fcntl.flock

    def late(lock: IO[str], how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", taken)
        shutil.rmtree(place)
        taken(lock, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with RunFolder(place):
        with pytest.raises(InputError, match="is being written to by process"), RunFolder(place):
            pass
        assert (place / "shards").is_dir()
    assert not place.exists()


def test_a_shard_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / "00001"
    with pytest.raises(RuntimeError), committing(place) as part:
        (part / "half").write_text("written")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with committing(place) as part:
        (part / "whole").write_text("first")
        assert not place.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["00001"]


def test_who_comes_second_drops_the_same_shard(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with committing(tmp_path / "00001") as part:
            (part / "file").write_text(text)
    assert (tmp_path / "00001" / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["00001"]


def test_settings_must_be_the_same_and_going_on_must_be_asked_for(tmp_path: Path) -> None:
    settings = {"work": {"maps": "relevance", "top": 1}, "inputs": {"count": 3}}
    with RunFolder(tmp_path / "out") as folder:
        folder.agree(settings, resume=False)
        with pytest.raises(InputError, match="--resume"):
            folder.agree(settings, resume=False)
        folder.agree(settings, resume=True)
        other = {"work": {"maps": "relevance", "top": 2}, "inputs": {"count": 4}}
        with pytest.raises(InputError, match=r"inputs.count 3 there, 4 now; work.top 1 there, 2 now"):
            folder.agree(other, resume=True)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match=r"mine\.txt"), RunFolder(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_did_not_begin_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), RunFolder(tmp_path / "out"):
        raise RuntimeError
    assert not (tmp_path / "out").exists()


def test_leftovers_are_swept(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as folder:
        (folder.shard(0).parent / ".00000-abc.part").mkdir()
        folder.shard(1).mkdir()
        folder.sweep()
        assert [path.name for path in folder.shard(0).parent.iterdir()] == ["00001"]
        assert folder.committed() == {1}


def test_a_full_disk_is_known_through_what_it_caused() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "no room")
        except OSError as error:
            raise ValueError("cannot write") from error
    except ValueError as error:
        assert is_full(error)
    assert not is_full(OSError(errno.EACCES, "closed"))
