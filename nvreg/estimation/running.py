"""Mean and variance in one pass, batch by batch (Chan, Golub & LeVeque 1979; docs/method.md, section 7).

Sums stay on the device of what is summed, so that nobody waits for a GPU before the end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nvreg.attention.moments import HeadMoments
from nvreg.models.teacher_forcing import RealTokens, in_float64


class RunningMoments:
    """Count, mean and centred second moment of the rows seen so far, in float64."""

    def __init__(self, *shape: int) -> None:
        """Start empty, for rows of this shape."""
        self.count = 0
        self.mean = torch.zeros(shape, dtype=torch.float64)
        self._squares = torch.zeros(shape, dtype=torch.float64)

    def update(self, rows: Tensor) -> None:
        """Merge a batch of rows, shape (rows, *shape)."""
        added = len(rows)
        if not added:
            return
        rows = in_float64(rows.detach())
        mean = rows.mean(0)
        squares = (rows - mean).square().sum(0)
        if not self.count:
            self.mean, self._squares = torch.zeros_like(mean), torch.zeros_like(squares)
        delta = mean - self.mean
        total = self.count + added
        self._squares += squares + delta.square() * (self.count * added / total)
        self.mean += delta * (added / total)
        self.count = total

    @property
    def variance(self) -> Tensor:
        """Unbiased variance, in the shape of a row; NaN below two rows."""
        return (
            self._squares / (self.count - 1) if self.count > 1 else torch.full_like(self._squares, torch.nan)
        )


class RunningHeadMoments:
    """Moments of the keys and values of one site's heads in what was seen so far, in float64 (section 9)."""

    def __init__(self, heads: int, key_width: int, value_width: int) -> None:
        """Start empty, for so many key heads with keys and values of these widths."""
        self.keys = RunningMoments(heads, key_width)
        self.values = RunningMoments(heads, value_width)
        self.log_alphas = RunningMoments(heads)
        self.longest = 0
        self._products = torch.zeros(heads, value_width, key_width, dtype=torch.float64)

    @property
    def count(self) -> int:
        """How many tokens were counted."""
        return self.keys.count

    def update(self, key: Tensor, value: Tensor, tokens: RealTokens, scale: float) -> None:
        """Merge a batch.

        Args:
            key: as the attention function is given them, shape (batch, key heads, tokens, e).
            value: shape (batch, key heads, tokens, f).
            tokens: those that count.
            scale: c, by which the model multiplies ``q . k``.
        """
        keys, values = (in_float64(tokens.of(each.detach().transpose(1, 2))) for each in (key, value))
        if not (added := len(keys)):
            return
        key_mean, value_mean = keys.mean(0), values.mean(0)
        products = torch.einsum("ngf,nge->gfe", values - value_mean, keys - key_mean)
        if self.count:
            apart = (value_mean - self.values.mean).unsqueeze(-1) * (key_mean - self.keys.mean).unsqueeze(-2)
            products = self._products + (products + apart * (self.count * added / (self.count + added)))
        self._products = products
        self.keys.update(keys)
        self.values.update(values)
        self.log_alphas.update(scale / 2 * keys.square().sum(-1))
        self.longest = max(self.longest, key.shape[2] if tokens.places is None else tokens.longest)

    def moments(self) -> HeadMoments:
        """Return the moments of all tokens, of which there are at least two.

        Raises:
            ValueError: if there are fewer.
        """
        if self.count < 2:
            raise ValueError(f"expected at least two tokens, got {self.count}")
        return HeadMoments(
            self.keys.mean,
            self.values.mean,
            self.keys.variance,
            self._products / (self.count - 1),
            self.log_alphas.mean,
            self.log_alphas.variance.mean().sqrt().item(),
            self.count,
            self.longest,
        )
