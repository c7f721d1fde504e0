"""Algorithm 1 against the thesis's equations written out, hand-computed maps, and autograd in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from fwdkern.algorithm1 import (
    algorithm1,
    average_pool,
    batch_norm,
    convolution,
    first_layer,
    fully_connected,
    input_maps,
    max_pool,
    switch,
)
from fwdkern.errors import InputError, UnsupportedOperatorError
from tests import data
from tests.networks.families import randomise
from tests.networks.resnet_cifar import BasicBlock, ResNet
from tests.networks.squeezenet import Fire


def image(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def chain(*layers: nn.Module, seed: int = 0) -> nn.Sequential:
    network = randomise(nn.Sequential(*layers), seed).double().eval()
    assert isinstance(network, nn.Sequential)
    return network


def shift(module: nn.Module) -> Tensor | None:
    """The constant that a module adds to each channel of its output."""
    bias = getattr(module, "bias", None)
    if isinstance(module, nn.BatchNorm2d):
        return bias - module.running_mean * module.weight / (module.running_var + module.eps).sqrt()
    return bias


def autograd_maps(network: nn.Module, x: Tensor) -> Tensor:
    """V = sum over channels of x * gradient, + beta / N with beta = sum over biases of b * d(out) / d(b).

    x: [C, H, W]. Returns [*unit_shape, H, W].
    """
    shifts = {name: shift(module) for name, module in network.named_modules()}
    biases = {f"{name}.bias": b.detach() for name, b in shifts.items() if b is not None}
    held = {name: value.detach() for name, value in network.named_parameters()}

    def value(x: Tensor, biases: dict[str, Tensor]) -> Tensor:
        return functional_call(network, {**held, **biases}, (x[None],))[0]

    parameters = {name: held[name] for name in biases}
    by_pixel, by_bias = jacrev(value, argnums=(0, 1))(x, parameters)
    # by_pixel: [*unit_shape, C, H, W], by_bias: [*unit_shape, U] each
    maps = (by_pixel * x).sum(-3)
    for name, bias in biases.items():
        maps = maps + ((by_bias[name] * bias).sum(-1) / x[0].numel())[..., None, None]
    return maps


def assert_close(maps: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    assert maps.shape == expected.shape
    difference = (maps - expected).abs().max().item() if maps.numel() else 0.0
    assert difference <= tolerance * max(1.0, expected.abs().max().item()), f"differs by {difference:.3g}"


pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")

CHAINS = {
    "mlp": lambda: chain(nn.Flatten(), nn.Linear(70, 9), nn.ReLU(), nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 3)),
    "convolutions": lambda: chain(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3, bias=False), nn.ReLU()),
    "no activation": lambda: chain(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 1)),
    "stride and padding": lambda: chain(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, 1, 2)),
    "dilation and groups": lambda: chain(
        nn.Conv2d(2, 4, (3, 2), dilation=(1, 2), padding=1, groups=2), nn.ReLU(), nn.Conv2d(4, 8, 3, groups=4)
    ),
    "same padding": lambda: chain(nn.Conv2d(2, 3, (4, 3), padding="same"), nn.ReLU()),
    "batch norm": lambda: chain(
        nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3)
    ),
    "max pool": lambda: chain(
        nn.Conv2d(2, 4, (3, 2), padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
        nn.Conv2d(4, 2, 2),
    ),
    "max pool, dilated": lambda: chain(nn.MaxPool2d(2, 1, dilation=2), nn.Conv2d(2, 3, 2)),
    "average pool": lambda: chain(
        nn.Conv2d(2, 4, 2), nn.ReLU(), nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False)
    ),
    "classifier": lambda: chain(
        nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout2d()),
        nn.Sequential(nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten(), nn.Identity(), nn.Dropout(), nn.Linear(36, 4)),
    ),
    "1x1 kernels": lambda: chain(nn.Conv2d(2, 4, 1, stride=3), nn.ReLU(), nn.Conv2d(4, 4, 1, groups=4)),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CHAINS)
def test_equals_input_times_gradient_plus_bias_mass(name: str, seed: int) -> None:
    network, x = CHAINS[name](), image(2, 7, 5, seed=seed)
    assert_close(algorithm1(network, x), autograd_maps(network, x))


@pytest.mark.parametrize("name", CHAINS)
def test_every_layer_sums_to_its_values_and_equals_the_truncated_chain(name: str) -> None:
    network, x = CHAINS[name](), image(2, 7, 5)
    surfaces = algorithm1(network, x, all_layers=True)
    leaves = {path: leaf for path, leaf in network.named_modules() if not isinstance(leaf, nn.Sequential)}
    assert list(surfaces) == list(leaves)
    modules = list(leaves.values())
    values = x[None]
    for depth, (module, maps) in enumerate(zip(modules, surfaces.values(), strict=True)):
        values = module(values)
        assert_close(maps.sum((-2, -1)), values[0])
        assert maps.equal(algorithm1(modules[: depth + 1], x))


@st.composite
def chains(draw: st.DrawFn) -> tuple[nn.Sequential, Tensor]:
    """Random chains of convolutions, norms, activations and pools, on integer images: pools meet ties."""
    channels, height, width = draw(st.integers(1, 4)), draw(st.integers(1, 7)), draw(st.integers(1, 7))
    seed = draw(st.integers(0, 10_000))
    x = image(channels, height, width, seed=seed).mul(2).round()
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 3))):
        groups = draw(st.sampled_from([g for g in (1, 2, 3, 4) if channels % g == 0]))
        outputs = groups * draw(st.integers(1, 2))
        kernel, stride, padding = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
        bias = draw(st.booleans())
        layers.append(nn.Conv2d(channels, outputs, kernel, stride, padding, groups=groups, bias=bias))
        channels = outputs
        if draw(st.booleans()):
            layers.append(nn.BatchNorm2d(channels))
        if draw(st.booleans()):
            layers.append(nn.ReLU())
        if draw(st.booleans()):
            layers.append(draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))(2, 1, padding=1))
    return chain(*layers, seed=seed), x


@settings(max_examples=60)
@given(chains())
def test_random_chains_equal_autograd(case: tuple[nn.Sequential, Tensor]) -> None:
    network, x = case
    values = network(x[None])[0]
    assert_close(algorithm1(network, x).sum((-2, -1)), values.detach())
    # At an output of exactly 0 without activation the thesis's map is 0, the gradient is not.
    assert_close(algorithm1(network, x), switch(autograd_maps(network, x), values.detach()))


def test_tiny_network_by_hand() -> None:
    conv, linear = nn.Conv2d(1, 1, 2).double(), nn.Linear(1, 1).double()
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[[1.0, -1.0], [0.5, 0.0]]]]))
        conv.bias.copy_(torch.tensor([1.0]))
        linear.weight.copy_(torch.tensor([[2.0]]))
        linear.bias.copy_(torch.tensor([-4.0]))
    x = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]).double()
    # convolution: 1 - 2 + 1.5 + 0 + 1 = 1.5; linear: 2 * 1.5 - 4 = -1
    layers = [conv, nn.ReLU(), nn.Flatten(), linear]
    hidden = torch.tensor([[1.25, -1.75], [1.75, 0.25]]).double()
    expected = torch.tensor([[1.5, -4.5], [2.5, -0.5]]).double()
    maps = algorithm1(layers, x, all_layers=True)
    assert list(maps) == ["0", "1", "2", "3"]
    assert maps["0"][0, 0, 0].equal(hidden)
    assert maps["1"][0, 0, 0].equal(hidden)
    assert maps["2"][0].equal(hidden)
    assert maps["3"][0].equal(expected)
    assert algorithm1([*layers, nn.ReLU()], x).equal(torch.zeros(1, 2, 2).double())


def test_an_output_of_exactly_zero_is_switched_off() -> None:
    conv = nn.Conv2d(1, 1, (1, 2), bias=False)
    nn.init.ones_(conv.weight)
    x = torch.tensor([[[2.0, -2.0]]])
    assert algorithm1([conv], x).equal(torch.zeros(1, 1, 1, 1, 2))
    for maps in algorithm1([conv, nn.ReLU()], x, all_layers=True).values():
        assert maps.equal(torch.zeros(1, 1, 1, 1, 2))


def test_first_layer_is_the_first_equation() -> None:
    x = image(3, 4, 5)
    conv, linear = chain(nn.Conv2d(3, 2, 3, padding=1), nn.Linear(60, 7))
    assert isinstance(conv, nn.Conv2d) and isinstance(linear, nn.Linear)
    expected = torch.zeros(2, 4, 5, 4, 5, dtype=torch.float64)
    for unit, row, column in torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(5)).tolist():
        weight = torch.zeros(3, 6, 7, dtype=torch.float64)  # the unit's weights, laid on the padded image
        weight[:, row : row + 3, column : column + 3] = conv.weight[unit].detach()
        expected[unit, row, column] = (weight[:, 1:-1, 1:-1] * x).sum(0) + conv.bias[unit].detach() / 20
    assert_close(first_layer(conv, x).detach(), expected)
    w, b = linear.weight.detach().view(7, 3, 4, 5), linear.bias.detach()
    assert_close(first_layer(linear, x).detach(), (w * x).sum(1) + b[:, None, None] / 20)


def test_convolution_is_the_second_equation() -> None:
    conv = chain(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2))[0]
    assert isinstance(conv, nn.Conv2d)
    maps = image(4, 5, 4, 3, 2)
    units = torch.eye(80, dtype=torch.float64).view(80, 4, 5, 4)
    weight = F.conv2d(units, conv.weight, None, 2, 1, 1, 2).flatten(1).T.detach()  # [units out, units in]
    bias = conv.bias.detach().repeat_interleave(6)  # 3 x 2 positions a channel
    expected = torch.stack(
        [sum(weight[u, j] * maps.flatten(0, 2)[j] for j in range(80)) + bias[u] / 6 for u in range(36)]
    )
    assert_close(convolution(conv, maps).detach(), expected.view(6, 3, 2, 3, 2))


def test_input_maps_hold_each_value_at_its_own_pixel() -> None:
    x = image(2, 3, 4)
    maps = input_maps(x)
    assert maps.sum((-2, -1)).equal(x)
    assert maps.sum((1, 2)).equal(x)
    assert maps.count_nonzero() == x.numel()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    network, x = CHAINS["batch norm"](), image(2, 7, 5)
    exact = algorithm1(network, x)
    maps = algorithm1(network.to(dtype), x.to(dtype))
    assert maps.dtype == dtype
    # Four weighted layers of at most 36 products each, and the rounded weights and image.
    assert_close(maps.double(), exact, tolerance=4 * 36 * torch.finfo(dtype).eps)


LAYOUTS = {
    "transposed": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "channels last": lambda x: x[None].contiguous(memory_format=torch.channels_last)[0],
    "sliced": lambda x: torch.stack([x, x + 1], -1)[..., 0],
    "batch of one": lambda x: x[None],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_of_the_image_does_not_matter(layout: str) -> None:
    network, x = CHAINS["max pool"](), image(2, 7, 5)
    assert_close(algorithm1(network, LAYOUTS[layout](x)), algorithm1(network, x))


def test_expanded_image() -> None:
    network, x = CHAINS["classifier"](), image(1, 1, 5).expand(2, 7, 5)
    assert_close(algorithm1(network, x), algorithm1(network, x.clone()))


def test_one_pixel() -> None:
    network, x = chain(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1)), image(3, 1, 1)
    assert_close(algorithm1(network, x)[..., 0, 0], network(x[None])[0].detach())


def test_dead_layer_leaves_the_later_biases() -> None:
    network = chain(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 1))
    nn.init.constant_(network[0].bias, -1e3)
    maps = algorithm1(network, image(1, 4, 4))
    assert_close(maps, (network[2].bias.detach() / 16)[:, None, None, None, None].expand(2, 2, 2, 4, 4))


def test_arguments_are_left_alone() -> None:
    network, x = chain(nn.ReLU(inplace=True), nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True)), image(2, 5, 5)
    before = x.clone()
    maps = algorithm1(network, x)
    assert x.equal(before) and not maps.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    assert_close(maps, autograd_maps(chain(nn.ReLU(), nn.Conv2d(2, 3, 3), nn.ReLU()), x))


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.GELU(), "'1.0', GELU"),
        (nn.ReLU6(), "ReLU6"),
        (nn.ConvTranspose2d(3, 3, 2), "ConvTranspose2d"),
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular"), "padding_mode='circular'"),
        (nn.BatchNorm2d(3, track_running_stats=False).eval(), "without running statistics"),
        (nn.BatchNorm2d(3), "'1.0' .BatchNorm2d. in training mode"),
        (nn.Dropout(), "training mode"),
        (nn.MaxPool2d(2, return_indices=True), "MaxPool2d"),
        (nn.Flatten(0), "start_dim=0"),
    ],
)
def test_unsupported_modules_are_named(module: nn.Module, words: str) -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Sequential(module))
    with pytest.raises(UnsupportedOperatorError, match=words):
        algorithm1(network, image(2, 4, 4, dtype=torch.float32))


@pytest.mark.parametrize("x", [torch.zeros(4, 4), torch.zeros(2, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8)])
def test_bad_images(x: Tensor) -> None:
    with pytest.raises(InputError, match="algorithm1 was given x of shape"):
        algorithm1(nn.Conv2d(1, 1, 1), x)


def block_maps(block: BasicBlock, maps: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Maps and values after a residual block. maps: [C, H', W', H, W], values: [C, H', W']."""
    hidden = F.relu(block.bn1(block.conv1(values[None])))[0]
    inner = switch(batch_norm(block.bn1, convolution(block.conv1, maps)), hidden)
    outer = batch_norm(block.bn2, convolution(block.conv2, inner))
    shortcut = maps
    if block.shrinks:
        extra = block.planes // 4
        shortcut = F.pad(maps[:, ::2, ::2], (0, 0, 0, 0, 0, 0, 0, 0, extra, extra))
    out = block(values[None])[0]
    return switch(outer + shortcut, out), out


