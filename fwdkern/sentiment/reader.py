"""A network together with what turns sentences into its inputs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fwdkern.errors import InputError
from fwdkern.sentiment.vocabulary import Vocabulary


@dataclass(frozen=True)
class Reader:
    """A model of tokens [B, T] in evaluation mode, its vocabulary, and its class names where they are known.

    Raises InputError where the vocabulary is not as long as the model's embedding.
    """

    name: str
    model: nn.Module
    vocabulary: Vocabulary
    classes: list[str] | None

    def __post_init__(self) -> None:
        rows = {layer.num_embeddings for layer in self.model.modules() if isinstance(layer, nn.Embedding)}
        if rows and len(self.vocabulary) not in rows:
            raise InputError(
                f"The vocabulary has {len(self.vocabulary)} words, but the embedding of {self.name} has "
                f"{' or '.join(map(str, sorted(rows)))} rows; give the vocabulary the model was trained with."
            )

    def tokens(self, sentences: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """Split sentences as int64 [B, T], filled up at their ends, and their lengths [B]."""
        rows = [torch.tensor(self.vocabulary.encode(sentence)) for sentence in sentences]
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return padded, torch.tensor([len(row) for row in rows])
