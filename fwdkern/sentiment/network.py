"""The architecture of the sentiment networks: an embedding, one recurrent layer, a linear head on its last state."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from fwdkern.errors import InputError

CLASSES = ["negative", "positive"]
KINDS = ("lstm", "rnn")


class SentimentNet(nn.Module):
    """Tokens [B, T] to logits [B, 2].

    kind: "lstm", or "rnn", a plain tanh network. words: size of the vocabulary, with its entry for unknown words.
    dropout: of words, embeddings and the last state while training. Weights are random until they are loaded.
    """

    def __init__(self, kind: str, words: int, embedding: int, hidden: int, dropout: float = 0.5) -> None:
        super().__init__()
        if kind not in KINDS:
            raise InputError(f"The network's kind is {kind!r}; expected one of {', '.join(KINDS)}.")
        self.kind = kind
        self.dropout = dropout
        self.embedding = nn.Embedding(words, embedding)
        self.recurrent: nn.LSTM | nn.RNN
        if kind == "lstm":
            self.recurrent = nn.LSTM(embedding, hidden, batch_first=True)
        else:
            self.recurrent = nn.RNN(embedding, hidden, batch_first=True)
        self.head = nn.Linear(hidden, len(CLASSES))
        self._initialise(hidden)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """lengths: int64 [B] where sentences are padded at their ends; without it every sentence has T tokens."""
        x: Any = F.dropout(self.embedding(tokens), self.dropout, self.training)  # [B, T, embedding]
        if lengths is not None:
            x = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, state = self.recurrent(x)
        last = (state[0] if self.kind == "lstm" else state)[-1]  # [B, hidden]
        return self.head(F.dropout(last, self.dropout, self.training))

    @torch.no_grad()
    def _initialise(self, hidden: int) -> None:
        nn.init.normal_(self.embedding.weight, std=0.3)
        weights = dict(self.recurrent.named_parameters())
        if self.kind == "lstm":
            weights["bias_ih_l0"][hidden : 2 * hidden] = 1  # forget gates that begin open
        else:
            # States that begin by adding up what is read (Le, Jaitly & Hinton 2015), a little forgetful.
            weights["weight_hh_l0"].copy_(0.95 * torch.eye(hidden))
            nn.init.xavier_uniform_(weights["weight_ih_l0"])
