"""The models: embedding → core → linear. Ids in, logits out, nothing else.

Letters: `T` steps, `B` lanes, `V` vocabulary, `E` embedding, `O` size of the core's output.

`CharLM` predicts the next character from those before it, `ClozeLM` each character from those around it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from charlstm.cells import State
from charlstm.networks.cores import NO_MASKS, Bidirectional, Masks, build_core
from charlstm.settings import ModelSettings


class CharLM(nn.Module):
    """A character-level language model: P(next character | characters so far)."""

    def __init__(self, vocab_size: int, settings: ModelSettings, *, seed: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, settings.embedding_size)
        self.core = build_core(settings)
        self.output = nn.Linear(self.core.output_size, vocab_size)
        _initialise(self, settings, seed)

    def forward(
        self,
        ids: Tensor,
        state: State | None = None,
        *,
        masks: Masks = NO_MASKS,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, State]:
        """Logits of the character after each of the given ones, and the state after the last.

        ids: (T, B) integers below V. state: as `Core.forward` takes and returns it, None for zeros.
        masks: dropout masks from `Core.draw_masks`. dtype: the precision of the matrix products.
        Returns logits (T, B, V) in float32 or wider, and the state.
        """
        x = self.embedding(ids).to(dtype)  # (T, B, E)
        x, state = self.core(x, state, masks=masks)  # (T, B, O)
        return _logits(self.output, x), state


class ClozeLM(nn.Module):
    """P(character | those before it and those after it): what stands in a gap.

    The logits at t see the forward state before t and the backward state after t, so the character at t itself does
    not reach them. Not a language model of the text: its figures do not compare with those of next characters.
    """

    def __init__(self, vocab_size: int, settings: ModelSettings, *, seed: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, settings.embedding_size)
        self.core = Bidirectional(build_core(settings), build_core(settings))
        self.output = nn.Linear(2 * self.core.forwards.output_size, vocab_size)
        _initialise(self, settings, seed)

    def forward(
        self,
        ids: Tensor,
        _state: State | None = None,
        *,
        masks: tuple[Masks, Masks] = (NO_MASKS, NO_MASKS),
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, State]:
        """Logits (T, B, V) of each of the given characters (T, B) from those around it, and an empty state.

        No state is carried: the backward direction would need the text to come. An id below 0 is no character but
        comes after the end of a lane's text.
        """
        empty = ids < 0
        lengths = (~empty).sum(0) if bool(empty.any()) else None
        x = self.embedding(ids.clamp(min=0)).to(dtype)  # (T, B, E)
        ahead, back = self.core(x, lengths=lengths, masks=masks).chunk(2, dim=-1)  # (T, B, O) each
        nothing = torch.zeros_like(ahead[:1])
        around = torch.cat([torch.cat([nothing, ahead[:-1]]), torch.cat([back[1:], nothing])], dim=-1)  # (T, B, 2·O)
        return _logits(self.output, around), ()


@torch.no_grad()
def inherit_weights(
    model: CharLM | ClozeLM, weights: Mapping[str, NDArray[Any]], rows: Sequence[int], their_rows: Sequence[int]
) -> None:
    """Give a model the weights of another of the same sizes that has a vocabulary of its own.

    rows, their_rows: the ids of the symbols that both know; the rows of the others stay as they were drawn.
    """
    for name, parameter in model.named_parameters():
        theirs = torch.from_numpy(weights[name])
        if name.startswith("core."):
            parameter.copy_(theirs)
        else:  # the embedding and the output have a row a symbol
            parameter[list(rows)] = theirs[list(their_rows)]


def _logits(output: nn.Linear, x: Tensor) -> Tensor:
    """(T, B, O) to logits (T, B, V) in x's precision, given as float32 or wider."""
    logits = F.linear(x, output.weight.to(x.dtype), output.bias.to(x.dtype))
    return logits.to(torch.promote_types(x.dtype, torch.float32))


@torch.no_grad()
def _initialise(model: CharLM | ClozeLM, settings: ModelSettings, seed: int) -> None:
    """Embeddings N(0, 1); an output layer so small that the first loss is ln V, a uniform guess."""
    generator = torch.Generator().manual_seed(seed)
    model.embedding.weight.normal_(generator=generator)
    model.core.initialise(forget_bias=settings.forget_bias, generator=generator)
    model.output.weight.normal_(std=0.01, generator=generator)
    model.output.bias.zero_()
