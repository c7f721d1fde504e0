"""How much a visitor may use."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds of one visitor's worker and uploads, and of the number of visitors.

    Attributes:
        memory: bytes that a worker may hold; seconds: time that one request may take; opening: likewise for parsing a
        network; network_bytes, image_bytes: sizes of uploads; pixels: of one image; characters: of one sentence;
        inputs: how many a visitor may keep; sessions: visitors at a time, the longest unused one makes room;
        idle: seconds without a request after which a visitor's worker and files go.
    """

    memory: int = 4096 * MIB
    seconds: float = 180
    opening: float = 120
    network_bytes: int = 1024 * MIB
    image_bytes: int = 32 * MIB
    pixels: int = 40_000_000
    characters: int = 4000
    inputs: int = 32
    sessions: int = 8
    idle: float = 1800
