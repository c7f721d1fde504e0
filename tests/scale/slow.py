"""Writers that disturb a run, and a driver to be killed; workers import this."""

import errno
import sys
import time
from pathlib import Path
from typing import Any

from fwdkern.digits import digits_net
from fwdkern.scale import driver
from fwdkern.scale.shards import Write
from tests.scale.pictures import DIGITS, SHARD


class SlowWrite(Write):
    """Takes its time before every shard."""

    seconds = 0.3

    def _write(self, number: int, payload: bytes) -> bytes:
        time.sleep(self.seconds)
        return super()._write(number, payload)


class VerySlowWrite(SlowWrite):
    """So slow that a run of a few shards can be caught in the middle."""

    seconds = 2.0


class FullDisk(Write):
    """A disk that has no room for the third shard and what follows."""

    def _write(self, number: int, payload: bytes) -> bytes:
        if number >= 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super()._write(number, payload)


def main(inputs: str, out: str, address: str) -> Any:
    """A run on a cluster that is there already."""
    driver.Write = VerySlowWrite  # type: ignore[misc]
    return driver.run(
        [inputs],
        Path(out),
        digits_net(),
        DIGITS,
        name="digits",
        shard_size=SHARD,
        workers=1,
        threads=1,
        address=address,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
