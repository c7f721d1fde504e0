import torch

from fwdkern.digits import DigitsNet


def test_logits_and_batch_independence():
    torch.manual_seed(0)
    net = DigitsNet().eval()
    images = torch.rand(3, 1, 64, 64)
    logits = net(images)
    assert logits.shape == (3, 10)
    torch.testing.assert_close(net(images[1:2]), logits[1:2])


def test_the_residual_add_is_used():
    torch.manual_seed(0)
    net = DigitsNet().eval()
    for tensor in (net.join[1].weight, net.join[1].bias):
        torch.nn.init.zeros_(tensor)
    dark, bright = net(torch.stack([torch.zeros(1, 64, 64), torch.rand(1, 64, 64)]))
    assert (dark - bright).abs().max() > 1e-3


def test_other_sizes_and_an_empty_batch():
    net = DigitsNet().eval()
    assert net(torch.rand(1, 1, 40, 72)).shape == (1, 10)
    assert net(torch.rand(0, 1, 64, 64)).shape == (0, 10)
