"""Solving for tau_alpha: name the wanted mean weight of the prior instead (docs/method.md, section 3)."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from copy import copy
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nvreg.attention.settings import PRIOR_WEIGHT, Settings
from nvreg.attention.solving import solve_shift
from nvreg.errors import UserError
from nvreg.models.conversion import Conversion, conversion_of
from nvreg.models.convert import convert_, current_settings, revert_, set_settings_
from nvreg.models.site import Site
from nvreg.models.teacher_forcing import (
    device_of,
    in_float64,
    numbers_in,
    on_device,
    query_masks,
    real_tokens,
    run_body,
)
from nvreg.parameters import Setting
from nvreg.prior.artefact import Prior


class _Wanted(Setting):
    parameters = {"prior_weight": PRIOR_WEIGHT} | {
        name: Settings.parameters[name] for name in ("tau_sigma", "tau_mu", "noise_share")
    }


def calibrate(
    model: PreTrainedModel,
    prior: Prior,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    prior_weight: Any,
    tau_sigma: Any = None,
    tau_mu: Any = None,
    noise_share: Any = None,
) -> Settings:
    """Solve for the tau_alpha that give the prior the wanted mean weight at every site.

    Sites are solved in forward order, each on what it really reads from the sites solved before it, in one
    forward pass of the sample: the batches run in turn up to a site, which is solved on all of them, and on
    from there. Kept meanwhile are the hidden states of the whole sample, and what else one batch needs.
    Autocast, the default device and the GPU in use are the caller's.

    Args:
        model: converted with this prior or not converted; left as it was.
        prior: the prior of this model's sites.
        batches: the calibration sample, a few thousand tokens of in-domain training text, teacher-forced:
            mappings of tensors as `estimate_prior` takes them. Few and large ones: each is a thread.
        prior_weight: the wanted mean of ``A_m0`` over the sample's non-padded queries and all heads, at least
            0 and below 1: for all roles, by role, or by role and layer. 0 is tau_alpha = inf.
        tau_sigma: as in `Settings`.
        tau_mu: as in `Settings`.
        noise_share: as in `Settings`, in place of tau_sigma.

    Returns:
        Ordinary settings: tau_mu as given, tau_sigma as given or solved for, tau_alpha by role, one a layer.

    Raises:
        UserError: if the sample has no token for a role, or no tau_alpha moves the weight at a site (its
            s_alpha is 0), or what the model computes is not finite; and as in `convert_`.
        ValueError: if a value is not allowed or does not fit the model, or the model is converted with
            another prior.
    """
    wanted = _Wanted(prior_weight=prior_weight, tau_sigma=tau_sigma, tau_mu=tau_mu, noise_share=noise_share)
    with _converted(model, prior) as conversion:
        wanted.check(conversion.layers)
        weights = {site: wanted.value("prior_weight", site.role, site.layer) for site in conversion.sites}
        weights = {site: weight for site, weight in weights.items() if weight}
        tau_alpha = {role: [math.inf] * count for role, count in conversion.layers.items()}
        for site in weights:
            tau_alpha[site.role][site.layer] = 0.0
        start = Settings(tau_alpha, tau_sigma, tau_mu, noise_share=noise_share)
        set_settings_(model, start)
        if "noise_share" in start.to_dict():
            tau_sigma = current_settings(model).to_dict().get("tau_sigma")
        if weights:
            for site in weights:
                if not prior[site.name].log_alpha_std:
                    raise UserError(
                        f"{site.name}: expected a prior whose log pseudo-count varies, got s_alpha = 0, "
                        "for which every tau_alpha is the same; ask for prior_weight 0 there"
                    )
            for site, shift in _Sample(model, conversion, batches, weights).solve().items():
                tau_alpha[site.role][site.layer] = shift / prior[site.name].log_alpha_std
    return Settings(tau_alpha, tau_sigma, tau_mu)


@contextmanager
def _converted(model: PreTrainedModel, prior: Prior) -> Iterator[Conversion]:
    """Have the model in evaluation mode and converted with this prior, then as it was."""
    was_training, conversion, before = model.training, conversion_of(model), None
    if conversion:
        current = conversion.prior
        if current is not prior and (current is None or current.fingerprint != prior.fingerprint):
            raise ValueError("expected a model converted with this prior; call nvreg.revert_(model) first")
        before = current_settings(model)
    else:
        convert_(model, prior)
        conversion = conversion_of(model)
        assert conversion is not None
    try:
        model.eval()
        yield conversion
    finally:
        if before is None:
            revert_(model)
        else:
            set_settings_(model, before)
        model.train(was_training)


class _Sample:
    """Batches that wait for each other at every site; one runs at a time."""

    def __init__(
        self,
        model: PreTrainedModel,
        conversion: Conversion,
        batches: Iterable[Mapping[str, Tensor]],
        weights: Mapping[Site, float],
    ) -> None:
        self._model = model
        self._states = conversion.states
        self._batches = list(batches)
        if not self._batches:
            raise UserError("expected a calibration sample, got no batches")
        self._weights = weights
        self._shifts: dict[Site, Tensor] = {}
        self._state = _thread_state(device_of(model))
        self._turn = threading.Lock()
        self._arrived = threading.Barrier(len(self._batches), self._solve_site)
        self._here = threading.local()  # a thread's batch: its index and real tokens
        self._site: Site
        self._odds = [torch.empty(0)] * len(self._batches)

    def solve(self) -> dict[Site, float]:
        """Return ``t = tau_alpha s_alpha`` of every site that has a wanted weight."""
        states = [self._states[site] for site in self._weights]
        for state in states:
            state.solver = self._meet
        try:
            with ThreadPoolExecutor(len(self._batches)) as pool:
                runs = [
                    pool.submit(copy_context().run, self._run, index) for index in range(len(self._batches))
                ]
        finally:
            self._arrived.abort()  # nobody waits for a sample that was interrupted
            for state in states:
                state.solver = None
        errors = [error for run in runs if (error := run.exception())]
        for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise error
        shifts = dict(zip(self._shifts, numbers_in(list(self._shifts.values())), strict=True))
        for site, shift in shifts.items():  # in forward order: the first spoils those behind it
            if not math.isfinite(shift):
                raise UserError(
                    f"{site.name}: expected finite log-odds of the prior, got NaN or infinity; the model's "
                    "weights or what it computes from the sample are not finite"
                )
        return shifts

    def _run(self, index: int) -> None:
        model = self._model
        try:
            with self._turn, self._state(), torch.inference_mode():
                batch = self._batches[index]
                self._here.index = index
                self._here.tokens = real_tokens(model, query_masks(model, batch))
                run_body(model, on_device(model, batch))
        except BaseException:
            self._arrived.abort()
            raise

    def _meet(self, site: Site, odds: Tensor) -> Tensor:
        """Wait for the other batches; whichever comes last solves the site."""
        self._site = site
        of_queries = self._here.tokens[site.role].of(odds.transpose(1, 2))
        self._odds[self._here.index] = in_float64(of_queries.flatten())
        self._turn.release()
        try:
            self._arrived.wait()
        finally:
            self._turn.acquire()
        return self._shifts[site].to(odds)

    def _solve_site(self) -> None:
        if self._site in self._shifts:
            raise UserError(
                f"expected a site that runs once in a forward pass, for prior_weight, got "
                f"{self._site.name!r}, which several layers share; set tau_alpha"
            )
        odds = torch.cat(self._odds)
        if not len(odds):
            raise UserError(f"expected tokens for the {self._site.role} in the calibration sample, got none")
        self._shifts[self._site] = solve_shift(odds, self._weights[self._site])


def _thread_state(device: torch.device) -> Callable[[], ExitStack]:
    """Return what enters, in another thread, the state of this one that decides what a forward computes.

    Of what torch keeps by thread, a new one has the defaults: no autocast, no default device, the first GPU
    and its default stream. Gradients and inference mode are for whoever runs to set.

    Args:
        device: the model's.
    """
    autocasts = [
        torch.autocast(
            kind,
            dtype=torch.get_autocast_dtype(kind),
            enabled=torch.is_autocast_enabled(kind),
            cache_enabled=torch.is_autocast_cache_enabled(),
        )
        for kind in {"cpu", device.type}
        if torch.amp.is_autocast_available(kind)
    ]
    default = torch.get_default_device()
    stream = torch.cuda.current_stream() if torch.cuda.is_initialized() else None

    def enter() -> ExitStack:
        stack = ExitStack()
        for autocast in autocasts:
            stack.enter_context(copy(autocast))
        if default.type != "cpu":
            stack.enter_context(default)
        if stream is not None:
            torch.cuda.set_stream(stream)  # and its device; the thread is no one else's
        return stack

    return enter
