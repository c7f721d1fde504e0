import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import fwdkern
from fwdkern.engine.memory import format_bytes, parse_bytes, require_memory
from fwdkern.errors import InputError


@pytest.mark.parametrize(
    ("given", "expected"),
    [("2GiB", 2**31), ("500MB", 500_000_000), ("1.5 kib", 1536), (" 7 ", 7), ("3b", 3), (4096, 4096), ("1TiB", 2**40)],
)
def test_sizes_are_read(given: int | str, expected: int) -> None:
    assert parse_bytes(given) == expected


@pytest.mark.parametrize("given", ["", "GiB", "-1", "2 GiBs", "0", 0, -5, True, "1e9", None, "nan"])
def test_bad_sizes(given: object) -> None:
    with pytest.raises(InputError, match="is not a size such as"):
        parse_bytes(given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (2**31, "2.0 GiB"),
        (1.5 * 2**40, "1.5 TiB"),
        (2**52, "4096.0 TiB"),
    ],
)
def test_sizes_are_written(count: float, expected: str) -> None:
    assert format_bytes(count) == expected


def test_results_larger_than_free_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    net = fwdkern.fuse(nn.Conv2d(1, 4, 3).eval(), torch.randn(1, 1, 12, 12))
    layer, x = net.layers[-1].name, torch.randn(1, 1, 12, 12)
    free = 200_000  # 400 maps of 144 floats take 225 KiB
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=free))
    with pytest.raises(
        InputError, match=r"225\.0 KiB, more than the 195\.3 KiB that are free.*layout=\"window\""
    ) as refused:
        net.attribute_units(x, layer)
    assert "iter_units" in str(refused.value) and "segments" in str(refused.value)
    assert net.attribute_units(x, layer, layout="window").scores.shape == (1, 400, 3, 3)
    assert net.attribute_units(x, layer, torch.tensor([[0, 0, 0]])).scores.shape == (1, 1, 12, 12)
    with pytest.raises(InputError, match="more than the"):
        net.attribute_layers(x, [layer])
    require_memory(free, "what fits", torch.device("cpu"))
    with pytest.raises(InputError, match=r"^these take"):
        require_memory(free + 1, "these", torch.device("cpu"))


# Peak growth of a process over what it holds before the first part, in bytes; the part before warms caches up.
_CHILD = """
import re, sys
from pathlib import Path
import psutil, torch
from torch import nn
import fwdkern
from fwdkern.engine import calibration
from tests.networks.squeezenet import Fire

calibration.cache_file = lambda: Path(sys.argv[4])
torch.set_num_threads(1)
torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(16, 8, 16), Fire(32, 8, 16)
).eval()
x = torch.randn(1, 3, 128, 128)
net = fwdkern.fuse(network, x)
mode, layout, memory = sys.argv[1], sys.argv[2], int(sys.argv[3])
request = {"mode": mode, "layout": layout, "backend": "cpu"}
layer = net.layers[-1].name
net.attribute_units(x, layer, torch.tensor([[0, 0, 0]]), **request)
before = psutil.Process().memory_info().rss
parts = units = size = 0
for part in net.iter_units(x, layer, memory=memory, **request):
    parts, units, size = parts + 1, units + len(part.units), size + part.scores.numel() * 4
    del part
    if units > 6000:
        break
peak = int(re.search("VmHWM:\\\\s*([0-9]+) kB", Path("/proc/self/status").read_text())[1]) * 1024
print(parts, units, size, peak - before)
"""


# Not by getrusage, whose peak a child inherits from its parent.
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc/self/status is absent")
@pytest.mark.parametrize(("mode", "layout", "memory"), [("forward", "window", 16), ("reverse", "dense", 128)])
def test_parts_stay_within_memory(
    mode: str, layout: str, memory: int, calibration_folder: Path, native_library: object
) -> None:
    memory *= 2**20
    command = [sys.executable, "-c", _CHILD, mode, layout, str(memory), str(calibration_folder / "calibration.json")]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    parts, units, size, grown = map(int, done.stdout.split())
    assert parts > 2 and units > 6000
    # The limit is of maps and rows; row lists, the allocator's slack and other libraries' buffers come on top.
    assert grown < 1.25 * memory + 64 * 2**20
    if layout == "dense":
        assert size > 2 * memory, "the request would have fitted whole"
