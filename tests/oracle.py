"""Maps from torch's autograd alone, which shares no code with fwdkern: the reference for every engine."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Oracle(NamedTuple):
    """What autograd says about K units: input × gradient and the bias mass, which is the rest of the value."""

    channels: Tensor  # [B, K, *input shape]
    bias: Tensor  # [B, K]
    outputs: Tensor  # [B, K]

    @property
    def pixels(self) -> Tensor:
        """R summed over channels, [B, K, *positions]."""
        return self.channels.sum(2) if self.channels.dim() > 3 else self.channels

    @property
    def uniform(self) -> Tensor:
        """The thesis's maps V = R + β / N, [B, K, *positions]."""
        positions = self.pixels.shape[2:]
        return self.pixels + (self.bias / positions.numel()).view(*self.bias.shape, *[1] * len(positions))

    def segments(self, labels: Tensor, count: int) -> Tensor:
        """R summed within segments, [B, K, count]; labels: [*positions] or [B, *positions]."""
        batch = len(self.bias)
        flat = labels.expand(batch, *self.pixels.shape[2:]).flatten(1)
        rows = [[(maps.flatten()[label == s]).sum() for s in range(count)] for maps, label in self._each(flat)]
        return torch.tensor(rows, dtype=self.bias.dtype).view(*self.bias.shape, count)

    def _each(self, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(maps, label) for row, label in zip(self.pixels, labels, strict=True) for maps in row]


def autograd(network: nn.Module, x: Tensor, targets: Tensor | None = None, layer: str | None = None) -> Oracle:
    """Explain units of a network's output, or of the output of its module ``layer``.

    x: [B, *shape]; targets: flat positions in the output [B, K], all units where None. The network must be piecewise
    affine and treat examples independently.
    """
    image = x.detach().clone().requires_grad_()
    out = _value(network, image, layer).flatten(1)
    if targets is None:
        targets = torch.arange(out.shape[1]).expand(len(out), -1)
    gradients = []
    for column in targets.T:
        chosen = out.gather(1, column[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, image, retain_graph=True, allow_unused=True)
        gradients.append(torch.zeros_like(image) if gradient is None else gradient)
    channels = torch.stack(gradients, 1) * x.unsqueeze(1)
    outputs = out.detach().gather(1, targets)
    return Oracle(channels, outputs - channels.flatten(2).sum(2), outputs)


def _value(network: nn.Module, image: Tensor, layer: str | None) -> Tensor:
    # The copy is for networks that begin with an operator in place.
    if layer is None:
        return network(image.clone())
    kept: list[Tensor] = []
    # The copy is for an in-place activation behind the layer.
    hook = network.get_submodule(layer).register_forward_hook(lambda *call: kept.append(call[2].clone()))
    try:
        network(image.clone())
    finally:
        hook.remove()
    return kept[0]


def assert_close(maps: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    """Largest difference within ``tolerance`` times the largest expected magnitude, at least 1."""
    assert maps.shape == expected.shape
    assert maps.isfinite().all()
    difference = (maps - expected).abs().max().item() if maps.numel() else 0.0
    scale = max(1.0, expected.abs().max().item()) if maps.numel() else 1.0
    assert difference <= tolerance * scale, f"differs by {difference:.3g} on a scale of {scale:.3g}"
