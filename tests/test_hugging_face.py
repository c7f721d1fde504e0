"""Models of the transformers package, made from small configurations with random weights."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fwdkern
from tests.oracle import assert_close

transformers = pytest.importorskip("transformers", reason="needs the package transformers")

_TEXT = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
_TEXT |= {"intermediate_size": 32, "max_position_embeddings": 24}
_IMAGE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
_IMAGE |= {"image_size": 16, "patch_size": 4}
_DISTILLED = {"vocab_size": 50, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 24}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "BertForSequenceClassification": ("BertConfig", _TEXT),
    "DistilBertForSequenceClassification": ("DistilBertConfig", _DISTILLED),
    "RobertaForSequenceClassification": ("RobertaConfig", _TEXT),
    "ViTForImageClassification": ("ViTConfig", _IMAGE),
    "DeiTForImageClassification": ("DeiTConfig", _IMAGE),
}


class Logits(nn.Module):
    """A model that returns its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).logits


@pytest.mark.parametrize("name", MODELS)
def test_maps_are_complete_in_both_modes(name: str) -> None:
    configuration, sizes = MODELS[name]
    random = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, name)(getattr(transformers, configuration)(**sizes))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=random)
    network = Logits(model).double().eval().requires_grad_(False)
    tokens = configuration.startswith(("Bert", "Distil", "Roberta"))
    x = (
        torch.randint(3, 50, (2, 7), generator=random)
        if tokens
        else torch.randn(2, 3, 16, 16, generator=random).double()
    )
    net = fwdkern.fuse(network, x)
    assert_close(net(x), network(x))
    forward, reverse = (net.attribute(x, "all", mode=mode, strict=True) for mode in ("forward", "reverse"))
    assert_close(forward.scores, reverse.scores)
    assert_close(forward.scores.flatten(2).sum(2), network(x))
    assert forward.scores.std() > 1e-4
