"""The sentiment networks: lengths, the shipped weights, and maps of both kinds."""

import pytest
import torch

import fwdkern
from fwdkern.errors import InputError
from fwdkern.sentiment import Reader, SentimentNet, own_sentences, sentiment_reader


@pytest.mark.parametrize("kind", ["lstm", "rnn"])
def test_padding_behind_a_sentence_changes_nothing(kind: str) -> None:
    torch.manual_seed(0)
    net = SentimentNet(kind, 20, 5, 7).eval()
    tokens = torch.randint(20, (3, 9))
    lengths = torch.tensor([4, 9, 1])
    with torch.no_grad():
        together = net(tokens, lengths)
        alone = torch.cat([net(row[:length][None]) for row, length in zip(tokens, lengths.tolist(), strict=True)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("kind", ["lstm", "rnn"])
def test_maps_sum_to_the_logits(kind: str) -> None:
    torch.manual_seed(0)
    net = SentimentNet(kind, 20, 5, 7).eval()
    fused = fwdkern.fuse(net, torch.randint(20, (1, 6)))
    tokens = torch.randint(20, (2, 11))
    result = fused.attribute(tokens, "all", bias="separate", strict=True)
    assert result.scores.shape == (2, 2, 11) and result.features == "tokens"
    torch.testing.assert_close(result.scores.sum(2) + result.bias, net(tokens).detach())


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(InputError, match="'gru'; expected one of lstm, rnn"):
        SentimentNet("gru", 20, 5, 7)


def test_shipped_reader_knows_good_from_bad() -> None:
    reader = sentiment_reader()
    examples = own_sentences(300, seed=1234)  # not the sentences it was trained on, but for a few
    with torch.no_grad():
        answers = reader.model(*reader.tokens([example.tokens for example in examples])).argmax(1)
    right = (answers == torch.tensor([example.label for example in examples])).float().mean()
    assert right > 0.93


def test_vocabulary_of_another_length_is_refused() -> None:
    reader = sentiment_reader()
    net = SentimentNet("rnn", 20, 5, 7)
    with pytest.raises(InputError, match="words, but the embedding of mine has 20 rows"):
        Reader("mine", net, reader.vocabulary, None)
