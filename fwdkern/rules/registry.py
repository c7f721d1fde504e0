"""Which rule freezes which ATen operator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fwdkern.rules.frozen import Frozen


@dataclass(frozen=True)
class Live:
    """A value that depends on the network's input: the tensor and the step of the tape that made it. ``gate`` says that
    it is there to switch others: it comes from a sigmoid or a softmax, by nothing but moves, copies and sums."""

    value: Tensor
    step: int
    gate: bool = False


class Call:
    """One operator call at run time; tensors that depend on the input are ``Live``, constants are plain.

    ``output`` is computed when it is first asked for. A rule that finds it on the way sets it.
    """

    def __init__(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any = None) -> None:
        self.target, self.args, self.kwargs = target, args, kwargs
        self._output = output

    @property
    def output(self) -> Any:
        if self._output is None:
            self._output = self.target(*(plain(argument) for argument in self.args), **self.kwargs)
        return self._output

    @output.setter
    def output(self, value: Any) -> None:
        self._output = value

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)


Rule = Callable[[Call], Frozen]
_RULES: dict[Any, tuple[str, Rule]] = {}


class NoRule(Exception):
    """A rule exists for the operator but not for this use of it; the message says which part."""


def register(name: str, *targets: Any) -> Callable[[Rule], Rule]:
    """Decorator: the function freezes these ATen overloads; ``name`` is how reports call the rule."""

    def add(rule: Rule) -> Rule:
        for target in targets:
            _RULES[target] = (name, rule)
        return rule

    return add


def find_rule(target: Any) -> tuple[str, Rule] | None:
    """The rule's name and function, or None where the operator has none."""
    return _RULES.get(target)


def known_operators() -> list[str]:
    """Names of all operators that have a rule, sorted, without their overloads."""
    return sorted({getattr(target, "_opname", None) or target.__name__ for target in _RULES})


def plain(value: Any) -> Any:
    """A ``Live`` argument's tensor; anything else as it is."""
    return value.value if isinstance(value, Live) else value
