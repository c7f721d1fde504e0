"""Sentences as pictures and pages."""

from html.parser import HTMLParser

import numpy as np
import pytest

from fwdkern.errors import InputError
from fwdkern.viz import TextMap, TextRow, text_figure, text_page
from fwdkern.viz.text import token_colours
from tests.viz.pictures import render, words

HOSTILE = ["<script>alert(1)</script>", '"onmouseover="x', "a&b", "'", "</b></span>", "$x^2$", "😀", "字"]


def text(tokens: list[str], *scores: list[float], label: str = "positive") -> TextMap:
    rows = [TextRow(label, sum(values) + 0.5, 0.5, np.array(values)) for values in scores]
    return TextMap(tokens, [token != "odd" for token in tokens], rows, "completeness error 1e-7")


def red(pixels: np.ndarray) -> np.ndarray:
    return (pixels[..., 0].astype(int) - pixels[..., 2]) > 100


def test_colours_are_red_above_zero_and_blue_below() -> None:
    for score, strong in ((1.0, 0), (-1.0, 2)):
        found = token_colours(score, 1.0)
        assert found is not None and found[1] == "#ffffff"
        channels = [int(found[0][i : i + 2], 16) for i in (1, 3, 5)]
        assert max(channels) == channels[strong] > 2 * channels[2 - strong]
    light = token_colours(0.1, 1.0)
    assert light is not None and light[1] == "#1a1a1a"
    assert token_colours(0.01, 1.0) is None and token_colours(0.0, 0.0) is None


def test_every_token_and_score_is_in_the_figure() -> None:
    figure = text_figure(text(["a", "good", "odd", "film"], [0.0, 2.0, -1.0, 0.25], [0.0, 4.0, -2.0, 0.5]))
    written = words(figure)
    for expected in ("good", "odd", "+2.00", "−1.00", "+4.00", "+0.50", "positive 1.75", "completeness error 1e-7"):
        assert expected in written
    pixels = render(figure)
    assert red(pixels).any() and red(pixels[..., ::-1]).any()


def test_stronger_words_are_redder() -> None:
    figure = text_figure(text(["weak", "strong"], [0.3, 1.0]))
    pixels = render(figure)
    half = next(t.get_position()[0] for t in figure.texts if t.get_text() == "strong") * pixels.shape[1] - 8
    assert red(pixels[:, int(half) :]).sum() > 10 * max(red(pixels[:, : int(half)]).sum(), 1)


def test_long_sentences_break_into_lines_and_nothing_leaves_the_page() -> None:
    tokens = [f"word{index}" for index in range(120)] + ["x" * 5000]
    figure = text_figure(text(tokens, [0.1] * 121))
    render(figure)
    box = figure.bbox
    for written in figure.texts:
        extent = written.get_window_extent()
        assert extent.x0 >= 0 and extent.x1 <= box.x1 and extent.y0 >= 0 and extent.y1 <= box.y1
    assert len({t.get_position()[1] for t in figure.texts if t.get_text().startswith("word")}) > 5


@pytest.mark.filterwarnings("error")
def test_signs_that_the_font_lacks_are_replaced() -> None:
    figure = text_figure(text(HOSTILE, [1.0] * len(HOSTILE)))
    render(figure)
    assert "\N{REPLACEMENT CHARACTER}" in words(figure)


class _Page(HTMLParser):
    """Tags, attributes and text of a page as a browser would find them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.words: list[str] = []
        self._in_token = False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attributes}
        self._in_token = tag == "b"

    def handle_data(self, data: str) -> None:
        if self._in_token:
            self.words.append(data)
            self._in_token = False


def test_page_escapes_everything_and_needs_no_other_file() -> None:
    hostile = text(HOSTILE, [1.0, -1.0] * 4, label="<i>class</i>")
    page = text_page([hostile, text(["odd"], [0.0])])
    parsed = _Page(page)
    assert parsed.tags == {"html", "meta", "title", "style", "p", "section", "h2", "span", "b", "small"}
    assert parsed.names == {"lang", "charset", "name", "content", "class", "style"}
    assert parsed.words == [*HOSTILE, "odd"]
    assert "1 of 1 words unknown" in page and 'class="token unknown"' in page
    assert "http" not in page and "url(" not in page


def test_page_is_legible_in_the_light_and_in_the_dark() -> None:
    page = text_page([text(["plain", "good"], [0.0, 1.0])])
    assert "color-scheme: light dark" in page and "<b>plain</b>" in page
    assert '<b style="background:#' in page and ";color:#ffffff" in page


def test_scores_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"scores of shape \[3\] and the sentence 2 tokens"):
        text(["a", "b"], [1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="NaN"):
        text_figure(text(["a"], [float("nan")]))
