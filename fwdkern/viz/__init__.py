"""Pictures of relevance maps: matplotlib figures without global state, saved as PNG."""

from fwdkern.viz.channels import channel_grid
from fwdkern.viz.compare import compare
from fwdkern.viz.save import save
from fwdkern.viz.units import unit_grid

__all__ = ["channel_grid", "compare", "save", "unit_grid"]
