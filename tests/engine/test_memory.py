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
    require_memory(free, "what fits")
    with pytest.raises(InputError, match="^these take"):
        require_memory(free + 1, "these")
