"""CUDA graphs of one class an image: the results of the ordinary way, on any stream."""

import logging

import pytest
import torch
from torch import Tensor, nn

import fwdkern
from fwdkern import FusedModel
from fwdkern.engine import replay
from tests.engine.test_replay import Classifier
from tests.networks.families import randomise
from tests.oracle import assert_close


@pytest.fixture
def net(gpu: torch.device) -> FusedModel:
    network: nn.Module = randomise(Classifier()).eval().to(gpu)
    return fwdkern.fuse(network, images(gpu, 0))


def images(gpu: torch.device, seed: int, batch: int = 3) -> Tensor:
    return torch.randn(batch, 3, 29, 26, generator=torch.Generator().manual_seed(seed)).to(gpu)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("target", [None, 4, [[2, 5], [0, 0], [6, 3]]])
def test_replays_give_the_ordinary_result(
    net: FusedModel, target: object, layout: torch.memory_format, gpu: torch.device, caplog: pytest.LogCaptureFixture
) -> None:
    target = torch.tensor(target, device=gpu) if isinstance(target, list) else target
    with caplog.at_level(logging.WARNING, "fwdkern"):
        for seed in range(4):
            x = images(gpu, seed).contiguous(memory_format=layout)
            found = net.attribute(x, target, strict=True)
            expected = net.attribute(x, target, backend="torch", mode="forward")
            assert_close(found.scores, expected.scores, 1e-4)
            assert torch.equal(found.units, expected.units)
    assert not [record for record in caplog.records if "CUDA graph" in record.message]
    assert any(isinstance(known, replay.Recorded) for known in net._replays._known.values())


def test_two_streams(net: FusedModel, gpu: torch.device) -> None:
    inputs = [images(gpu, seed, 16) for seed in range(2)]
    expected = [net.attribute(x) for x in inputs]  # the second call records
    streams = [torch.cuda.Stream() for _ in inputs]
    torch.cuda.synchronize()
    found: list[list[Tensor]] = [[], []]
    for _ in range(20):
        for stream, x, results in zip(streams, inputs, found, strict=True):
            with torch.cuda.stream(stream):
                results.append(net.attribute(x).scores)
    torch.cuda.synchronize()
    for results, first in zip(found, expected, strict=True):
        for scores in results:
            assert_close(scores, first.scores, 1e-4)
