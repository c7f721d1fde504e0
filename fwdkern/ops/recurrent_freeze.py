"""The values of a recurrent layer, step by step, and the coefficients that its recurrence has once they are frozen."""

import torch
from torch import Tensor

from fwdkern.errors import InputError
from fwdkern.ops import native
from fwdkern.ops.backend import choose
from fwdkern.ops.checks import check_devices, check_list
from fwdkern.ops.panels import in_panels

OP = "recurrent_freeze"

# What is recorded at every step, by the kind of the cell; `gates` is how many rows of a weight a unit has.
FIELDS = {
    "rnn_tanh": ("gain", "state"),
    "rnn_relu": ("gain", "state"),
    "lstm": ("gain", "keep", "expose", "state"),
    "gru": ("gain", "feed", "keep", "state"),
}
GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}

torch.library.define(
    "fwdkern::recurrent_freeze",
    "(Tensor driven, Tensor weight, Tensor? bias, Tensor first, Tensor start, Tensor lengths, str kind, "
    "bool descending, Tensor(a!) out) -> ()",
)


def recurrent_freeze(
    driven: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    first: Tensor,
    start: Tensor,
    lengths: Tensor,
    kind: str,
    descending: bool = False,
    backend: str | None = None,
) -> dict[str, Tensor]:
    """Run one direction of a recurrent layer and freeze it:

        state[t] = keep[t] * state[p] + gain[t] * (drive of the state at t) + feed[t] * (weight of the state @ h[p])
        h[t]     = expose[t] * state[t]                                              p: the step before t

    The state is h, of an LSTM the cell c. Gates are frozen as factors, a tanh as tanh(z) / z. A field that is absent
    is 1 (expose), 0 (keep) or the same as gain (feed).

    driven: [B, T, gates · H], weight_ih @ x + bias_ih, in torch's order of gates.
    weight: [gates · H, H], from what is exposed to the gates; bias: [gates · H] or None, added to its product.
    first: [B, gates · H], that product at the first step, without bias.
    start: [B, H], the state before the first step.
    lengths: int64 [B]; steps from there on are padding, whose fields are 0.
    kind: one of FIELDS; descending: from the last step to the first.
    Returns the fields of the kind, each [B, T, H].
    """
    if kind not in FIELDS:
        raise InputError(f"{OP}: kind={kind!r} is not one of {', '.join(map(repr, FIELDS))}.")
    driven, first, start = driven.contiguous(), first.contiguous(), start.contiguous()
    choice = choose(OP, driven.device, driven.dtype, tuple(driven.shape), backend)
    out = driven.new_empty(len(FIELDS[kind]), *driven.shape[:2], start.shape[-1])
    call = recurrent_freeze_reference if choice.name == "torch" else torch.ops.fwdkern.recurrent_freeze
    call(driven, weight, bias, first, start, lengths, kind, descending, out)
    return dict(zip(FIELDS[kind], out, strict=True))


def step(kind: str, driven: Tensor, recurrent: Tensor, state: Tensor) -> dict[str, Tensor]:
    """One step: `driven` and `recurrent` are [B, gates · H], both with their biases, `state` [B, H]."""
    if kind == "lstm":
        i, f, g, o = (driven + recurrent).chunk(4, 1)
        keep, enter = f.sigmoid(), i.sigmoid()
        now = keep * state + enter * g.tanh()
        return {"gain": enter * tanh_ratio(g), "keep": keep, "expose": o.sigmoid() * tanh_ratio(now), "state": now}
    if kind == "gru":
        (r, z, n), (hr, hz, hn) = driven.chunk(3, 1), recurrent.chunk(3, 1)
        reset, keep = (r + hr).sigmoid(), (z + hz).sigmoid()
        inner = n + reset * hn
        gain = (1 - keep) * tanh_ratio(inner)
        return {"gain": gain, "feed": gain * reset, "keep": keep, "state": keep * state + (1 - keep) * inner.tanh()}
    z = driven + recurrent
    if kind == "rnn_relu":
        return {"gain": (z > 0).to(z.dtype), "state": z.relu()}
    return {"gain": tanh_ratio(z), "state": z.tanh()}


