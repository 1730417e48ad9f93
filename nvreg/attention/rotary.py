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
        cos: cosine of position times frequency, for both dimensions of every pair, shape
            (batch, 1, tokens, r), without attention factor.
        sin: sine, the same shape.
        interleaved: whether dimensions 2j and 2j + 1 form a pair (GPT-J), or j and j + r / 2 (Llama).
    """

    cos: Tensor
    sin: Tensor
    interleaved: bool = False

    def __call__(self, vectors: Tensor) -> Tensor:
        """Rotate queries or keys, shape (batch, heads, tokens, e)."""
        rotated = self.cos.shape[-1]
        if rotated < vectors.shape[-1]:
            return torch.cat([self(vectors[..., :rotated]), vectors[..., rotated:]], dim=-1)
        first, second = self._unpaired(vectors)
        turned = torch.addcmul(vectors * self.cos, self._paired(-second, first), self.sin)
        return turned.to(vectors.dtype)  # some models keep cosines in float32

    def columns(self, batch: int, heads: int) -> Tensor:
        """Return what to attend to for the mean rotation, the cosines and sines of all pairs.

        They are the same for all heads, each of which holds a share of them: shape (batch, heads, tokens, s),
        where ``heads * s`` is r, or a little more.
        """
        rotated = self.cos.shape[-1]
        twice = torch.cat([self.cos, self.sin], dim=-1).squeeze(1)  # each of both dimensions of a pair
        columns = twice[..., ::2] if self.interleaved else twice[..., rotated // 2 : rotated // 2 + rotated]
        if missing := -rotated % heads:
            columns = F.pad(columns, (0, missing))
        return columns.unflatten(-1, (heads, -1)).transpose(1, 2).expand(batch, -1, -1, -1)

    def relative(self, turned: Tensor, mean_columns: Tensor) -> Tensor:
        """Turn rotated queries back by the mean rotation of their keys.

        Args:
            turned: queries, rotated, shape (batch, heads, queries, e).
            mean_columns: attended columns, from `split_columns`, shape (batch, heads, queries, r or more).
        """
        rotated = self.cos.shape[-1]
        if rotated < turned.shape[-1]:
            return torch.cat(
                [self.relative(turned[..., :rotated], mean_columns), turned[..., rotated:]], dim=-1
            )
        first, second = self._unpaired(turned)
        cos, sin = mean_columns[..., : rotated // 2], mean_columns[..., rotated // 2 : rotated]
        back = self._paired(
            torch.addcmul(first * cos, second, sin), torch.addcmul(second * cos, first, sin, value=-1)
        )
        return back.to(turned.dtype)

    def _unpaired(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first and the second dimension of every pair."""
        if self.interleaved:
            return vectors[..., ::2], vectors[..., 1::2]
        first, second = vectors.chunk(2, dim=-1)
        return first, second

    def _paired(self, first: Tensor, second: Tensor) -> Tensor:
        if self.interleaved:
            return torch.stack([first, second], dim=-1).flatten(-2)
        return torch.cat([first, second], dim=-1)


def split_columns(value: Tensor, head_dim: int) -> tuple[Tensor, Tensor | None]:
    """Separate values from the `Rotation.columns` cached behind them, here (batch, 1, keys, r or more)."""
    if value.shape[-1] == head_dim:
        return value, None
    return value[..., :head_dim], value[..., head_dim:].transpose(1, 2).flatten(2).unsqueeze(1)
