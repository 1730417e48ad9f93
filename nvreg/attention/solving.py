"""Settings that are named by what they do: the bisections behind prior weight and noise share (section 3)."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from nvreg.errors import UserError

_STEPS = 64
"""How many bisections a GPU runs, which is not asked whether more are needed: for odds up to 1e13 apart."""


def solve_shift(odds: Tensor, weight: float, *, precision: float = 1e-6) -> Tensor:
    """Return the t with ``mean sigmoid(odds - t) = weight``, by bisection, as a scalar on the odds' device.

    Args:
        odds: log-odds of the prior at tau_alpha = 0, one or more, of any shape, in float64. If one is not
            finite, neither is t.
        weight: above 0 and below 1.
        precision: how far t may be off; by default the mean is then right to a millionth of the weight.
    """
    logit = math.log(weight) - math.log1p(-weight)
    low, high = odds.min() - logit, odds.max() - logit
    for step in itertools.count():
        middle = (low + high) / 2
        if odds.device.type == "cpu":
            if not (high - low > precision and low < middle < high):
                break
        elif step == _STEPS:
            break
        is_above = torch.sigmoid(odds - middle).mean() > weight
        low, high = torch.where(is_above, middle, low), torch.where(is_above, high, middle)
    return (low + high) / 2


def solve_tau_sigma(noise_share: float, variance: Tensor, scale: float, *, site: str) -> float:
    """Return the tau_sigma at which a token's own variance has the wanted share of what is observed of it.

    The share at a coordinate is ``r1 = tau_sigma^2 S / (tau_sigma^2 S + v_u)`` (section 3); the mean over
    coordinates grows with tau_sigma from 0 to the part of them that vary in the prior.

    Args:
        noise_share: the wanted mean of r1, at least 0 and below 1.
        variance: S, the prior's variance of the site's coordinates: ``Moments.variance`` in input space,
            ``HeadMoments.key_variance`` in head space.
        scale: c; the query observes with variance ``v_u = 1 / c``.
        site: its name, for the message.

    Raises:
        UserError: if the share cannot be had, because too few coordinates vary in the prior.
    """
    if noise_share == 0:
        return 0.0
    varying = variance[variance > 0].double()
    part = len(varying) / variance.numel()
    if noise_share >= part:
        wanted = f"below {part:.4g}, the part of its coordinates that vary in the prior" if part else "0"
        raise UserError(
            f"{site}: expected a noise_share {wanted}, got {noise_share:g}; ask for less there, "
            "or estimate the prior on more text"
        )
    log_ratio = varying.log() + math.log(scale)  # of S to v_u; r1 is its sigmoid, shifted by log tau_sigma^2
    return math.exp(-float(solve_shift(log_ratio, noise_share / part, precision=0)) / 2)
