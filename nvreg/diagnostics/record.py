"""Mean prior weight and discarded share of a whole model: cheap, for every trial of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nvreg.models.registry import sites
from nvreg.models.state import NVForward, Site
from nvreg.models.tokens import query_masks


class Record:
    """Means over the non-padded queries, heads and sites that a model has run.

    A site at identity counts with prior weight and discarded share 0.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """Prepare for the sites of a model."""
        self._model = model
        self._sites = sites(model)
        self._masks: dict[str, Tensor] = {}
        self._queries = dict.fromkeys(self._sites, 0)
        self._prior = dict.fromkeys(self._sites, 0.0)
        self._discarded = dict.fromkeys(self._sites, 0.0)

    @property
    def prior_weight(self) -> float:
        """Mean ``A_m0``: 0 at identity."""
        return self._mean(self._prior)

    @property
    def strength(self) -> float:
        """The discarded share ``1 - tau_mu (1 - A_m0) mean(v_u / b1)``: 0 at identity, 1 at most."""
        return self._mean(self._discarded)

    def over_sites(self, value: Callable[[Site], float]) -> float:
        """Return the mean over all sites of a number that a site has."""
        return sum(map(value, self._sites)) / len(self._sites)

    def _mean(self, sums: dict[Site, float]) -> float:
        means = [sums[site] / self._queries[site] for site in self._sites if self._queries[site]]
        return sum(means) / len(means) if means else 0.0

    def start_batch(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note which queries of a batch are real; a hook that runs before the model."""
        self._masks = query_masks(self._model, kwargs)
        for site in self._sites:
            self._queries[site] += int(self._masks[site.role].sum())

    def observe(self, site: Site, gate: Tensor | None, token_share: float) -> None:
        """Add one site's weights of the prior, shape (batch, heads, queries), or None for weight 0."""
        mask = self._masks[site.role]
        weight = 0.0 if gate is None else float(gate.mean(1)[mask].sum(dtype=torch.float64))
        queries = int(mask.sum())
        self._prior[site] += weight
        self._discarded[site] += queries - token_share * (queries - weight)


@contextmanager
def recording(model: PreTrainedModel) -> Iterator[Record]:
    """Record prior weight and discarded share while the model runs teacher-forced, inside the block.

    Args:
        model: converted or not; call it with keyword arguments, as ``model(**batch)``.
    """
    record = Record(model)
    converted = [module for module in model.modules() if isinstance(module, NVForward)]
    hook = model.register_forward_pre_hook(record.start_batch, with_kwargs=True)
    for module in converted:
        module.nv.observer = record.observe
    try:
        yield record
    finally:
        hook.remove()
        for module in converted:
            module.nv.observer = None
