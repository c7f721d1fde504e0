import pytest
import torch

from fwdkern.engine.rounding import rounding

CUDA = torch.device("cuda")


def switches() -> tuple[str, str]:
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision


@pytest.mark.parametrize("precision, inside", [("ieee", "ieee"), ("tf32", "tf32"), ("bf16", "tf32")])
def test_switches_are_set_and_put_back(precision: str, inside: str) -> None:
    before, older = switches(), torch.backends.cudnn.allow_tf32
    with rounding(precision, CUDA):
        assert switches() == (inside, inside)
        # Torch itself reads the switches by operator: its older switch, for all of them, would raise here.
        torch.nn.functional.conv2d(torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 3, 3)) @ torch.zeros(1, 1)
    assert switches() == before and torch.backends.cudnn.allow_tf32 == older
    with pytest.raises(ValueError), rounding(precision, CUDA):
        raise ValueError
    assert switches() == before


def test_the_cpu_has_none() -> None:
    before = switches()
    with rounding("bf16", torch.device("cpu")):
        assert switches() == before


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which precisions the parts of a request asked for."""
    asked: list[str] = []

    def spy(precision: str, device: torch.device) -> object:
        asked.append(precision)
        return rounding(precision, device)

    for module in ("fwdkern.model", "fwdkern.engine.attribution", "fwdkern.engine.replay"):
        monkeypatch.setattr(f"{module}.rounding", spy)
    return asked


def test_forward_pass_and_maps_round_alike(chosen: list[str]) -> None:
    import fwdkern

    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 3)).eval()
    x = torch.randn(2, 2, 2, 2)
    net = fwdkern.fuse(network, x)
    net.attribute(x, precision="tf32")
    assert chosen == ["tf32", "tf32"]
    net.attribute_units(x, net.layers[-1].name)
    assert chosen[2:] == ["ieee", "ieee"]
