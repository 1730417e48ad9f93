"""Rotary positions (docs/method.md, section 5).

The prior has no position: it meets the unrotated query. Among tokens the query that M1 maps is
rotated by the position of the key, averaged over the keys: a mean rotation, read off by attending to
the cosine and sine of every key's position.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Rotation(NamedTuple):
    """The rotation of each token's query and key, over the first r of e dimensions.

    Attributes:
        cos: cosine of position times frequency, shape (batch, 1, tokens, r / 2), without attention factor.
        sin: sine, the same shape.
        interleaved: whether dimensions 2j and 2j + 1 form a pair (GPT-J), or j and j + r / 2 (Llama).
    """

    cos: Tensor
    sin: Tensor
    interleaved: bool = False

    def __call__(self, vectors: Tensor) -> Tensor:
        """Rotate queries or keys, shape (batch, heads, tokens, e)."""
        return self._turn(vectors, self.cos, self.sin)

    def columns(self, batch: int, heads: int) -> Tensor:
        """Return what to attend to for the mean rotation: cosines and sines, (batch, heads, tokens, r)."""
        return torch.cat([self.cos, self.sin], dim=-1).expand(batch, heads, -1, -1)

    def relative(self, query: Tensor, mean_columns: Tensor) -> Tensor:
        """Rotate queries by their position relative to the mean rotation of their keys.

        Args:
            query: unrotated, shape (batch, heads, queries, e).
            mean_columns: attended `columns`, shape (batch, heads, queries, r).
        """
        cos, sin = mean_columns.chunk(2, dim=-1)
        return self._turn(query, self.cos * cos + self.sin * sin, self.sin * cos - self.cos * sin)

    def _turn(self, vectors: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        half = self.cos.shape[-1]
        turned, passed = vectors[..., : 2 * half], vectors[..., 2 * half :]
        if self.interleaved:
            first, second = turned[..., ::2], turned[..., 1::2]
            turned = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1).flatten(-2)
        else:
            first, second = turned.split(half, dim=-1)
            turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
        turned = turned.to(vectors.dtype)  # some models keep cosines in float32
        return torch.cat([turned, passed], dim=-1) if passed.shape[-1] else turned


def split_columns(value: Tensor, head_dim: int) -> tuple[Tensor, Tensor | None]:
    """Separate values from the `Rotation.columns` cached behind them; columns are padded to width e."""
    if value.shape[-1] == head_dim:
        return value, None
    columns = value[..., head_dim:]
    return value[..., :head_dim], F.pad(columns, (0, head_dim - columns.shape[-1]))
