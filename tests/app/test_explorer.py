"""What is told about layers that cannot be explained."""

import numpy as np
import pytest

from fwdkern.app.explorer import Explorer
from fwdkern.app.input_source import samples
from fwdkern.app.network_source import NetworkSource
from fwdkern.errors import UnsupportedOperatorError
from fwdkern.preprocessing import Preprocessing


def test_layers_behind_an_operator_without_a_rule_are_marked_and_the_others_work() -> None:
    source = NetworkSource("unruly", "unruly", "tests.app.networks:Unruly")
    explorer = Explorer(source, Preprocessing(1, resize=16, crop=(16, 16)), 10_000_000)
    reasons = {layer["name"]: layer["reason"] for layer in explorer.describe()["layers"]}
    assert reasons["conv"] == "" and "no relevance rule" in reasons["unruly"]
    assert reasons["head"].startswith("behind unruly: ")
    arrays, about = explorer.unit(samples()[0], "conv", 1, 4, 4, None)
    assert about["share"] is None and "rule" in about["reason"]
    assert float(arrays["map"].sum()) == pytest.approx(about["value"], abs=1e-5)
    with pytest.raises(UnsupportedOperatorError):
        explorer.class_map(samples()[0], None)
    with pytest.raises(UnsupportedOperatorError):
        explorer.unit(samples()[0], "unruly", 0, 0, 0, None)
    maps, told = explorer.channels(samples()[0], "unruly", None, "activation", 0)
    assert np.isfinite(maps["maps"]).all() and told["channels"] == 3
