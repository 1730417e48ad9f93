"""Hierarchical autoencoders of hidden states (docs/regularisers.md, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INNER = 2
"""Number of inner autoencoders of a hierarchical one."""


class InnerAutoencoder(nn.Module):
    """An autoencoder of codes, from their width to half of it and back: [..., h] to [..., h].

    Args:
        width: width h of the codes.
        dropout: dropout rate of the compressed codes.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.down = nn.Linear(width, width // 2, bias=False)
        self.up = nn.Linear(width // 2, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, codes: Tensor) -> Tensor:
        """Compress codes once more."""
        compressed: Tensor = torch.tanh(self.up(self.dropout(torch.tanh(self.down(codes)))))
        return compressed


class HierarchicalAutoencoder(nn.Module):
    """An autoencoder of hidden states, whose codes pass through one of two inner autoencoders or neither.

    Args:
        size: hidden size d.
        width: width h of the codes, smaller than d.
        dropout: dropout rate of the codes.
    """

    def __init__(self, size: int, width: int, dropout: float) -> None:
        super().__init__()
        self.down = nn.Linear(size, width)
        self.up = nn.Linear(width, size)
        self.inner = nn.ModuleList(InnerAutoencoder(width, dropout) for _ in range(INNER))
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """Reconstruct hidden states [..., d]; the way through is drawn once a call."""
        codes = self.dropout(torch.tanh(self.down(states)))
        way = int(torch.randint(INNER + 1, ()))
        if way < INNER:
            codes = self.inner[way](codes)
        reconstruction: Tensor = self.up(codes)
        return reconstruction


class Views(nn.Module):
    """Replaces hidden states while a model is trained: at each position, by one of several reconstructions.

    Args:
        size: hidden size d.
        widths: width of each of the M autoencoders.
        dropout: dropout rate of the codes.
        noise: standard deviation of what is added to hidden states first.
    """

    def __init__(self, size: int, widths: Sequence[int], dropout: float, noise: float) -> None:
        super().__init__()
        self.autoencoders = nn.ModuleList(HierarchicalAutoencoder(size, width, dropout) for width in widths)
        self.noise = noise
        self._seen: tuple[Tensor, Tensor] | None = None

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Replace hidden states, and remember them for `reconstruction_loss`.

        Args:
            states: [batch, positions, d].
            mask: [batch, positions], 0 where there is padding.

        Returns:
            What the model goes on with: [batch, positions, d].
        """
        states = states + self.noise * torch.randn_like(states)
        self._seen = states.detach(), mask
        choice = draw_views(states.shape[1], len(self.autoencoders)).to(states.device)
        views = states
        for number, autoencoder in enumerate(self.autoencoders):
            # An autoencoder without a position runs, too: the loss must reach what may be all that learns.
            positions = (choice == number).nonzero().flatten()
            chosen = autoencoder(states.index_select(1, positions))
            views = views.index_copy(1, positions, chosen.to(states.dtype))
        return views

    def reconstruction_loss(self) -> Tensor:
        """Return the mean squared error over autoencoders and tokens of the last hidden states, detached."""
        if self._seen is None:
            raise RuntimeError("expected hidden states, got none: the model has not run in training")
        states, mask = self._seen
        self._seen = None
        tokens = states[mask.bool()].float()
        errors = [F.mse_loss(autoencoder(tokens), tokens) for autoencoder in self.autoencoders]
        return torch.stack(errors).mean()


def draw_views(positions: int, autoencoders: int) -> Tensor:
    """Return the number of an autoencoder for each position, or a number beyond them for none: [positions].

    Uniform over 0 to 2 (M - 1), so that with three autoencoders each has 1/5 and none 2/5.
    """
    return torch.randint(2 * (autoencoders - 1) + 1, (positions,))
