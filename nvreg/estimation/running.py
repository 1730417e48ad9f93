"""Mean and variance in one pass, batch by batch (Chan, Golub & LeVeque 1979; docs/method.md, section 7)."""

from __future__ import annotations

import torch
from torch import Tensor


class RunningMoments:
    """Count, mean and centred second moment of the rows seen so far, in float64."""

    def __init__(self, width: int) -> None:
        """Start empty, for rows of ``width`` numbers."""
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64)
        self._squares = torch.zeros(width, dtype=torch.float64)

    def update(self, rows: Tensor) -> None:
        """Merge a batch of rows, shape (rows, width)."""
        added = len(rows)
        if not added:
            return
        rows = rows.detach().double()
        mean = rows.mean(0)
        squares = (rows - mean).square().sum(0).cpu()
        delta = mean.cpu() - self.mean
        total = self.count + added
        self._squares += squares + delta.square() * (self.count * added / total)
        self.mean += delta * (added / total)
        self.count = total

    @property
    def variance(self) -> Tensor:
        """Unbiased variance, shape (width,); NaN below two rows."""
        return (
            self._squares / (self.count - 1) if self.count > 1 else torch.full_like(self._squares, torch.nan)
        )
