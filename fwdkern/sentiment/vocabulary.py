"""Words as numbers: splitting a sentence, and the vocabulary that a network was trained with."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fwdkern.errors import InputError

UNKNOWN = "<unk>"
MAX_TOKENS = 512

# Control characters, invisible formatting and lone surrogates; a terminal would obey some of them.
_UNPRINTABLE = ("Cc", "Cf", "Cs")
_CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|re|ve|ll|d|m))(?!\w)")
# Runs of ! and ? stay together, and marks inside numbers where they are.
_BEFORE_MARK = re.compile(r'((?<=[^\s!?])[!?]+|(?<=\S)[,;:()"])(?!\d)')
_AFTER_MARK = re.compile(r'(?<!\d)([!?]+(?![!?])|[,;:()"])(?=\S)')
_STOP = re.compile(r"(?<=[^\s.])(\.+)(?=\s*$|\s+[A-Z])")


def split(text: str) -> list[str]:
    """Split a sentence at its whitespace, in lower case, with punctuation, n't and 's as words of their own.

    Control characters and invisible ones are left out. Text that is split already stays as it is.
    """
    text = "".join(c if c.isspace() or unicodedata.category(c) not in _UNPRINTABLE else "" for c in text)
    text = _STOP.sub(r" \1", text.replace("’", "'")).lower()
    for pattern, spaced in ((_CLITIC, r" \1"), (_BEFORE_MARK, r" \1"), (_AFTER_MARK, r"\1 ")):
        text = pattern.sub(spaced, text)
    return text.split()


@dataclass(frozen=True)
class Vocabulary:
    """The words a network knows, in the order of its embedding's rows; the first stands for all others."""

    words: Sequence[str]

    @classmethod
    def of(cls, sentences: Iterable[Sequence[str]], at_least: int = 2) -> "Vocabulary":
        """All words that occur `at_least` times in split sentences; the rest are unknown ones."""
        counts = Counter(word for sentence in sentences for word in sentence)
        return cls([UNKNOWN, *sorted(word for word, count in counts.items() if count >= at_least)])

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read a JSON list of words; raises InputError where the file is not one."""
        try:
            words = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"The vocabulary {path} cannot be read ({error.strerror or error}).") from error
        except ValueError as error:
            raise InputError(f"The vocabulary {path} is not JSON ({error}); is the file complete?") from error
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words) or words[:1] != [UNKNOWN]:
            raise InputError(f"The vocabulary {path} is not a JSON list of words that begins with {UNKNOWN!r}.")
        if len(set(words)) < len(words):
            twice = next(word for word, count in Counter(words).items() if count > 1)
            raise InputError(f"The vocabulary {path} holds {twice!r} more than once.")
        return cls(words)

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, tokens: Sequence[str]) -> list[int]:
        """The row of every token; 0 for unknown ones. Raises InputError for none and for more than MAX_TOKENS."""
        if not tokens:
            raise InputError("The sentence is empty; give at least one word.")
        if len(tokens) > MAX_TOKENS:
            raise InputError(
                f"The sentence has {len(tokens)} tokens, more than {MAX_TOKENS}; split it into several sentences."
            )
        return [self._rows.get(token, 0) for token in tokens]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {word: row for row, word in enumerate(self.words)}
