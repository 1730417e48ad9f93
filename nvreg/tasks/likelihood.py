"""Negative log-likelihood of labels under a model's logits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nvreg.models.tokens import IGNORED

_POSITIONS = 256


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the summed negative log-likelihood of each row's labels, in nats: [rows], float64, on the CPU.

    Each token's is computed in float32. No more than 256 positions are normalised at a time, and no padding:
    a copy of all logits in float32 would often be the largest tensor of a run.

    Args:
        logits: [rows, positions, vocabulary], of any dtype.
        labels: [rows, positions], -100 where nothing is scored.
    """
    totals = torch.zeros(len(labels), dtype=torch.float64)
    rows, positions = (labels != IGNORED).nonzero(as_tuple=True)
    for row, position in zip(rows.split(_POSITIONS), positions.split(_POSITIONS), strict=True):
        token = F.cross_entropy(logits[row, position].float(), labels[row, position], reduction="none")
        totals.index_add_(0, row.cpu(), token.cpu().double())
    return totals
