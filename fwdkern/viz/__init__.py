"""Pictures of relevance maps: matplotlib figures without global state, saved as PNG; sentences as HTML too."""

from fwdkern.viz.channels import channel_grid
from fwdkern.viz.compare import compare
from fwdkern.viz.save import save
from fwdkern.viz.text import TextMap, TextRow, text_figure
from fwdkern.viz.text_page import text_page
from fwdkern.viz.units import unit_grid

__all__ = ["TextMap", "TextRow", "channel_grid", "compare", "save", "text_figure", "text_page", "unit_grid"]
