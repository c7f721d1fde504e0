"""Sentences coloured by their scores as one HTML page that needs no other file."""

from collections.abc import Sequence
from html import escape

from fwdkern.viz.sheet import number
from fwdkern.viz.text import CAPTION, TextMap, TextRow, token_colours

_HEAD = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>fwdkern: words by their scores</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.4 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  background: light-dark(#ffffff, #16181c); color: light-dark(#1a1a1a, #e8e8e8); }
section { border-top: 1px solid light-dark(#c9c9c9, #44474d); padding: 1rem 0; }
h2 { font-size: 1rem; margin: 1rem 0 .5rem; }
p { margin: .25rem 0; }
.note { color: light-dark(#6e6e6e, #a2a6ad); font-size: .85rem; }
.token { display: inline-block; text-align: center; margin: 0 .1rem .4rem; }
.token b { display: block; font-weight: normal; padding: 0 .35rem; border-radius: .2rem; }
.token small { font-size: .7rem; color: light-dark(#6e6e6e, #a2a6ad); }
.unknown b { text-decoration: underline dotted; }
</style>
"""


def text_page(texts: Sequence[TextMap]) -> str:
    """Return the page: a section per sentence, a line of words per row; everything from outside is escaped."""
    return f'{_HEAD}<p class="note">{" ".join(CAPTION)}</p>\n' + "".join(_section(text) for text in texts) + "</html>\n"


def _section(text: TextMap) -> str:
    unknown = sum(not known for known in text.known)
    notes = [text.check] + ([f"{unknown} of {len(text.tokens)} words unknown"] if unknown else [])
    rows = "".join(_row(text, row) for row in text.rows)
    return f'<section>\n{rows}<p class="note">{escape("; ".join(notes))}</p>\n</section>\n'


def _row(text: TextMap, row: TextRow) -> str:
    words = " ".join(
        _token(token, known, float(score), text.limit)
        for token, known, score in zip(text.tokens, text.known, row.scores, strict=True)
    )
    return f"<h2>{escape(row.heading)}</h2>\n<p>{words}</p>\n"


def _token(token: str, known: bool, score: float, limit: float) -> str:
    colours = token_colours(score, limit)
    style = f' style="background:{colours[0]};color:{colours[1]}"' if colours else ""
    kind = "token" if known else "token unknown"
    return f'<span class="{kind}"><b{style}>{escape(token)}</b><small>{number(score)}</small></span>'
