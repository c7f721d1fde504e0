"""The project's own sentences."""

from fwdkern.sentiment import own_sentences
from fwdkern.sentiment.sentences import _BAD, _GOOD


def test_sentences_differ_are_balanced_and_come_again() -> None:
    drawn = own_sentences(400, seed=3)
    assert drawn == own_sentences(400, seed=3) != own_sentences(400, seed=4)
    assert len({tuple(example.tokens) for example in drawn}) == 400
    assert sum(example.label for example in drawn) == 200


def test_no_word_is_both_good_and_bad() -> None:
    assert not set(_GOOD) & set(_BAD)
    assert len(set(_GOOD)) == len(_GOOD) and len(set(_BAD)) == len(_BAD)
