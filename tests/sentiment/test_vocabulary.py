"""Splitting sentences, and vocabularies that are read, written and refused."""

import json
from pathlib import Path

import pytest

from fwdkern.errors import InputError
from fwdkern.sentiment import MAX_TOKENS, Vocabulary, split
from fwdkern.sentiment.files import read_examples
from tests.data import shared_data


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A gripping, funny film", ["a", "gripping", ",", "funny", "film"]),
        ("It’s not bad; doesn't drag!", ["it", "'s", "not", "bad", ";", "does", "n't", "drag", "!"]),
        ("Slow. Then (at last) good...", ["slow", ".", "then", "(", "at", "last", ")", "good", "..."]),
        ("what?!and (why!)", ["what", "?!", "and", "(", "why", "!", ")"]),
        ("10,000 half-baked ideas by mr. x", ["10,000", "half-baked", "ideas", "by", "mr.", "x"]),
        ("two\tlines\nand\u2003spaces", ["two", "lines", "and", "spaces"]),
        ("fun\u200bny \x1b[31mred\x07 \u202eflip \udcff", ["funny", "[31mred", "flip"]),
        (" \x00 \u200b ", []),
    ],
)
def test_split(text: str, tokens: list[str]) -> None:
    assert split(text) == tokens


@pytest.mark.parametrize("name", ["train", "dev", "test"])
def test_sentences_that_are_split_already_stay_as_they_are(name: str) -> None:
    examples = read_examples(shared_data(f"text/sst2_{name}.tsv"))
    changed = [example.tokens for example in examples if split(" ".join(example.tokens)) != example.tokens]
    assert len(examples) > 800 and changed == []


def test_vocabulary_counts_words_and_reads_others_as_unknown() -> None:
    vocabulary = Vocabulary.of([["b", "a", "b"], ["a", "c"]])
    assert vocabulary.words == ["<unk>", "a", "b"]
    assert vocabulary.encode(["b", "c", "a", "<unk>"]) == [2, 0, 1, 0]


def test_sentences_of_no_words_and_of_too_many_are_refused() -> None:
    vocabulary = Vocabulary(["<unk>", "a"])
    assert len(vocabulary.encode(["a"] * MAX_TOKENS)) == MAX_TOKENS
    with pytest.raises(InputError, match=f"{MAX_TOKENS + 1} tokens, more than {MAX_TOKENS}; split"):
        vocabulary.encode(["a"] * (MAX_TOKENS + 1))
    with pytest.raises(InputError, match="empty; give at least one word"):
        vocabulary.encode([])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('["<unk>", "a"', "is not JSON"),
        ('{"<unk>": 0}', "not a JSON list of words"),
        ('["a", "b"]', "begins with '<unk>'"),
        ('["<unk>", 3]', "not a JSON list of words"),
        ("[]", "not a JSON list of words"),
        ('["<unk>", "a", "a"]', "holds 'a' more than once"),
        (None, "cannot be read"),
    ],
)
def test_files_that_are_no_vocabulary(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "vocabulary.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        Vocabulary.load(path)


def test_vocabulary_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps(["<unk>", "ça", "😀"]))
    assert Vocabulary.load(path).encode(["😀", "ça"]) == [2, 1]
