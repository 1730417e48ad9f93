"""Batches by a budget of padded tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group examples of similar length so that rows x longest of a batch is at most the budget.

    Args:
        lengths: tokens of each example.
        budget: padded tokens of a batch; an example that is longer gets a batch of its own.

    Returns:
        The indices of each batch, longest first, every index once. The longest batch comes first, so that
        what does not fit in memory fails at once.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    grouped, start = [], 0
    while start < len(order):
        rows = max(1, budget // max(1, lengths[order[start]]))
        grouped.append(order[start : start + rows])
        start += rows
    return grouped


def pad(sequences: Sequence[Sequence[int]], value: int) -> Tensor:
    """Return the sequences as one integer tensor [sequences, longest], padded on the right."""
    import torch

    longest = max(map(len, sequences), default=0)
    padded = [[*sequence, *[value] * (longest - len(sequence))] for sequence in sequences]
    return torch.tensor(padded, dtype=torch.int64).reshape(len(sequences), longest)


def model_inputs(sequences: Sequence[Sequence[int]], padding: int) -> dict[str, Tensor]:
    """Return the sequences as a model's ``input_ids`` and ``attention_mask``, each [sequences, longest]."""
    return {
        "input_ids": pad(sequences, padding),
        "attention_mask": pad([[1] * len(sequence) for sequence in sequences], 0),
    }
