"""Models of the transformers package, made from small configurations with random weights."""

import pytest
import torch
from torch import nn

import fwdkern
from fwdkern.errors import CaptureError, FwdkernError, UnsupportedOperatorError
from tests.networks.hugging_face import MODELS, make
from tests.oracle import assert_close

transformers = pytest.importorskip("transformers", reason="needs the package transformers")

# What they are refused for.
REFUSED: dict[str, tuple[type[FwdkernError], str]] = {
    "FNet": (UnsupportedOperatorError, "fft_fftn"),
    "T5": (CaptureError, "depends on values"),
    "BART": (CaptureError, "depends on values"),
}
# Their norms compute in float32 whatever they are given.
SINGLE = ("Llama", "Mistral", "Qwen2", "Gemma")


@pytest.mark.parametrize("name", [name for name in MODELS if name not in REFUSED])
def test_maps_are_complete_in_both_modes(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, x = make(name)
    network, x = network.double(), x.double() if x.is_floating_point() else x
    net = fwdkern.fuse(network, x)
    assert_close(net(x), network(x))
    reverse = net.attribute(x, "all", strict=True)
    tolerance = 1e-5 if name in SINGLE else 1e-9
    assert_close(reverse.scores.flatten(2).sum(2), network(x), tolerance)
    assert reverse.scores.std() > 1e-3 * reverse.scores.abs().max()
    positions = reverse.scores[0, 0].numel()
    if positions <= 1024:  # forward mode carries a map for each
        forward = net.attribute(x, 1, mode="forward")
        assert_close(forward.scores, reverse.scores[:, 1:2], tolerance)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_explained_is_named(name: str) -> None:
    kind, message = REFUSED[name]
    network, x = make(name)
    with pytest.raises(kind, match=message):
        fwdkern.fuse(network, x).attribute(x, 1)


def test_a_loop_over_the_steps_serves_sentences_of_other_lengths() -> None:
    configuration = transformers.MambaConfig(
        vocab_size=50, hidden_size=16, state_size=4, num_hidden_layers=1, time_step_rank=2, use_cache=False
    )

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = transformers.MambaModel(configuration), nn.Linear(16, 3)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(tokens, use_cache=False).last_hidden_state[:, -1])

    model = Last().double().eval().requires_grad_(False)
    net = fwdkern.fuse(model, torch.randint(0, 50, (2, 7)))
    for length in (7, 9, 5):
        tokens = torch.randint(0, 50, (2, length))
        found = net.attribute(tokens, "all", strict=True)
        assert_close(found.outputs, model(tokens))
