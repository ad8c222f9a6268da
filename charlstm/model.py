"""`CharLM`: embedding → core → linear. Ids in, logits and the next state out, nothing else.

Letters: `T` steps, `B` lanes, `V` vocabulary, `E` embedding, `H` hidden, `L` layers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlstm.config import ModelSettings
from charlstm.recurrent import State, build_core


class CharLM(nn.Module):
    """A character-level language model: P(next character | characters so far)."""

    def __init__(self, vocab_size: int, settings: ModelSettings, *, seed: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, settings.embedding_size)
        self.core = build_core(settings)
        self.output = nn.Linear(settings.hidden_size, vocab_size)
        self._initialise(settings, torch.Generator().manual_seed(seed))

    def forward(
        self,
        ids: Tensor,
        state: State | None = None,
        *,
        masks: Sequence[Tensor] = (),
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, State]:
        """Logits of the character after each of the given ones, and the state after the last.

        ids: (T, B) integers below V. state: as `Core.forward` takes and returns it, None for zeros.
        masks: dropout masks from `Core.draw_masks`. dtype: the precision of the matrix products.
        Returns logits (T, B, V) in float32 or wider, and the state.
        """
        x = self.embedding(ids).to(dtype)  # (T, B, E)
        x, state = self.core(x, state, masks=masks)  # (T, B, H)
        logits = F.linear(x, self.output.weight.to(dtype), self.output.bias.to(dtype))  # (T, B, V)
        return logits.to(torch.promote_types(dtype, torch.float32)), state

    def num_parameters(self) -> int:
        """How many numbers training may change."""
        return sum(p.numel() for p in self.parameters())

    @torch.no_grad()
    def _initialise(self, settings: ModelSettings, generator: torch.Generator) -> None:
        """Embeddings N(0, 1); an output layer so small that the first loss is ln V, a uniform guess."""
        self.embedding.weight.normal_(generator=generator)
        self.core.initialise(forget_bias=settings.forget_bias, generator=generator)
        self.output.weight.normal_(std=0.01, generator=generator)
        self.output.bias.zero_()
