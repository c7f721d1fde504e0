"""The words that options of a run are chosen from."""

from enum import StrEnum

from fwdkern.errors import InputError


class Maps(StrEnum):
    """What is computed of each input."""

    RELEVANCE = "relevance"
    SALIENCY = "saliency"
    CHANNELS = "channels"
    UNITS = "units"
    DECOMPOSITION = "decomposition"
    CONTRIBUTIONS = "contributions"


class Keep(StrEnum):
    """Which maps are kept."""

    MAPS = "maps"
    VALUES = "values"
    BEST = "best"


class Dtype(StrEnum):
    """Of the maps on disk."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"


class Measure(StrEnum):
    """Of a class map: drop and increase of the softmax score with the upper half of the pixels kept, and the areas
    under the insertion and deletion curves."""

    DROP = "drop"
    INCREASE = "increase"
    INSERTION = "insertion"
    DELETION = "deletion"


class Format(StrEnum):
    """Of the shards."""

    ZARR = "zarr"
    PARQUET = "parquet"


def choice(name: str, value: str, known: type[StrEnum]) -> StrEnum:
    """The member of a vocabulary that a word means; raises InputError if there is none."""
    try:
        return known(value)
    except ValueError as error:
        raise InputError(f"{name}={value!r} is not one of {', '.join(repr(str(word)) for word in known)}") from error
