"""Mean prior weight and discarded share of a whole model: cheap, for every trial of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nvreg.models.cache import given_cache
from nvreg.models.conversion import conversion_of
from nvreg.models.registry import site_modules
from nvreg.models.site import Site
from nvreg.models.teacher_forcing import in_float64, numbers_in, query_masks, tokens_given


class SiteMeans(NamedTuple):
    """Means of one site over its non-padded queries and heads.

    Attributes:
        prior_weight: ``A_m0``.
        discarded_share: the discarded share ``1 - tau_mu (1 - A_m0) mean(v_u / b1)``.
    """

    prior_weight: float
    discarded_share: float


class Record:
    """Means over the sites that a model has run, over their non-padded queries and heads.

    A site at identity counts with prior weight and discarded share 0.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """Prepare for the sites of a model."""
        self._model = model
        self._sites = list(site_modules(model))
        self._masks: dict[str, Tensor | None] = {}
        self._sums: dict[Site, tuple[int, float, float]] = {}
        self._unread: list[tuple[Site, Tensor | int, Tensor | float, float]] = []
        self._reused: Mapping[Site, SiteMeans] = {}

    @property
    def prior_weight(self) -> float:
        """Mean ``A_m0``: 0 at identity."""
        return self.over_sites(lambda site: self.means[site].prior_weight)

    @property
    def strength(self) -> float:
        """The discarded share, the mean over sites: 0 at identity, 1 at most."""
        return self.over_sites(lambda site: self.means[site].discarded_share)

    @property
    def means(self) -> dict[Site, SiteMeans]:
        """The means of each site."""
        self._read()
        seen = {
            site: SiteMeans(prior / queries, discarded / queries)
            for site, (queries, prior, discarded) in self._sums.items()
            if queries
        }
        return dict.fromkeys(self._sites, SiteMeans(0.0, 0.0)) | seen | dict(self._reused)

    def reuse(self, means: Mapping[Site, SiteMeans]) -> None:
        """Take the means of some sites from an earlier record, of the same inputs and settings there."""
        self._reused = means

    def over_sites(self, value: Callable[[Site], float]) -> float:
        """Return the mean over all sites of a number that a site has."""
        return sum(map(value, self._sites)) / len(self._sites)

    def start_batch(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note which queries of a batch are real; a hook that runs before the model.

        Steps of generation are not recorded: they are not teacher-forced.
        """
        self._read()
        masks = {} if given_cache(kwargs) is not None else query_masks(self._model, kwargs)
        self._masks = {"encoder": self._masks["encoder"]} if "encoder" in self._masks else {}
        self._masks |= masks

    def start_encoder(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note which tokens of an encoder's batch are real; a hook for encoders that run by themselves."""
        self._masks["encoder"] = tokens_given(module, kwargs)

    def observe(self, site: Site, prior_weight: Tensor | None, token_share: float) -> None:
        """Add one site's weights of the prior, shape (batch, heads, queries), or None for weight 0."""
        if site.role not in self._masks:
            return
        mask = self._masks[site.role]
        weight: Tensor | float = 0.0
        queries: Tensor | int = 1 if mask is None else mask.sum()  # any, where all weigh the same
        if prior_weight is not None:
            of_queries = prior_weight.mean(1)
            if mask is None:
                queries = of_queries.numel()
            else:  # on the GPU that reads the inputs; a layer may be on another
                of_queries = torch.where(mask.to(of_queries.device), of_queries, 0.0)
            weight = in_float64(of_queries).sum()
        self._unread.append((site, queries, weight, token_share))

    def _read(self) -> None:
        """Add what the sites of the last batch had, with one transfer from the device for all of them."""
        tensors = [each for _, *both, _ in self._unread for each in both if isinstance(each, Tensor)]
        numbers = iter(numbers_in(tensors))
        for site, counted, summed, token_share in self._unread:
            queries = int(next(numbers)) if isinstance(counted, Tensor) else counted
            weight = next(numbers) if isinstance(summed, Tensor) else summed
            seen, prior, discarded = self._sums.get(site, (0, 0.0, 0.0))
            discarded += queries - token_share * (queries - weight)
            self._sums[site] = (seen + queries, prior + weight, discarded)
        self._unread.clear()


@contextmanager
def recording(model: PreTrainedModel, record: Record | None = None) -> Iterator[Record]:
    """Record prior weight and discarded share while the model runs teacher-forced, inside the block.

    Args:
        model: converted or not; call it with keyword arguments, as ``model(**batch)``. An encoder may also be
            run by itself, as ``model.get_encoder()(**inputs)``.
        record: an earlier one of this model, to go on with; without what a block adds that an error ends.
    """
    record = record or Record(model)
    record._read()
    before = dict(record._sums)
    hooks = [model.register_forward_pre_hook(record.start_batch, with_kwargs=True)]
    if model.config.is_encoder_decoder:
        encoder = model.get_encoder()
        hooks.append(encoder.register_forward_pre_hook(record.start_encoder, with_kwargs=True))
    conversion = conversion_of(model)
    try:
        with nullcontext() if conversion is None else conversion.observed(record.observe):
            yield record
    except BaseException:
        record._sums = before
        record._unread.clear()
        raise
    finally:
        for hook in hooks:
            hook.remove()
