"""Sentences whose words are coloured by their scores: a figure, and the colours that the other forms share."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from fwdkern.errors import InputError
from fwdkern.viz.scale import COLOURS, colour_limit
from fwdkern.viz.sheet import GREY, INK, LINE, Page, font, line_height, number, shorten, text_width

CAPTION = (
    "Red raises the value, blue lowers it. The numbers of the words, and the biases where they are named, sum to it.",
    "Words that the vocabulary does not hold are underlined.",
)
_FAINT = 0.04  # of the limit: weaker scores get no colour
_WORD, _NUMBER = 9.0, 6.0  # font sizes
_WIDTH, _MARGIN = 1100, 32  # screen pixels


@dataclass(frozen=True)
class TextRow:
    """What is explained, for example "positive", its value and one score per token [T].

    bias: the part of the value that no token has; None where the scores hold it.
    """

    label: str
    value: float
    bias: float | None
    scores: np.ndarray

    @property
    def heading(self) -> str:
        """Label, value, and the part of it that no token has."""
        text = f"{self.label} {number(self.value)}"
        return text if self.bias is None else f"{text}, of which biases {number(self.bias)}"


@dataclass(frozen=True)
class TextMap:
    """One sentence with all rows that explain it; known: which tokens the vocabulary holds [T].

    Raises InputError for scores that are not one finite number per token.
    """

    tokens: Sequence[str]
    known: Sequence[bool]
    rows: Sequence[TextRow]
    check: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if row.scores.shape != (len(self.tokens),) or len(self.known) != len(self.tokens):
                raise InputError(
                    f"The row {row.label!r} has scores of shape {list(row.scores.shape)} and the sentence "
                    f"{len(self.tokens)} tokens, {len(self.known)} of them marked as known or not; expected one each."
                )

    @cached_property
    def limit(self) -> float:
        """The score of the strongest colour; all rows share it."""
        return colour_limit([row.scores for row in self.rows], 100)


def token_colours(score: float, limit: float) -> tuple[str, str] | None:
    """Background and ink of a token as #rrggbb; None where the score is too faint for any colour."""
    if limit == 0 or abs(score) < _FAINT * limit:
        return None
    background = COLOURS((score / limit + 1) / 2)[:3]
    bright = float(np.dot(background, (0.299, 0.587, 0.114)))
    return to_hex(background), INK if bright > 0.5 else "#ffffff"


def text_figure(text: TextMap) -> Figure:
    """Draw every row of a sentence: its words on their colours, their scores below them."""
    room = _WIDTH - 2 * _MARGIN
    lines = _broken(text, room)
    word, small, heading = line_height(_WORD), line_height(_NUMBER), line_height(8.5)
    step = word + small + 14
    of_row = heading + 10 + len(lines) * step + 14
    page = Page(_WIDTH, 2 * _MARGIN + len(text.rows) * of_row + len(CAPTION) * small)
    for index, row in enumerate(text.rows):
        top = _MARGIN + index * of_row
        if index == 0:
            page.text(_MARGIN + room, top + 2, text.check, 7.5, GREY, align="right")
        page.text(_MARGIN, top, shorten(row.heading, room * 2 / 3, 8.5, bold=True), 8.5, INK, bold=True)
        for line, tokens in enumerate(lines):
            y = top + heading + 10 + line * step
            for token, left, width, shown in tokens:
                colours = token_colours(float(row.scores[token]), text.limit)
                if colours is not None:
                    page.fill(left, y, width, word + 4, colours[0])
                page.text(left + 6, y + 1, shown, _WORD, INK if colours is None else colours[1])
                if not text.known[token]:
                    page.fill(left + 6, y + word + 1, width - 12, 2, INK if colours is None else colours[1])
                page.text(left + width // 2, y + word + 7, _signed(row.scores[token]), _NUMBER, GREY, align="center")
        page.fill(_MARGIN, top + of_row - 9, room, 1, LINE)
    for index, sentence in enumerate(CAPTION):
        page.text(_MARGIN, page.height - _MARGIN - (len(CAPTION) - index) * small, sentence, _NUMBER, GREY)
    return page.figure


def _broken(text: TextMap, room: int) -> list[list[tuple[int, int, int, str]]]:
    """Lines of tokens: index, left edge, width with its rim, what is written."""
    lines: list[list[tuple[int, int, int, str]]] = [[]]
    left = _MARGIN
    for index, token in enumerate(text.tokens):
        shown = shorten(_drawable(token), room - 12, _WORD)
        numbers = max((text_width(_signed(row.scores[index]), _NUMBER) for row in text.rows), default=0)
        width = round(max(text_width(shown, _WORD) + 12, numbers + 4))
        if left + width > _MARGIN + room and lines[-1]:
            lines.append([])
            left = _MARGIN
        lines[-1].append((index, left, width, shown))
        left += width + 4
    return lines


def _drawable(token: str) -> str:
    """The token with a replacement character for every sign that the font lacks."""
    known = get_font(findfont(font(_WORD, False))).get_charmap()
    return "".join(c if ord(c) in known else "\N{REPLACEMENT CHARACTER}" for c in token)


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
