"""Equation 4 on a network small enough to be written out."""

import pytest
import torch

from fwdkern.equation4 import equation4
from fwdkern.errors import InputError


def test_two_steps_by_hand() -> None:
    x = torch.tensor([[1.0, -2.0], [0.5, 1.0]]).double()
    u = torch.tensor([[0.3, -0.1], [0.2, 0.4]]).double()
    w = torch.tensor([[0.5, -0.2], [0.1, 0.7]]).double()
    v = torch.tensor([[1.0, -1.0]]).double()
    states = torch.tensor([[0.4, -0.6], [0.0, 0.2]]).double()  # the first unit is off at the second step
    outputs = torch.tensor([[0.0], [0.3]]).double()
    hidden, out = equation4(x, u, w, states, torch.tanh, v, outputs, torch.sigmoid)
    assert out is not None
    own = torch.tanh(torch.tensor([[0.3, 0.2], [0.2, -0.8]]).double())  # tanh(u · x_0), element by element
    torch.testing.assert_close(hidden[0, :, 0], own)
    later = torch.tanh(w @ own) * torch.tensor([[0.0], [1.0]])
    torch.testing.assert_close(hidden[1, :, 0], later)
    second = torch.tanh(torch.tensor([[0.15, -0.1], [0.1, 0.4]]).double())
    torch.testing.assert_close(hidden[1, :, 1], second * torch.tensor([[0.0], [1.0]]))
    assert hidden[0, :, 1].count_nonzero() == 0
    assert out[0].count_nonzero() == 0  # o_0 is 0
    torch.testing.assert_close(out[1, :, 0], torch.sigmoid(v @ later))
    torch.testing.assert_close(out[1, :, 1], torch.sigmoid(v @ second))  # without the switch of s_1, as printed


def test_shapes_that_do_not_fit() -> None:
    x = torch.zeros(3, 2)
    with pytest.raises(InputError, match="do not fit"):
        equation4(x, torch.zeros(4, 2), torch.zeros(4, 4), torch.zeros(2, 4))
