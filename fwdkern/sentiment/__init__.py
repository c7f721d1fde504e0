"""The embedded default for text: a small trained recurrent network that tells good reviews from bad ones."""

from fwdkern.sentiment.files import load_reader, save_reader, sentiment_reader
from fwdkern.sentiment.network import CLASSES, SentimentNet
from fwdkern.sentiment.reader import Reader
from fwdkern.sentiment.sentences import Example, own_sentences
from fwdkern.sentiment.vocabulary import MAX_TOKENS, Vocabulary, split

__all__ = [
    "CLASSES",
    "MAX_TOKENS",
    "Example",
    "Reader",
    "SentimentNet",
    "Vocabulary",
    "load_reader",
    "own_sentences",
    "save_reader",
    "sentiment_reader",
    "split",
]
