"""Do the channels with good maps matter more? Scores, groups, pruning and clusters of the channels of a layer."""

import copy
import importlib
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fwdkern.errors import FwdkernError, InputError
from fwdkern.model import FusedModel

# Activations with f(0) = 0: a channel that is zero before them is zero behind them.
_KEEP_ZERO = ("relu", "relu6", "leaky_relu", "prelu")


@dataclass(frozen=True)
class ChannelMaps:
    """What is kept of the maps of a layer's C channels, each summed over the channel's units, over n images.

    Attributes:
        vectors: feature vectors ``[n, C, F]``, the map's mean in each cell of a square grid.
        energy: Σ |V| of each map, ``[n, C]``.
        compact: the largest part of it inside one window of half the map's height and width, ``[n, C]``.
        outputs: the sum of the channel's values, ``[n, C]``.
    """

    vectors: Tensor
    energy: Tensor
    compact: Tensor
    outputs: Tensor


@dataclass(frozen=True)
class Clusters:
    """How feature vectors cluster.

    Attributes:
        ari: adjusted Rand index of k-means' clusters and the labels; 1 for the same partition, 0 on average for an
            accidental one, and 0 where all vectors are equal.
        silhouette: mean silhouette of the vectors in k-means' clusters, in [−1, 1]; NaN where all vectors are equal.
        classes: the same with the labels as clusters.
    """

    ari: float
    silhouette: float
    classes: float


def prunable(net: FusedModel, model: nn.Module) -> list[str]:
    """The modules of ``model`` that end a convolution and are read by nothing but one activation."""
    modules = dict(model.named_modules())
    names = [layer.name for layer in net.layers if layer.rule == "convolution" and layer.name in modules]
    return [name for name in names if active_layer(net, name) != name]


def active_layer(net: FusedModel, module: str) -> str:
    """The layer where a module's channels are seen: the activation that alone reads it, else the module itself."""
    name = net.layer(module).name
    readers = [layer for layer in net.layers if name in layer.parents]
    if len(readers) == 1 and readers[0].operator in _KEEP_ZERO:
        return readers[0].name
    return name


def channel_maps(net: FusedModel, images: Tensor, layer: str, grid: int = 8) -> ChannelMaps:
    """Map the channels of a layer and keep what ranking and clustering need.

    Args:
        images: ``[n, C, H, W]``, mapped as one batch; ``join`` puts the batches of a data set together.
        grid: cells along each side of the map, so that a feature vector has F = grid² entries.
    """
    maps = net.attribute_units(images, layer, "channels")
    if maps.scores.dim() != 4:
        raise InputError(f"layer {layer!r} has maps of shape {list(maps.scores.shape[2:])}; channels need [H, W]")
    height, width = maps.scores.shape[2:]
    if not 1 <= grid <= min(height, width):
        raise InputError(f"grid={grid} does not fit maps of {height} by {width} pixels: give 1 to {min(height, width)}")
    energy = maps.scores.abs()
    window = (math.ceil(height / 2), math.ceil(width / 2))
    inside = F.avg_pool2d(energy, window, stride=1).flatten(2).amax(2) * (window[0] * window[1])
    return ChannelMaps(F.adaptive_avg_pool2d(maps.scores, grid).flatten(2), energy.sum((2, 3)), inside, maps.outputs)


