"""The empirical prior of one attention site, as numbers (docs/method.md, sections 3, 7 and 9)."""

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


@dataclass(frozen=True, eq=False)
class HeadMoments:
    """Moments of the keys and values that a site's attention function is given (docs/method.md, section 9).

    Attributes:
        key_mean: k_0, shape (g, e) for g key heads.
        value_mean: v_0, shape (g, f).
        key_variance: S, shape (g, e), every entry >= 0.
        covariance: C, of each value coordinate with each key coordinate, shape (g, f, e).
        log_alpha_mean: mean over tokens of ``c/2 ||k||^2``, the log pseudo-count of the prior, shape (g,).
        log_alpha_std: s_alpha, the unit of tau_alpha: root of the mean over key heads of its variance.
        tokens: how many tokens were counted; 0 where the moments were given, not estimated.
        longest: the most tokens that one text had; rotated keys differ beyond. 0 where it is not known.

    Raises:
        ValueError: if shapes disagree or a value is not finite or a spread is negative.
    """

    key_mean: Tensor
    value_mean: Tensor
    key_variance: Tensor
    covariance: Tensor
    log_alpha_mean: Tensor
    log_alpha_std: float
    tokens: int = 0
    longest: int = 0

    def __post_init__(self) -> None:
        """Keep everything in float64: conversion casts last."""
        names = ("key_mean", "value_mean", "key_variance", "covariance", "log_alpha_mean")
        for name in names:
            object.__setattr__(self, name, torch.as_tensor(getattr(self, name)).detach().cpu().double())
        object.__setattr__(self, "log_alpha_std", float(self.log_alpha_std))
        shapes = [tuple(getattr(self, name).shape) for name in names]
        if len(shapes[0]) != 2 or len(shapes[1]) != 2:
            raise ValueError(
                "expected key_mean and value_mean of shapes (g, e) and (g, f), "
                f"got {shapes[0]} and {shapes[1]}"
            )
        (heads, e), f = shapes[0], shapes[1][1]
        if shapes[1:] != [(heads, f), (heads, e), (heads, f, e), (heads,)]:
            raise ValueError(
                f"expected {', '.join(names[1:])} of shapes {(heads, f)}, {(heads, e)}, {(heads, f, e)}, "
                f"{(heads,)} beside a key_mean of {(heads, e)}, got {', '.join(map(str, shapes[1:]))}"
            )
        tensors = [getattr(self, name) for name in names]
        if not all(torch.isfinite(each).all() for each in (*tensors, torch.tensor(self.log_alpha_std))):
            raise ValueError("expected finite moments, got NaN or infinity")
        if (self.key_variance < 0).any() or self.log_alpha_std < 0:
            raise ValueError("expected key_variance and log_alpha_std >= 0, got a negative value")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of key heads g, width of a key e, width of a value f."""
        heads, f, e = self.covariance.shape
        return heads, e, f