def tanh_ratio(z: Tensor) -> Tensor:
    """tanh(z) / z, 1 at 0."""
    zero = z == 0
    return torch.where(zero, 1, z.tanh() / z.masked_fill(zero, 1))


def order(steps: int, descending: bool) -> range:
    """The steps as a direction takes them."""
    return range(steps - 1, -1, -1) if descending else range(steps)


def recurrent_freeze_reference(
    driven: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    first: Tensor,
    start: Tensor,
    lengths: Tensor,
    kind: str,
    descending: bool,
    out: Tensor,
) -> None:
    """The same in plain torch, step by step."""
    _check(driven, weight, bias, first, start, lengths, kind, out)
    state, recurrent = start, first
    for t in order(driven.shape[1], descending):
        fields = step(kind, driven[:, t], recurrent if bias is None else recurrent + bias, state)
        inside = (t < lengths)[:, None]
        for field, values in zip(out, fields.values(), strict=True):
            field[:, t] = values.where(inside, 0)
        # Padding leaves the state as it was: a descending direction meets it first.
        state = fields["state"].where(inside, state)
        exposed = fields["state"] * fields["expose"] if kind == "lstm" else fields["state"]
        recurrent = (exposed @ weight.mT).where(inside, recurrent)


def _check(
    driven: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    first: Tensor,
    start: Tensor,
    lengths: Tensor,
    kind: str,
    out: Tensor,
) -> None:
    hidden = start.shape[-1]
    rows = GATES[kind] * hidden
    check_list(OP, "driven", driven, driven.dtype, (-1, -1, rows))
    batch, steps = driven.shape[:2]
    if weight.shape != (rows, hidden) or weight.dtype != driven.dtype:
        raise InputError(
            f"{OP}: weight is {weight.dtype} {list(weight.shape)}; expected {driven.dtype} {[rows, hidden]}."
        )
    if bias is not None:
        check_list(OP, "bias", bias, driven.dtype, (rows,))
    check_list(OP, "first", first, driven.dtype, (batch, rows))
    check_list(OP, "start", start, driven.dtype, (batch, hidden))
    check_list(OP, "lengths", lengths, torch.int64, (batch,))
    check_list(OP, "out", out, driven.dtype, (len(FIELDS[kind]), batch, steps, hidden))
    others = {"weight": weight, "bias": bias, "first": first, "start": start, "lengths": lengths, "out": out}
    check_devices(OP, "driven", driven.device, others)


torch.library.impl("fwdkern::recurrent_freeze", "CompositeExplicitAutograd", recurrent_freeze_reference)


@torch.library.impl("fwdkern::recurrent_freeze", "CPU")
def _recurrent_freeze_cpu(
    driven: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    first: Tensor,
    start: Tensor,
    lengths: Tensor,
    kind: str,
    descending: bool,
    out: Tensor,
) -> None:
    library, _ = native.load()
    if library is None or driven.dtype != torch.float32:
        recurrent_freeze_reference(driven, weight, bias, first, start, lengths, kind, descending, out)
        return
    _check(driven, weight, bias, first, start, lengths, kind, out)
    isa = native.isa(library)
    packed = in_panels(weight, library.recurrent_panel(isa))
    library.recurrent_freeze(
        list(FIELDS).index(kind),
        driven.data_ptr(),
        (*driven.shape[:2], start.shape[1]),
        packed.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        first.data_ptr(),
        start.data_ptr(),
        lengths.data_ptr(),
        descending,
        out.data_ptr(),
        isa,
        native.threads(),
    )


@torch.library.register_fake("fwdkern::recurrent_freeze")
def _recurrent_freeze_fake(
    driven: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    first: Tensor,
    start: Tensor,
    lengths: Tensor,
    kind: str,
    descending: bool,
    out: Tensor,
) -> None:
    """The op only writes into `out`."""
