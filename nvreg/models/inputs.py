"""Sites converted in the space that keys and values are projected from: NV attention, and its controls."""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nvreg.attention.fused import Prepared, Projection, QueryMap, attend, prepare
from nvreg.attention.moments import Moments
from nvreg.attention.rotary import Rotation
from nvreg.attention.settings import SiteSettings
from nvreg.attention.solving import solve_tau_sigma
from nvreg.compat import child
from nvreg.models.adapter import Adapter
from nvreg.models.projections import device_of, is_linear, revision, without_autocast
from nvreg.models.site import Site, SiteState


class Weights(NamedTuple):
    """What of a module's weights its parameters follow from.

    Attributes:
        key: the key projection by head, in float32 at least, like the next.
        value: the value projection.
        scale: c.
        dtype: the dtype of the model's activations.
    """

    key: Projection
    value: Projection
    scale: float
    dtype: torch.dtype


class InputState(SiteState):
    """What is beside a module of which an adapter scales what its key and value projections read.

    Args:
        site: the module's.
        adapter: the adapter of its layout.
    """

    space = "inputs"

    def __init__(self, site: Site, adapter: Adapter) -> None:
        super().__init__(site)
        self.adapter = adapter
        self._prepared: Prepared
        self.scale: float

    @abstractmethod
    def prepare(self, weights: Weights) -> Prepared:
        """Return what the current setting needs."""

    def forward(self, module: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the adapter's forward.

        Raises:
            RuntimeError: if it is exported with adapters that may change.
        """
        if not torch.compiler.is_compiling():
            self.refresh(module, hidden_states.dtype)
        elif not self.is_settled:
            if torch.compiler.is_exporting():
                raise RuntimeError(
                    "expected settled weights to export: merge adapters, then call nvreg.set_settings_"
                )
            self._refresh_between_graphs(module, hidden_states.dtype)
        if kwargs.get("is_causal") is None:  # the caller's word goes before the module's, as in Transformers
            kwargs["is_causal"] = self.adapter.is_causal(module)
        return self.adapter.forward(module, hidden_states, *args, **kwargs)

    def unsettle(self) -> None:
        """Have the next forward make everything anew: the weights may be others."""
        self._made_from: Any = None
        self.is_settled = False

    @torch.compiler.disable
    def _refresh_between_graphs(self, module: nn.Module, dtype: torch.dtype) -> None:
        self.refresh(module, dtype)

    def refresh(self, module: nn.Module, dtype: torch.dtype) -> None:
        """Recompute what the setting needs, if it, the weights, their device or ``dtype`` changed."""
        linears = [child(module, name) for name in self.adapter.key_value_modules]
        revisions = (dtype, *[revision(linear, self.site.width) for linear in linears])
        if self._made_from == revisions:
            return
        self.is_settled = all(map(is_linear, linears))
        self.scale = self.adapter.scale(module)
        with torch.no_grad(), without_autocast(device_of(linears[0])):
            self._prepared = self.prepare(Weights(*self.adapter.projections(module), self.scale, dtype))
        self._made_from = revisions

    def token_components(self, z: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the input of the key and value projections, and beta_i of shape (batch, 1, 1, keys)."""
        tokens = self._prepared.tokens
        if tokens is None:
            return z, None
        with without_autocast(z.device):
            return tokens.means(z), tokens.bias(z).view(z.shape[0], 1, 1, -1)

    def with_columns(self, value: Tensor, rotation: Rotation) -> Tensor:
        """Append what the mean rotation of the keys is read from, where the setting needs it (section 5)."""
        if self._prepared.interpolation is None:
            return value
        return torch.cat([value, rotation.columns(*value.shape[:2]).to(value.dtype)], dim=-1)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        mask: Tensor | None,
        *,
        is_causal: bool,
        need_weights: bool,
        rotation: Rotation | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Run NV attention at a module of this layout.

        Args:
            query: ``W_q x + b_q``, not scaled, shape (batch, heads, queries, e).
            key: keys of all tokens seen so far, shape (batch, key heads, keys, e).
            value: their values, shape of key, or wider through `with_columns`.
            bias: their beta_i, shape (batch, 1, 1, keys), or None.
            mask: what Transformers passes as ``attention_mask``: bool or additive, or None.
            is_causal: whether sdpa attention hides later keys where there is no mask; eager attention, which
                returns weights, goes by its mask alone.
            need_weights: return the weights too.
            rotation: the rotation of the queries, where positions are rotary.

        Returns:
            Output before the output projection, shape (batch, queries, heads * e), and the weights with the
            prior in column 0, shape (batch, heads, queries, 1 + keys), or None.
        """
        queries = query.shape[2]
        is_causal = is_causal and mask is None and queries > 1 and not need_weights
        if is_causal and key.shape[2] > queries:  # an empty static cache: the rest is not written yet
            key, value = key[:, :, :queries], value[:, :, :queries]
            bias = None if bias is None else bias[..., :queries]
        with without_autocast(query.device):
            output, weights, prior_weight = attend(
                query,
                key,
                value,
                self._prepared,
                self.scale,
                bias=bias,
                mask=mask,
                is_causal=is_causal,
                need_weights=need_weights,
                rotation=rotation,
                solve=None if self.solver is None else functools.partial(self.solver, self.site),
            )
        if self.observer is not None:
            self.observer(self.site, prior_weight, self._prepared.token_share)
        return output.transpose(1, 2).flatten(2), weights


class NVState(InputState):
    """A site under NV regularisation.

    Args:
        site: which.
        adapter: the adapter of its layout.
        moments: the site's prior.
        interpolates: as in `nvreg.attention.fused.prepare`.
    """

    setting_type = SiteSettings

    def __init__(self, site: Site, adapter: Adapter, moments: Moments, *, interpolates: bool = True) -> None:
        super().__init__(site, adapter)
        self._moments = moments
        self.interpolates = interpolates

    def solve_tau_sigma(self, module: nn.Module, noise_share: float) -> float:
        """Return the tau_sigma at which noise has the wanted share of what is seen of tokens.

        Raises:
            UserError: if the share cannot be had.
        """
        scale = self.adapter.scale(module)
        return solve_tau_sigma(noise_share, self._moments.variance, scale, site=self.site.name)

    def prepare(self, weights: Weights) -> Prepared:
        """Return what the current setting needs."""
        return prepare(
            self._moments,
            self.settings,
            weights.scale,
            weights.key,
            weights.value,
            dtype=weights.dtype,
            interpolates=self.interpolates,
        )


class SiteTemperature(NamedTuple):
    """What scores are divided by, above 0."""

    temperature: float = 1.0


class TemperatureState(InputState):
    """A site whose scores, position biases included, are divided by a temperature."""

    setting_type = SiteTemperature

    def prepare(self, weights: Weights) -> Prepared:
        """Return what the current temperature needs."""
        return Prepared(temperature=self.settings.temperature)


class SiteSink(NamedTuple):
    """The logit of one more key, whose value is zero."""

    sink_logit: float = -math.inf


class SinkState(InputState):
    """A site with one more key of constant logit and zero value, where NV attention has its prior."""

    setting_type = SiteSink

    def prepare(self, weights: Weights) -> Prepared:
        """Return what the current logit needs."""
        heads, head_dim, _ = weights.key.weight.shape
        nothing = weights.key.weight.new_zeros(heads, head_dim, head_dim + 1)
        offset = F.pad(nothing[:, :1, 1:], (0, 1), value=self.settings.sink_logit)
        return Prepared(prior=QueryMap(nothing, offset))