def join(parts: Sequence[ChannelMaps]) -> ChannelMaps:
    """The maps of one layer from several batches as those of one."""
    names = ("vectors", "energy", "compact", "outputs")
    return ChannelMaps(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def concentration(maps: ChannelMaps) -> Tensor:
    """The score ``[C]`` by which channels are ranked: the share of a channel's relevance in compact regions.

    Σ_i max_w Σ_{p in w} |V_i[p]|  /  Σ_i Σ_p |V_i[p]|, over the images i and, in each image, the windows w of half its
    height and width. An even map has 1/4, a map that lies in one quarter of every image 1, a channel that is always
    off 0. Neither labels nor predictions enter. Since sums are divided, images where the channel is strong count more.
    """
    whole = maps.energy.double().sum(0)
    share = maps.compact.double().sum(0) / whole.clamp_min(torch.finfo(torch.float64).tiny)
    return torch.where(whole > 0, share, 0)


def magnitude(maps: ChannelMaps) -> Tensor:
    """The control ``[C]``: the mean of |sum of the channel's values| over the images."""
    return maps.outputs.double().abs().mean(0)


def extremes(score: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` channels with the highest and with the lowest score ``[C]``; among ties the first come first."""
    _check_count(score, count)
    order = score.argsort(descending=True, stable=True)
    return order[:count], order[len(order) - count :]


def matched(score: Tensor, control: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """``count`` good and as many bad channels that are alike in a control.

    The channels are paired with their neighbours in ``control`` ``[C]``. Those pairs are taken that differ most in
    ``score`` ``[C]``; the better of each goes to the first group, the other to the second.
    """
    _check_count(score, count)
    order = control.argsort(descending=True, stable=True)
    pairs = order[: len(order) // 2 * 2].view(-1, 2)
    first, second = score[pairs].unbind(1)
    chosen = (first - second).abs().argsort(descending=True, stable=True)[:count]
    ahead = (second > first).long()[chosen, None]
    pairs = pairs[chosen]
    return pairs.gather(1, ahead)[:, 0], pairs.gather(1, 1 - ahead)[:, 0]


def pruned(model: nn.Module, channels: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the model in which these output channels (dimension 1) of these modules are zero."""
    modules = dict(model.named_modules())
    for name in channels:
        if name not in modules:
            raise InputError(f"the model has no module {name!r}; model.named_modules() lists all")
    smaller = copy.deepcopy(model)
    for name, off in channels.items():
        smaller.get_submodule(name).register_forward_hook(_Zero(name, off))
    return smaller


class _Zero:
    """A forward hook that sets channels of a module's output to zero."""

    def __init__(self, name: str, channels: Tensor) -> None:
        self.name, self.channels = name, set(channels.tolist())

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.dim() < 2:
            raise InputError(f"module {self.name!r} does not return one tensor with channels in dimension 1")
        known = output.shape[1]
        wrong = self.channels - set(range(known))
        if wrong:
            raise InputError(f"module {self.name!r} has channels 0 to {known - 1}, got {sorted(wrong)}")
        kept = [float(channel not in self.channels) for channel in range(known)]
        # A product with a constant has a rule, so that the pruned copy can be fused.
        return output * output.new_tensor(kept).view(-1, *[1] * (output.dim() - 2))


@torch.no_grad()
def correct(model: nn.Module, images: Tensor, labels: Tensor, batch: int = 250) -> Tensor:
    """Which of the images ``[n, ...]`` the model classifies as labelled ``[n]``, bool ``[n]``."""
    scores = torch.cat([model(part) for part in images.split(batch)])
    if scores.dim() != 2 or len(scores) != len(labels) or not len(labels):
        raise InputError(f"{len(labels)} labels do not fit the model's output of shape {list(scores.shape)}")
    if not 0 <= int(labels.min()) <= int(labels.max()) < scores.shape[1]:
        raise InputError(f"labels run from {labels.min()} to {labels.max()}; the model has {scores.shape[1]} classes")
    return scores.argmax(1) == labels


def require_scikit_learn() -> None:
    """Raise FwdkernError if scikit-learn is not installed, before any work is done in vain."""
    try:
        importlib.import_module("sklearn.cluster")
    except ImportError as error:
        raise FwdkernError(
            "Clustering needs scikit-learn, which is not installed; run: pip install 'fwdkern[evaluate]'"
        ) from error


def cluster(vectors: Tensor, labels: Tensor, k: int = 10, seed: int = 0) -> Clusters:
    """Cluster the feature vectors ``[n, F]`` of one channel with k-means and compare with the labels ``[n]``.

    Raises:
        FwdkernError: scikit-learn is not installed.
    """
    require_scikit_learn()
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import adjusted_rand_score, silhouette_score

    points, truth = vectors.double().cpu().numpy(), labels.cpu().numpy()
    present = len(labels.unique())
    if len(points) != len(truth) or not max(k, present) < len(points) or min(k, present) < 2:
        raise InputError(
            f"{len(points)} vectors with {len(truth)} labels of {present} classes cannot be put into {k} clusters: "
            "each vector needs a label, and there must be at least two classes and clusters, and more vectors than both"
        )
    if not vectors.isfinite().all():
        raise InputError("the vectors hold NaN or infinite values")
    if (vectors == vectors[0]).all():
        return Clusters(0.0, math.nan, math.nan)
    with warnings.catch_warnings():
        # A channel that is mostly off has fewer distinct vectors than clusters; the clusters are then fewer.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(k, n_init=4, random_state=seed).fit_predict(points)
    return Clusters(
        float(adjusted_rand_score(truth, found)),
        float(silhouette_score(points, found)),
        float(silhouette_score(points, truth)),
    )


def _check_count(score: Tensor, count: int) -> None:
    if not 1 <= count <= len(score) // 2:
        raise InputError(f"{count} good and {count} bad channels cannot be taken from {len(score)}")
