"""Estimation of the empirical prior in one teacher-forced pass (docs/method.md, section 7)."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nvreg.attention.moments import Moments
from nvreg.errors import UserError
from nvreg.estimation.running import RunningMoments
from nvreg.identity import identify
from nvreg.memory import over_rows
from nvreg.models.adapter import Adapter
from nvreg.models.convert import is_converted
from nvreg.models.registry import attention_modules
from nvreg.models.site import Site
from nvreg.models.teacher_forcing import key_masks, run_body
from nvreg.prior.artefact import Prior


def estimate_prior(
    model: PreTrainedModel,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    max_tokens: int | None = None,
    data_fingerprint: str | None = None,
) -> Prior:
    """Measure the moments of what every site's keys and values are projected from.

    Args:
        model: an unconverted model.
        batches: mappings of tensors that the model accepts, with ``attention_mask`` and, for an
            encoder-decoder model, ``labels`` where -100 marks padding.
        max_tokens: stop after the batch in which some site has seen this many tokens.
        data_fingerprint: names the text; by default a digest of the batches.

    Raises:
        UserError: if a site sees fewer than two tokens.
        ValueError: if the model is converted.
    """
    if is_converted(model):
        raise ValueError("expected the unconverted model, call nvreg.revert_(model) first")
    collectors = {site: _Collector(site, *where) for site, where in attention_modules(model).items()}
    digest = hashlib.sha256()
    was_training = model.training
    model.eval()
    hooks = [collector.attach() for collector in collectors.values()]

    def run(batch: Mapping[str, Tensor]) -> None:
        batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
        masks = key_masks(model, batch)
        for site, collector in collectors.items():
            collector.start(masks[site.role])
        run_body(model, batch)
        for collector in collectors.values():
            collector.keep()

    try:
        with torch.inference_mode():
            for batch in batches:
                for name, tensor in sorted(batch.items()):
                    digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
                over_rows(batch, run)
                if max_tokens and max(c.vectors.count for c in collectors.values()) >= max_tokens:
                    break
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    moments = {site.name: collector.moments() for site, collector in collectors.items()}
    return Prior(
        moments, kind="empirical", model=identify(model), data=data_fingerprint or digest.hexdigest()[:16]
    )


class _Collector:
    """Moments of one site, collected by a hook on its module from the batches that run to their end."""

    def __init__(self, site: Site, adapter: Adapter, module: Any) -> None:
        self.site, self.adapter, self.module = site, adapter, module
        self.mask: Tensor
        self.vectors = RunningMoments(site.width)
        self.log_alphas = RunningMoments(1)
        self._running: tuple[RunningMoments, RunningMoments]

    def attach(self) -> Any:
        return self.module.register_forward_pre_hook(self._collect, with_kwargs=True)

    def start(self, mask: Tensor) -> None:
        """Begin a batch, of which the keys that ``mask`` marks are not padding."""
        self.mask = mask
        self._running = deepcopy((self.vectors, self.log_alphas))

    def keep(self) -> None:
        """Take in the batch."""
        self.vectors, self.log_alphas = self._running

    def _collect(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        z = self.adapter.key_input(**bound.arguments)[self.mask].double()
        vectors, log_alphas = self._running
        vectors.update(z)
        log_alphas.update(self.adapter.scale(module) / 2 * z.square().sum(-1, keepdim=True))

    def moments(self) -> Moments:
        if self.vectors.count < 2:
            raise UserError(
                f"expected at least two tokens to estimate the prior of {self.site.name!r}, "
                f"got {self.vectors.count}; give more text"
            )
        return Moments(
            self.vectors.mean,
            self.vectors.variance,
            self.log_alphas.mean.item(),
            self.log_alphas.variance.sqrt().item(),
            self.vectors.count,
        )
