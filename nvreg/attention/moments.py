"""The empirical prior of one attention site, as numbers (docs/method.md, sections 3 and 7)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of the vectors z that a site's keys and values are projected from.

    Attributes:
        mean: mu_0, shape (d,).
        variance: sigma_0^2, shape (d,), every entry >= 0.
        log_alpha_mean: mean over tokens of ``c/2 ||z||^2``, the log pseudo-count of the prior.
        log_alpha_std: its standard deviation s_alpha, the unit of tau_alpha.
        tokens: how many tokens were counted; 0 where the moments were given, not estimated.

    Raises:
        ValueError: if shapes disagree or a value is not finite or a spread is negative.
    """

    mean: Tensor
    variance: Tensor
    log_alpha_mean: float
    log_alpha_std: float
    tokens: int = 0

    def __post_init__(self) -> None:
        """Keep everything in float64: conversion casts last."""
        for name in ("mean", "variance"):
            object.__setattr__(self, name, torch.as_tensor(getattr(self, name)).detach().cpu().double())
        for name in ("log_alpha_mean", "log_alpha_std"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.mean.ndim != 1 or self.mean.shape != self.variance.shape:
            raise ValueError(
                f"expected mean and variance of one shape (d,), got {tuple(self.mean.shape)} and "
                f"{tuple(self.variance.shape)}"
            )
        scalars = torch.tensor([self.log_alpha_mean, self.log_alpha_std])
        if not all(torch.isfinite(t).all() for t in (self.mean, self.variance, scalars)):
            raise ValueError("expected finite moments, got NaN or infinity")
        if (self.variance < 0).any() or self.log_alpha_std < 0:
            raise ValueError("expected variance and log_alpha_std >= 0, got a negative value")

    @property
    def width(self) -> int:
        """d, the number of input coordinates."""
        return self.mean.numel()

    @classmethod
    def gaussian(cls, width: int) -> Moments:
        """Return the standard Gaussian prior over ``width`` coordinates: 0, 1, 0, 1 (section 3)."""
        return cls(torch.zeros(width), torch.ones(width), 0.0, 1.0)
