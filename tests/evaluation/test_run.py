"""Runs over the built-in examples and over broken ones."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fwdkern.baselines import AllOnes, CentreGaussian
from fwdkern.digits import digits_net
from fwdkern.errors import InputError
from fwdkern.evaluation import Example, Records, make_methods, read_images, rows, run, table
from fwdkern.evaluation.measures import no_measures
from fwdkern.metrics import AverageDrop, EnergyPointingGame, masked_scores
from fwdkern.preprocessing import Preprocessing

DIGITS = Preprocessing(channels=1, resize=64, crop=(64, 64))


class Boxes(nn.Module):
    """A method that knows the answer: 1 inside the digit's box."""

    def __init__(self, boxes: dict[int, list[list[float]]]) -> None:
        super().__init__()
        self.boxes, self._calls = boxes, 0

    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:
        maps = torch.zeros(len(inputs), *inputs.shape[2:])
        for i in range(len(inputs)):
            x0, y0, x1, y1 = (int(value) for value in self.boxes[self._calls + i][0])
            maps[i, y0:y1, x0:x1] = 1
        self._calls += len(inputs)
        return maps


def test_figures_are_those_of_the_measures(tmp_path: Path) -> None:
    model, examples = digits_net(), read_images()[:7]
    knowing = Boxes({i: example.boxes or [] for i, example in enumerate(examples)})
    methods = {"boxes": knowing, "centre-gaussian": CentreGaussian(model)}
    records = Records(tmp_path, {})
    seen: list[str] = []
    run(model, methods, examples, DIGITS, records, "label", batch_size=3, progress=seen.append)
    assert len(seen) == 3 * 2 and seen[-1] == "06"
    assert [row["image"] for row in records.rows("boxes")] == [example.name for example in examples]
    assert {float(row["energy"]) for row in records.rows("boxes")} == {100.0}
    pixels = torch.stack([DIGITS.pixels(example.load()) for example in examples])
    labels = torch.tensor([example.label for example in examples])
    maps = CentreGaussian(model).attribute(pixels, labels)
    drop, energy = AverageDrop("softmax"), EnergyPointingGame()
    drop.update(masked_scores(model, pixels, maps, labels, keep="whole"))
    energy.update(maps, [torch.tensor(example.boxes) for example in examples])
    (first, second) = rows(records)
    assert (first.method, second.method, second.images) == ("boxes", "centre-gaussian", 7)
    assert second.cells["drop-softmax-whole"].mean == pytest.approx(drop.compute(), rel=1e-4)
    assert second.cells["energy"].mean == pytest.approx(energy.compute(), rel=1e-4)
    assert second.cells["energy"].low <= second.cells["energy"].mean <= second.cells["energy"].high
    assert "| boxes |" in table([first, second]) and "7 images" in table([first, second])


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    model, examples = digits_net(), read_images()[:8]

    class Stops(AllOnes):
        _calls = 0

        def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:
            self._calls += 1
            if self._calls == 2:
                raise KeyboardInterrupt
            return super().attribute(inputs, target)

    with pytest.raises(KeyboardInterrupt):
        run(model, {"all-ones": Stops(model)}, examples, DIGITS, Records(tmp_path, {}), batch_size=3)
    assert len(Records(tmp_path, {}).rows("all-ones")) == 3
    knowing = Boxes({i: example.boxes or [] for i, example in enumerate(examples)})
    run(model, {"all-ones": AllOnes(model), "boxes": knowing}, examples, DIGITS, Records(tmp_path, {}), batch_size=4)
    records = Records(tmp_path, {})
    for name in ("all-ones", "boxes"):
        assert [row["image"] for row in records.rows(name)] == [example.name for example in examples]
    whole = Records(tmp_path / "at once", {})
    run(model, {"all-ones": AllOnes(model)}, examples, DIGITS, whole, batch_size=8)
    for row, again in zip(records.rows("all-ones"), whole.rows("all-ones"), strict=True):
        for name in ("target", "reasons", *no_measures()):
            expected = again[name]
            assert row[name] == expected or float(row[name]) == pytest.approx(float(expected), rel=1e-3, abs=1e-3)


def test_what_cannot_be_measured_is_counted(tmp_path: Path) -> None:
    model = digits_net()
    good = read_images()[0]

    def broken() -> Image.Image:
        raise InputError("cut.png is not a PNG, JPEG or WebP picture.")

    examples = [
        good,
        Example("cut.png", broken, 3),
        Example("unlabelled", good.load),
        Example("boxless", good.load, 0),
        Example("outside", good.load, 0, [[70.0, 70.0, 80.0, 80.0]]),
    ]
    records = Records(tmp_path, {})
    run(model, {"all-ones": AllOnes(model)}, examples, DIGITS, records, "label")
    (row,) = rows(records)
    assert row.images == 3 and row.cells["energy"].count == 1
    assert row.reasons == {
        "picture cannot be read or cropped": 1,
        "no label": 1,
        "no box (energy pointing)": 1,
        "no box holds a pixel (energy pointing)": 1,
    }
    assert "1 × no label" in table([row])


class Zeros(AllOnes):
    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:
        return torch.zeros_like(super().attribute(inputs, target))


def test_maps_without_a_positive_part_leave_dashes(tmp_path: Path) -> None:
    model, records = digits_net(), Records(tmp_path, {})
    run(model, {"zeros": Zeros(model)}, read_images()[:2], DIGITS, records)
    (row,) = rows(records)
    assert all(cell.count == 0 for cell in row.cells.values()) and str(row.cells["energy"]) == "–"
    assert list(row.reasons.values()) == [2]


def test_arguments_that_cannot_be_used(tmp_path: Path) -> None:
    model, good, records = digits_net(), read_images()[0], Records(tmp_path, {})
    methods = {"all-ones": AllOnes(model)}
    with pytest.raises(InputError, match="target='best'"):
        run(model, methods, [good], DIGITS, records, "best")
    with pytest.raises(InputError, match="label 12, but the model knows 10"):
        run(model, methods, [Example("x", good.load, 12)], DIGITS, records, "label")
    with pytest.raises(InputError, match="several sizes"):
        wide = Example("wide", lambda: Image.new("L", (80, 64)))
        run(model, methods, [good, wide], Preprocessing(channels=1), records)
    with pytest.raises(InputError, match="no measurements yet"):
        rows(records)
    with pytest.raises(InputError, match="no method 'lime'"):
        make_methods(model, ["lime"])


def test_methods_without_a_common_image(tmp_path: Path) -> None:
    model, examples, records = digits_net(), read_images()[:2], Records(tmp_path, {})
    run(model, {"all-ones": AllOnes(model)}, examples[:1], DIGITS, records)
    run(model, {"zeros": Zeros(model)}, examples[1:], DIGITS, records)
    with pytest.raises(InputError, match="measured with every method"):
        rows(records)
