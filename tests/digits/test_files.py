import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fwdkern.digits import CLASSES, Canvases, digits_net, examples
from fwdkern.digits.files import EXAMPLES, WEIGHTS, pack, write
from fwdkern.errors import FwdkernError


def metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def inside_boxes(canvases):
    x = torch.arange(canvases.images.shape[-1])
    x0, y0, x1, y1 = (bound.view(-1, 1) for bound in canvases.boxes.unbind(1))
    columns = (x >= x0) & (x < x1)  # [n, 64]
    rows = (x >= y0) & (x < y1)
    return rows.unsqueeze(2) & columns.unsqueeze(1)  # [n, 64, 64]


def test_shipped_files_are_small_and_described():
    assert WEIGHTS.stat().st_size < 1_000_000
    assert EXAMPLES.stat().st_size < 200_000
    about = metadata(WEIGHTS)
    assert about["classes"].split(",") == list(CLASSES)
    assert float(about["held_out_accuracy"]) >= 0.95
    assert metadata(EXAMPLES)["split"] == "test"


def test_net_is_in_eval_mode_and_holds_the_shipped_weights():
    net = digits_net()
    assert not any(module.training for module in net.modules())
    shipped = load_file(WEIGHTS)
    assert shipped.keys() == net.state_dict().keys()
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, shipped[name]), name


def test_examples_are_read_right():
    shown = examples()
    assert shown.images.shape == (24, 1, 64, 64) and shown.images.dtype == torch.float32
    assert shown.images.min() >= 0 and 0.9 < shown.images.max() <= 1
    assert set(shown.labels.tolist()) == set(range(10))
    assert shown.boxes.dtype == torch.int64
    assert (digits_net()(shown.images).argmax(1) == shown.labels).float().mean() >= 0.9


def test_what_the_net_looks_at_lies_in_the_boxes():
    shown = examples()
    images = shown.images.clone().requires_grad_()
    net = digits_net()
    net(images).gather(1, shown.labels.unsqueeze(1)).sum().backward()
    strength = (images * images.grad).detach().abs()[:, 0]  # [24, 64, 64]
    inside = inside_boxes(shown)
    share = (strength * inside).sum((1, 2)) / strength.sum((1, 2))
    brightness_share = (shown.images[:, 0] * inside).sum((1, 2)) / shown.images.sum((1, 2, 3))
    assert share.mean() > 0.5
    assert share.mean() > 2 * brightness_share.mean()


def test_examples_need_no_scikit_learn():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from fwdkern.digits import canvases, digits_net, examples\n"
        "from fwdkern.errors import FwdkernError\n"
        "digits_net()(examples().images)\n"
        "try: canvases(1, 0)\n"
        "except FwdkernError as error: assert 'pip install scikit-learn' in str(error), error\n"
        "else: sys.exit('canvases drew without scikit-learn')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_truncated_weights(tmp_path, keep):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(WEIGHTS.read_bytes()[:keep])
    with pytest.raises(FwdkernError, match=r"cut\.safetensors is not a whole safetensors file .*reinstall"):
        digits_net(path)


def test_missing_and_foreign_weights(tmp_path):
    with pytest.raises(FwdkernError, match=r"There is no file .*absent\.safetensors"):
        digits_net(tmp_path / "absent.safetensors")
    tensors = load_file(WEIGHTS)
    tensors["extra"] = tensors.pop("classifier.bias")
    save_file(tensors, tmp_path / "foreign.safetensors")
    with pytest.raises(FwdkernError, match=r"(?s)foreign\.safetensors are not those.*classifier\.bias"):
        digits_net(str(tmp_path / "foreign.safetensors"))


def test_examples_file_without_boxes(tmp_path, monkeypatch):
    tensors = load_file(EXAMPLES)
    del tensors["boxes"]
    save_file(tensors, tmp_path / "examples.safetensors")
    monkeypatch.setattr("fwdkern.digits.files.EXAMPLES", tmp_path / "examples.safetensors")
    with pytest.raises(FwdkernError, match="lacks boxes"):
        examples()


def test_write_and_pack_round_trip(tmp_path, monkeypatch):
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(2, 1, 64, 64, generator=generator)
    made = Canvases(images, torch.tensor([3, 9]), torch.tensor([[0, 1, 20, 64], [5, 6, 7, 8]]))
    path = tmp_path / "new" / "examples.safetensors"
    write(pack(made), path, {"split": "test"})
    monkeypatch.setattr("fwdkern.digits.files.EXAMPLES", path)
    back = examples()
    assert torch.equal(back.labels, made.labels) and torch.equal(back.boxes, made.boxes)
    assert (back.images - made.images).abs().max() <= 0.5 / 255 + 1e-6


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "kept.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(ValueError):
        write({"transposed": torch.rand(2, 3).T}, path, {})
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["kept.safetensors"]
