"""The command line on the embedded model, end to end, and what it says to wrong input."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner, Result

from fwdkern import FusedModel, fuse
from fwdkern.cli import app
from fwdkern.cli.options import parse_features, parse_numbers, parse_size, parse_unit
from fwdkern.cli.units import strongest_units
from fwdkern.digits import digits_net
from fwdkern.errors import FwdkernError, InputError
from tests.viz.pictures import read

_ERRORS = re.compile(r"^(?P<path>.+\.png)  completeness error (?P<error>\S+), relative (?P<relative>\S+)$", re.M)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run_well(*arguments: object) -> str:
    outcome = run(*arguments)
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def refused(*arguments: object) -> str:
    """Run a command that must fail with one sentence; return it."""
    outcome = run(*arguments)
    assert outcome.exit_code == 2, outcome.output
    assert "Traceback" not in outcome.output
    lines = outcome.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("Error: "), outcome.stderr
    return lines[0]


def pictures(stdout: str) -> list[Path]:
    """The files a command says it wrote; each must be a picture, and its maps complete."""
    found = [(Path(match["path"]), float(match["relative"])) for match in _ERRORS.finditer(stdout)]
    for path, relative in found:
        pixels = read(path)
        assert min(pixels.shape[:2]) > 300 and pixels.std() > 10
        assert relative < 1e-4
    return [path for path, _ in found]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (80, 100, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def own_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A factory in a module of the current folder, as a user would have it."""
    (tmp_path / "own_nets.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "def rgb():\n"
        "    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),"
        " nn.Linear(4, 5))\n"
        "def odd():\n"
        "    class Odd(nn.Module):\n"
        "        def __init__(self):\n"
        "            super().__init__()\n"
        "            self.first = nn.Conv2d(3, 4, 3)\n"
        "        def forward(self, x):\n"
        "            return torch.cumprod(self.first(x), 1).mean((2, 3))\n"
        "    return Odd()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "own_nets:rgb"


@pytest.fixture(scope="module")
def digits() -> FusedModel:
    return fuse(digits_net(), torch.rand(1, 1, 64, 64))


def test_explain_without_images_draws_the_examples(tmp_path: Path) -> None:
    out = tmp_path / "out"
    stdout = run_well("explain", "--out", out)
    found = pictures(stdout)
    assert len(found) == 6 and sorted(os.listdir(out)) == sorted(path.name for path in found)
    assert "input   grey" in stdout and "no normalisation" in stdout


def test_explain_a_file_for_two_classes(tmp_path: Path, photo: Path) -> None:
    stdout = run_well("explain", photo, "--target", "3", "--target", "7", "--out", tmp_path / "out")
    assert pictures(stdout) == [tmp_path / "out" / "photo-explain.png"]
    assert "shorter side to 64" in stdout and "centre crop 64×64" in stdout


@pytest.mark.parametrize(
    "options",
    [
        ["--top", "2", "--grid"],
        ["--features", "channels", "--bias", "separate"],
        ["--features", "patches:8", "--mode", "forward"],
        ["--bias", "receptive_field", "--mode", "reverse"],
    ],
    ids=" ".join,
)
def test_explain_options(tmp_path: Path, photo: Path, options: list[str]) -> None:
    assert len(pictures(run_well("explain", photo, *options, "--out", tmp_path / "out"))) == 1


def test_files_of_one_name_do_not_overwrite_each_other(tmp_path: Path, photo: Path) -> None:
    other = tmp_path / "other" / "photo.jpg"
    other.parent.mkdir()
    Image.open(photo).save(other)
    found = pictures(run_well("explain", photo, other, "--out", tmp_path / "out"))
    assert [path.name for path in found] == ["photo-explain.png", "photo-2-explain.png"]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--layer", "relu_1"], "photo-relu_1-units.png"),
        (["--layer", "relu_1", "--units", "3,10,12", "--units", "31,0,0", "--rows"], "photo-relu_1-units.png"),
        (["--layer", "relu_4", "--channels", "--strongest", "4"], "photo-relu_4-channels.png"),
        (["--layer", "classifier", "--units", "3", "--rows"], "photo-classifier-units.png"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_units(tmp_path: Path, photo: Path, options: list[str], name: str) -> None:
    found = pictures(run_well("units", photo, *options, "--out", tmp_path / "out"))
    assert found == [tmp_path / "out" / name]


def test_strongest_units_are_the_largest_of_their_channels(digits: FusedModel) -> None:
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    chosen = strongest_units(digits, image, "relu_1", 5)
    assert chosen.shape == (5, 3) and len(set(chosen[:, 0].tolist())) == 5
    values = digits.attribute_units(image, "relu_1", chosen).outputs[0]
    with torch.no_grad():
        net = digits_net()
        pooled = net.pool(net.edges(image).relu())
        best = net.strokes(pooled).relu().amax((0, 2, 3)).sort(descending=True).values
    torch.testing.assert_close(values.abs(), best[:5])


def test_layers_lists_every_layer_with_its_rule(digits: FusedModel) -> None:
    stdout = run_well("layers")
    for layer in digits.layers:
        assert re.search(rf"^{re.escape(layer.name)} ", stdout, re.M)
    assert f"{len(digits.layers)} layers, all with a rule" in stdout


def test_layers_marks_what_has_no_rule(own_model: str) -> None:
    stdout = run_well("layers", "--model", "own_nets:odd", "--crop", "16", "--resize", "16")
    assert "NO RULE" in stdout and "3 layers, 1 without a rule, 1 can be explained" in stdout
    assert re.search(r"^mean .* behind cumprod *$", stdout, re.M) and "behind" not in stdout.split("\ncumprod")[0]


def test_own_model_with_weights_and_class_names(tmp_path: Path, photo: Path, own_model: str) -> None:
    from safetensors.torch import save_file

    reference = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    save_file(reference.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "names.txt").write_text("ant\nbee\ncat\ndog\nelk\n")
    common = ["--model", own_model, "--weights", "w.safetensors", "--classes", "names.txt", "--size", "32x48"]
    stdout = run_well("explain", photo, *common, "--mean", "0.5", "--std", "0.2,0.3,0.4", "--target", "Bee")
    assert pictures(stdout) == [Path("fwdkern-out") / "photo-explain.png"]
    assert "scaled to 32×48" in stdout and "(0.5, 0.5, 0.5)" in stdout and "(0.2, 0.3, 0.4)" in stdout


def test_info_names_versions_and_backends() -> None:
    stdout = run_well("info")
    assert torch.__version__ in stdout and "backends.torch" in stdout and "devices" in stdout


def test_demo_writes_three_pictures_and_says_where(tmp_path: Path) -> None:
    stdout = run_well("demo", "--out", tmp_path / "demo")
    names = [path.name for path in pictures(stdout)]
    assert names == ["class-saliency.png", "single-neurons.png", "channel-sums.png"]
    assert re.search(r"Done in \d+\.\d s; the pictures are in .*demo\. Largest relative completeness error", stdout)


@pytest.mark.parametrize("command", ["", "explain", "units", "layers", "info", "demo", "serve"])
def test_help_of_every_command(command: str) -> None:
    stdout = run_well(*command.split(), "--help")
    assert "Usage" in stdout
    if command in ("", "explain", "units", "layers", "serve"):
        assert f"fwdkern {command or 'demo'}" in stdout


def test_version() -> None:
    from fwdkern import __version__

    assert run_well("--version").strip() == f"fwdkern {__version__}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "absent.png"], "no file absent.png"),
        (["explain", "--target", "eleven"], "No class is called 'eleven'"),
        (["explain", "--target", "10"], "0 to 9"),
        (["explain", "--top", "11"], "knows 10 classes"),
        (["explain", "--features", "patches:0"], "patches:N"),
        (["explain", "--device", "nowhere"], "device 'nowhere'"),
        (["explain", "--size", "8", "--resize", "8"], "--resize"),
        (["explain", "--model", "resnet"], "no model 'resnet'"),
        (["explain", "--weights", "absent.safetensors"], "no weights file"),
        (["explain", "--classes", "absent.txt"], "absent.txt"),
        (["explain", "--mean", "a"], "--mean"),
        (["units", "--layer", "relu_77"], "close"),
        (["units", "--layer", "relu_1", "--units", "1,2"], "needs 3"),
        (["units", "--layer", "relu_1", "--units", "1,2,x"], "--units"),
        (["units", "--layer", "relu_1", "--units", "99,0,0"], "99"),
        (["units", "--layer", "relu_1", "--units", "0,0,0", "--channels"], "give one"),
        (["layers", "--crop", "axb"], "--crop"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(*arguments)
    assert os.listdir(tmp_path) == []


def test_other_models_need_an_image(own_model: str) -> None:
    assert "No image was given" in refused("explain", "--model", own_model)


def test_a_broken_file_among_good_ones_writes_nothing(tmp_path: Path, photo: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:100])
    assert "broken.png" in refused("explain", photo, broken, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_error_half_way_leaves_the_folder_as_it_was(
    tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    calls = []

    def fail_second(self: FusedModel, *arguments: object, **keywords: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise FwdkernError("The second image is not to be.")
        return original(self, *arguments, **keywords)  # type: ignore[arg-type]

    original = FusedModel.attribute
    monkeypatch.setattr(FusedModel, "attribute", fail_second)
    assert "not to be" in refused("explain", photo, photo, "--out", out)
    assert os.listdir(out) == ["mine.txt"]


def test_out_that_is_a_file_is_named(tmp_path: Path, photo: Path) -> None:
    assert "photo.png cannot be made" in refused("explain", photo, "--out", photo)


def test_debug_shows_the_error_itself() -> None:
    for arguments in (["--debug", "explain", "absent.png"], ["explain", "absent.png", "--debug"]):
        outcome = run(*arguments)
        assert isinstance(outcome.exception, InputError)


def test_completeness_warnings_are_printed_not_raised(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import warnings

    original = FusedModel.attribute

    def warns(self: FusedModel, *arguments: object, **keywords: object) -> object:
        warnings.warn("a map is not complete", stacklevel=1)
        return original(self, *arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(FusedModel, "attribute", warns)
    outcome = run("explain", photo, "--out", tmp_path / "out")
    assert outcome.exit_code == 0 and "Warning: a map is not complete" in outcome.stderr


def test_parsers() -> None:
    assert parse_size("size", "64") == (64, 64) and parse_size("size", "48x64") == (48, 64)
    assert parse_numbers("mean", "0.5, 1,2") == (0.5, 1.0, 2.0)
    assert parse_unit("12, 7,9") == [12, 7, 9]
    labels = parse_features("patches:4", (6, 9))
    assert isinstance(labels, torch.Tensor) and labels.shape == (6, 9)
    assert labels[0, 0] == 0 and labels[3, 8] == 2 and labels[4, 0] == 3 and labels.max() == 5
    for wrong in ("0", "8x", "1x2x3", "-4"):
        with pytest.raises(InputError, match="--size"):
            parse_size("size", wrong)


def test_units_of_a_class_are_drawn_with_their_shares(tmp_path: Path) -> None:
    printed = run_well("units", "--layer", "relu_4", "--for-class", "top", "-n", 5, "--out", tmp_path)
    assert "5 units hold" in printed and "the rest" in printed
    assert [path.suffix for path in tmp_path.iterdir()] == [".png"]


def test_evaluate_goes_on_and_fills_a_report(tmp_path: Path) -> None:
    out, report = tmp_path / "digits", tmp_path / "report.md"
    report.write_text("# Report\n\n<!-- digits -->\n<!-- /digits -->\n")
    asked = ["evaluate", "--out", out, "--half", "even", "--method", "all-ones"]
    run_well(*asked)
    first = (out / "all-ones.csv").read_text()
    said = run_well(*asked, "--method", "fwdkern", "--report", report)
    assert (out / "all-ones.csv").read_text() == first
    assert "| fwdkern |" in said and "12 images" in said
    table = (out / "table.md").read_text()
    assert table.strip() in report.read_text() and "| all-ones |" in table
    assert min(read(out / "table.png").shape[:2]) > 150


def test_evaluate_refuses_what_it_cannot_do(tmp_path: Path, photo: Path) -> None:
    assert "There is no method 'lime'" in refused("evaluate", "--out", tmp_path / "a", "--method", "lime")
    assert "cannot be read" in refused("evaluate", "--out", tmp_path / "a", "--report", tmp_path / "absent.md")
    assert not (tmp_path / "a").exists()
    run_well("evaluate", "--out", tmp_path / "b", "--method", "all-ones")
    assert "half 'all' there, 'odd' now" in refused(
        "evaluate", "--out", tmp_path / "b", "--method", "all-ones", "--half", "odd"
    )
