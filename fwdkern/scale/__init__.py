"""Maps of very many inputs on Ray: `run`, `map_batches` and `open`; needs the extra ``fwdkern[scale]``."""

from fwdkern.scale.dataset import map_batches
from fwdkern.scale.driver import Event, Summary, run
from fwdkern.scale.gallery import gallery
from fwdkern.scale.inputs import Columns
from fwdkern.scale.results import Results, open
from fwdkern.scale.work import Work

__all__ = [
    "Columns",
    "Event",
    "Results",
    "Summary",
    "Work",
    "gallery",
    "map_batches",
    "open",
    "run",
]