def stem_maps(network: ResNet, x: Tensor) -> tuple[Tensor, Tensor]:
    values = F.relu(network.bn1(network.conv1(x[None])))[0]
    return switch(batch_norm(network.bn1, first_layer(network.conv1, x)), values), values


def test_resnet20_logits_on_a_crop() -> None:
    network = data.resnet20().double()
    assert isinstance(network, ResNet)
    x = data.cifar_photos(1)[0][0, :, 12:20, 12:20].double()
    with torch.no_grad():
        maps, values = stem_maps(network, x)
        for block in (*network.layer1, *network.layer2, *network.layer3):
            maps, values = block_maps(block, maps, values)
        pooled = average_pool(nn.AvgPool2d(2), maps)  # [64, 1, 1, 8, 8]
        maps = fully_connected(network.linear, pooled.flatten(0, 2))
    logits = network(x[None])[0].detach()
    assert_close(maps.sum((-2, -1)), logits)
    assert_close(switch(maps, logits), autograd_maps(network, x))


def test_resnet20_first_block_on_a_whole_photograph() -> None:
    network = data.resnet20()
    assert isinstance(network, ResNet)
    x = data.cifar_photos(1)[0][0]
    with torch.no_grad():
        maps, values = block_maps(network.layer1[0], *stem_maps(network, x))  # [16, 32, 32, 32, 32]
    scale = maps.abs().max()
    assert ((maps.sum((-2, -1)) - values).abs() <= 1e-5 * values.abs().max()).all()
    pixels = x.clone().requires_grad_()
    out = network.layer1[0](F.relu(network.bn1(network.conv1(pixels[None]))))[0]
    for unit in [(0, 0, 0), (3, 16, 16), (9, 31, 5), (15, 20, 31)]:
        (gradient,) = torch.autograd.grad(out[unit], pixels, retain_graph=True)
        r = (gradient * x).sum(0)
        expected = r + (out[unit].detach() - r.sum()) / r.numel()
        assert ((maps[unit] - expected).abs() <= 1e-5 * scale).all()


def fire_maps(fire: Fire, maps: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Maps and values after a fire module: two branches, concatenated."""
    squeezed = F.relu(fire.squeeze(values[None]))
    inner = switch(convolution(fire.squeeze, maps), squeezed[0])
    branches = torch.cat([convolution(fire.expand1x1, inner), convolution(fire.expand3x3, inner)])
    out = fire(values[None])[0]
    return switch(branches, out), out


def test_squeezenet_fire_module_on_a_crop() -> None:
    network = data.squeezenet().double()
    x = data.imagenet_photos(1)[0][0, :, 100:116, 100:116].double()
    stem, pool, fire = nn.Sequential(*network.features[:2]), network.features[2], network.features[3]
    with torch.no_grad():
        values = stem(x[None])[0]
        maps = max_pool(pool, switch(first_layer(stem[0], x), values), values)
        maps, values = fire_maps(fire, maps, pool(values[None])[0])
    assert maps.shape == (128, 3, 3, 16, 16)
    assert_close(maps.sum((-2, -1)), values)
    head = nn.Sequential(nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool, fire)
    head[0] = stem[0]
    for module in fire.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    assert_close(maps, autograd_maps(head, x))
