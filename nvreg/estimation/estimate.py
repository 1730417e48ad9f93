"""Estimation of the empirical prior in one teacher-forced pass (docs/method.md, section 7)."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nvreg.attention.heads import attend_heads
from nvreg.attention.moments import HeadMoments, Moments
from nvreg.attention.prepared_heads import PreparedHeads
from nvreg.attention.settings import SiteSettings
from nvreg.digests import body_digest
from nvreg.errors import UserError
from nvreg.estimation.running import RunningHeadMoments, RunningMoments
from nvreg.memory import over_rows
from nvreg.models.adapter import Adapter
from nvreg.models.conversion import conversion_of
from nvreg.models.convert import attach_, is_converted, revert_
from nvreg.models.heads import DispatchedState
from nvreg.models.registry import attention_modules
from nvreg.models.site import Runs, Site, Space
from nvreg.models.teacher_forcing import (
    RealTokens,
    in_float64,
    key_masks,
    on_device,
    real_tokens,
    run_body,
)
from nvreg.prior.artefact import Prior


def estimate_prior(
    model: PreTrainedModel,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    space: Space = "inputs",
    max_tokens: int | None = None,
    data_fingerprint: str | None = None,
) -> Prior:
    """Measure the moments of what every site's keys and values are projected from, or of what its heads get.

    Args:
        model: an unconverted model.
        batches: mappings of tensors that the model accepts, with ``attention_mask`` and, for an
            encoder-decoder model, ``labels`` where -100 marks padding.
        space: ``inputs`` for the published form; ``heads`` for the keys and values that the attention
            function is given, where texts are best as long as those that are scored later.
        max_tokens: stop after the batch in which some site has seen this many tokens.
        data_fingerprint: names the text; by default a digest of the batches.

    Raises:
        UserError: if a site sees fewer than two tokens, or what is not finite, or the architecture is not
            supported in this space.
        ValueError: if the model is converted.
    """
    if is_converted(model):
        raise ValueError("expected the unconverted model, call nvreg.revert_(model) first")
    digest = hashlib.sha256()
    was_training = model.training
    with ExitStack() as attached:
        attached.callback(model.train, was_training)
        model.eval()
        collectors = _attach_heads(model, attached) if space == "heads" else _attach_inputs(model, attached)

        def run(batch: Mapping[str, Tensor]) -> None:
            tokens = real_tokens(model, key_masks(model, batch))
            for collector in collectors:
                collector.start(tokens[collector.site.role])
            run_body(model, on_device(model, batch))
            for collector in collectors:
                collector.keep()

        with torch.inference_mode():
            for batch in batches:
                for name, tensor in sorted(batch.items()):
                    digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
                over_rows(batch, run)
                if max_tokens and max(collector.count for collector in collectors) >= max_tokens:
                    break
    moments: dict[str, Any] = {}
    for collector in collectors:
        if collector.count < 2:
            raise UserError(
                f"expected at least two tokens to estimate the prior of {collector.site.name!r}, "
                f"got {collector.count}; give more text"
            )
        try:
            moments[collector.site.name] = collector.moments()
        except ValueError as error:
            raise UserError(
                f"{collector.site.name}: {error}; the model's weights, or what it computes from "
                "the text, are not finite"
            ) from error
    return Prior(
        moments, kind="empirical", model=body_digest(model), data=data_fingerprint or digest.hexdigest()[:16]
    )


def _attach_inputs(model: PreTrainedModel, attached: ExitStack) -> Sequence[_Inputs | _Heads]:
    modules = attention_modules(model)
    collectors = {site: _Inputs(site, adapter) for site, (adapter, _) in modules.items()}
    runs = Runs({site: module for site, (_, module) in modules.items()})

    def collect(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        collectors[runs.next_site(module)].collect(module, args, kwargs)

    attached.callback(model.base_model.register_forward_pre_hook(lambda *_: runs.restart()).remove)
    for module in dict.fromkeys(module for _, module in modules.values()):
        attached.callback(module.register_forward_pre_hook(collect, with_kwargs=True).remove)
    return list(collectors.values())


def _attach_heads(model: PreTrainedModel, attached: ExitStack) -> Sequence[_Inputs | _Heads]:
    conversion = conversion_of(attach_(model, _Heads, "heads"))
    assert conversion is not None
    attached.callback(revert_, model)
    return list(conversion.states.values())


class _Inputs:
    """Moments of what one site's keys are projected from, from the batches that run to their end."""

    def __init__(self, site: Site, adapter: Adapter) -> None:
        self.site, self.adapter = site, adapter
        self.tokens: RealTokens
        self._kept = RunningMoments(site.width), RunningMoments(1)
        self._running: tuple[RunningMoments, RunningMoments]

    @property
    def count(self) -> int:
        return self._kept[0].count

    def start(self, tokens: RealTokens) -> None:
        """Begin a batch, of which these keys are not padding."""
        self.tokens = tokens
        self._running = deepcopy(self._kept)

    def keep(self) -> None:
        """Take in the batch."""
        self._kept = self._running

    def collect(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take in what the module is given at one forward."""
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        z = in_float64(self.tokens.of(self.adapter.key_input(**bound.arguments)))
        vectors, log_alphas = self._running
        vectors.update(z)
        log_alphas.update(self.adapter.scale(module) / 2 * z.square().sum(-1, keepdim=True))

    def moments(self) -> Moments:
        vectors, log_alphas = self._kept
        return Moments(
            vectors.mean,
            vectors.variance,
            log_alphas.mean.item(),
            log_alphas.variance.sqrt().item(),
            vectors.count,
        )


class _Heads(DispatchedState):
    """Moments of what one site's heads get, likewise; its attention is the pretrained one."""

    setting_type = SiteSettings

    def __init__(self, site: Site, module: Any) -> None:
        super().__init__(site, module)
        self.is_identity = False  # which would run the model's own attention function
        self.tokens: RealTokens
        self._kept: RunningHeadMoments | None = None
        self._running: RunningHeadMoments | None

    @property
    def count(self) -> int:
        return 0 if self._kept is None else self._kept.count

    def start(self, tokens: RealTokens) -> None:
        """Begin a batch, of which these keys are not padding."""
        self.tokens = tokens
        self._running = deepcopy(self._kept)

    def keep(self) -> None:
        """Take in the batch."""
        self._kept = self._running

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scale: float, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        if self._running is None:
            self._running = RunningHeadMoments(key.shape[1], key.shape[3], value.shape[3])
        tokens = self.tokens
        if tokens.places is None:  # a GPU is asked how many an encoder made of sound, say
            tokens = RealTokens.marked(_seen(key, options["mask"]), key.device)
        self._running.update(key, value, tokens, scale)
        output, weights, _ = attend_heads(query, key, value, PreparedHeads(), scale, **options)
        return output, None if weights is None else weights[..., 1:]

    def moments(self) -> HeadMoments:
        assert self._kept is not None
        return self._kept.moments()

    def unsettle(self) -> None:
        """Nothing follows from the weights."""

    def refresh(self, module: Any, dtype: torch.dtype) -> None:
        """Nothing follows from the weights."""


def _seen(key: Tensor, mask: Tensor | None) -> Tensor | None:
    """Return which keys some query sees, shape (batch, keys): all that the model does not hide as padding."""
    if mask is None:
        return None
    seen = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    return seen.any(2).any(1).expand(key.shape[0], -1)
