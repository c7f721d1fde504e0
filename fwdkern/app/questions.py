"""What the page may ask, checked before it goes anywhere."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fwdkern.errors import InputError

_Name = Annotated[str, Field(max_length=300)]
_Index = Annotated[int, Field(ge=0, le=2**31)]
_Side = Annotated[int, Field(ge=1, le=4096)]


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Look(_Question):
    """The input as the network gets it."""


class ClassMap(_Question):
    """The relevance map of a class, None for the top one."""

    target: _Index | None = None


class Saliency(_Question):
    """One method's map of a class."""

    method: _Name
    target: _Index | None = None
    parameters: dict[_Name, bool | int | float | _Name] = Field(default_factory=dict, max_length=20)


class Channels(_Question):
    """One page of a layer's channels."""

    layer: _Name
    target: _Index | None = None
    sort: Literal["activation", "relevance", "number"] = "activation"
    page: _Index = 0


class Channel(_Question):
    """One channel's values at its positions."""

    layer: _Name
    channel: _Index
    target: _Index | None = None


class ChannelMap(_Question):
    """The map over the input of a channel's sum."""

    layer: _Name
    channel: _Index


class Unit(_Question):
    """One unit."""

    layer: _Name
    channel: _Index
    row: _Index
    column: _Index
    target: _Index | None = None


QUESTIONS: dict[str, type[_Question]] = {
    "look": Look,
    "class_map": ClassMap,
    "saliency": Saliency,
    "channels": Channels,
    "channel": Channel,
    "channel_map": ChannelMap,
    "unit": Unit,
}


class NetworkName(_Question):
    """A network without upload."""

    name: _Name


class Sentence(_Question):
    """An input for networks that read text."""

    text: str


class Sample(_Question):
    """A built-in picture."""

    number: _Index


class Steps(_Question):
    """Changed preprocessing, see `fwdkern.preprocessing.Preprocessing`."""

    resize: _Side | None = None
    size: tuple[_Side, _Side] | None = None
    crop: tuple[_Side, _Side] | None = None
    mean: list[float] = Field(min_length=1, max_length=3)
    std: list[float] = Field(min_length=1, max_length=3)

    def arguments(self) -> dict[str, Any]:
        """As `Preprocessing` takes them."""
        return self.model_dump()


def question(name: str) -> type[_Question]:
    """The model of a question; raises InputError for one that there is not."""
    if name not in QUESTIONS:
        raise InputError(f"There is no question {name!r}; there are {', '.join(QUESTIONS)}.")
    return QUESTIONS[name]
