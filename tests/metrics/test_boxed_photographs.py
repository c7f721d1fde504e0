"""Measures of maps that know nothing, on the boxes of real photographs."""

import json

import numpy as np
import pytest
import torch

from fwdkern.metrics import EnergyPointingGame, PointingGame
from fwdkern.preprocessing import Preprocessing
from tests.data import shared_data


def test_centre_and_constant_maps() -> None:
    entries = json.loads(shared_data("imagenet_val_bbox/boxes.json").read_text())
    steps = Preprocessing(3, resize=256, crop=(224, 224))
    boxes = [steps.map_boxes(entry["boxes"], (entry["height"], entry["width"])) for entry in entries]
    hits, shares = [], []
    for entry in entries:
        # The files' shorter side is 256 already, so that the crop alone moves a box.
        assert min(entry["height"], entry["width"]) == 256
        left, top = round((entry["width"] - 224) / 2), round((entry["height"] - 224) / 2)
        y, x = np.mgrid[:224, :224] + 0.5
        inside = np.zeros((224, 224), dtype=bool)
        for x0, y0, x1, y1 in entry["boxes"]:
            inside |= (x + left >= x0) & (x + left < x1) & (y + top >= y0) & (y + top < y1)
        hits.append(100.0 * inside[112, 112] if inside.any() else np.nan)
        shares.append(100.0 * inside.mean() if inside.any() else np.nan)
    centre = torch.zeros(len(entries), 224, 224)
    centre[:, 112, 112] = 1
    pointing, energy = PointingGame(tolerance=0), EnergyPointingGame()
    pointing.update(centre, boxes)
    energy.update(torch.ones_like(centre), boxes)
    np.testing.assert_array_equal(pointing.values(), hits)
    np.testing.assert_allclose(energy.values(), shares, rtol=1e-5)
    assert pointing.skipped == energy.skipped == {"no box holds a pixel": 1}  # cropped away
    assert pointing.values().nansum() / len(entries) == pytest.approx(75)
