"""What a converted attention module carries: its site, prior and setting, and what follows from them."""

from __future__ import annotations

import contextlib
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from nvreg.attention.fused import Parameters, Projection, attend, prepare
from nvreg.attention.rotary import Rotation
from nvreg.attention.settings import SiteSettings
from nvreg.errors import UserError
from nvreg.models.adapter import Adapter, is_linear, revision

if TYPE_CHECKING:
    from nvreg.prior.artefact import Prior


class Site(NamedTuple):
    """One attention module of a model.

    Attributes:
        name: module path relative to ``model.base_model``: the same under every head.
        role: ``encoder``, ``cross`` or ``decoder``.
        layer: index from 0 within the role.
        width: d, the number of coordinates that keys and values are projected from.
    """

    name: str
    role: str
    layer: int
    width: int


Observer = Callable[[Site, "Tensor | None", float], None]
"""Called at every forward with the site, ``A_m0`` of shape (batch, heads, queries), and the token share."""


Solver = Callable[[Site, Tensor], float]
"""Called at every forward with the site and ``g_m`` of shape (batch, heads, queries); returns the shift t."""


class Weights(NamedTuple):
    """What of a module's weights its parameters follow from.

    Attributes:
        key: the key projection by head, in float32 at least, like the next.
        value: the value projection.
        groups: query heads per key head.
        scale: c.
        dtype: of the model's activations.
    """

    key: Projection
    value: Projection
    groups: int
    scale: float
    dtype: torch.dtype


class SiteState(ABC):
    """What is beside a converted module; the pretrained weights stay where they are, untouched.

    Attributes:
        setting: type of the site's settings, a named tuple whose defaults are the identity.
    """

    setting: ClassVar[type[Any]]

    def __init__(self, site: Site, adapter: Adapter) -> None:
        """Start at identity."""
        self.site = site
        self.adapter = adapter
        self.settings = self.setting()
        self.observer: Observer | None = None
        self.solver: Solver | None = None
        self._parameters: Parameters
        self.scale: float

    @abstractmethod
    def prepare(self, weights: Weights) -> Parameters:
        """Return what the current setting needs."""

    @property
    def settings(self) -> Any:
        """The site's parameters."""
        return self._settings

    @settings.setter
    def settings(self, settings: Any) -> None:
        self._settings = settings
        self.unsettle()
        # Compiled code takes a float never to become infinite.
        self.is_identity = settings == self.setting()

    def unsettle(self) -> None:
        """Have the next forward make everything anew: the weights may be others."""
        self._made_from: Any = None
        self.is_settled = False

    @torch.compiler.disable
    def refresh(self, module: nn.Module, dtype: torch.dtype) -> None:
        """Recompute what the setting needs, if it, the weights, their device or ``dtype`` changed."""
        linears = [module._modules[name] for name in self.adapter.key_value_modules]
        revisions = (dtype, *[revision(linear, self.site.width) for linear in linears])
        if self._made_from == revisions:
            return
        self.is_settled = all(map(is_linear, linears))
        self.scale = self.adapter.scale(module)
        groups = getattr(module, "num_key_value_groups", 1)
        with torch.no_grad():
            self._parameters = self.prepare(
                Weights(*self.adapter.projections(module), groups, self.scale, dtype)
            )
        self._made_from = revisions

    def token_components(self, z: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the input of the key and value projections, and beta_i of shape (batch, 1, 1, keys)."""
        tokens = self._parameters.tokens
        if tokens is None:
            return z, None
        with _without_autocast(z):
            return tokens.means(z), tokens.bias(z).view(z.shape[0], 1, 1, -1)

    def with_columns(self, value: Tensor, rotation: Rotation) -> Tensor:
        """Append what the mean rotation of the keys is read from, where the setting needs it (section 5)."""
        if self._parameters.interpolation is None:
            return value
        return torch.cat([value, rotation.columns(*value.shape[:2]).to(value.dtype)], dim=-1)

    def attend(
        self,
        module: Any,
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
            module: the converted module.
            query: ``W_q x + b_q``, not scaled, shape (batch, heads, queries, e).
            key: keys of all tokens seen so far, shape (batch, key heads, keys, e).
            value: their values, shape of key, or wider through `with_columns`.
            bias: their beta_i, shape (batch, 1, 1, keys), or None.
            mask: what Transformers passes as ``attention_mask``: bool or additive, or None.
            is_causal: whether sdpa attention hides later keys where there is no mask; eager attention, which
                returns weights, goes by its mask alone.
            need_weights: return the weights too.
            rotation: of the queries, where positions are rotary.

        Returns:
            Output before the output projection, shape (batch, queries, heads * e), and the weights with the
            prior in column 0, shape (batch, heads, queries, 1 + keys), or None.
        """
        queries = query.shape[2]
        is_causal = is_causal and mask is None and queries > 1 and not need_weights
        if is_causal and key.shape[2] > queries:  # an empty static cache: the rest is not written yet
            key, value = key[:, :, :queries], value[:, :, :queries]
            bias = None if bias is None else bias[..., :queries]
        with _without_autocast(query):
            output, weights, gate = attend(
                query,
                key,
                value,
                self._parameters,
                self.scale,
                bias=bias,
                mask=mask,
                is_causal=is_causal,
                need_weights=need_weights,
                rotation=rotation,
                solve=None if self.solver is None else functools.partial(self.solver, self.site),
            )
        if self.observer is not None:
            self.observer(self.site, gate, self._parameters.token_share)
        return output.transpose(1, 2).flatten(2), weights


_NOTHING = contextlib.nullcontext()


def _without_autocast(tensor: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Keep the bias and the prior's logit in float32: autocast would round their products."""
    device = tensor.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else _NOTHING


class NVState(SiteState):
    """A site under NV regularisation.

    Args:
        site: which.
        adapter: of its layout.
        prior: with the moments of the site.
        interpolates: as in `nvreg.attention.fused.prepare`.
    """

    setting = SiteSettings

    def __init__(self, site: Site, adapter: Adapter, prior: Prior, *, interpolates: bool = True) -> None:
        super().__init__(site, adapter)
        self.prior = prior
        self._interpolates = interpolates

    def prepare(self, weights: Weights) -> Parameters:
        """Return what the current setting needs."""
        return prepare(
            self.prior[self.site.name],
            self.settings,
            weights.scale,
            weights.key,
            weights.value,
            groups=weights.groups,
            dtype=weights.dtype,
            interpolates=self._interpolates,
        )


class NVForward(nn.Module):
    """First base of every converted module's class: NV attention unless the site is at identity."""

    nv: SiteState

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the pretrained forward at identity, the adapter's otherwise.

        Raises:
            RuntimeError: in training mode, for which the method is not defined; or when it is exported with
                adapters that may change.
            UserError: under continuous batching, whose cache attends by itself.
        """
        state = self.nv
        if state.is_identity:
            return super().forward(hidden_states, *args, **kwargs)
        if self.training:
            raise RuntimeError(
                "NV attention is evaluated, not trained: call model.eval() or nvreg.revert_(model)"
            )
        if kwargs.get("cache") is not None:
            raise UserError(
                "expected a cache that hands back its keys, got the paged one of continuous batching; "
                "call model.generate"
            )
        if not (state.is_settled and torch.compiler.is_compiling()):
            if torch.compiler.is_exporting():
                raise RuntimeError(
                    "expected settled weights to export: merge adapters, then call nvreg.set_settings_"
                )
            state.refresh(self, hidden_states.dtype)
        if kwargs.get("is_causal") is None:  # the caller's word goes before the module's, as in Transformers
            kwargs["is_causal"] = self.is_causal
        return state.adapter.forward(self, hidden_states, *args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(value, nn.Module):  # adapters come, merge into the weights, and go
            self.nv.unsettle()

    def _apply(self, *args: Any, **kwargs: Any) -> NVForward:  # to another device or dtype
        self.nv.unsettle()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.nv.unsettle()
        super()._load_from_state_dict(*args, **kwargs)

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:  # the class has no name to be found by
        return _unpickled, (type(self).__mro__[2],), self.__dict__

    def extra_repr(self) -> str:
        """Name the setting in ``print(model)``."""
        return ", ".join(f"{name}={value:g}" for name, value in self.nv.settings._asdict().items())


def _unpickled(plain: Any) -> nn.Module:
    converted = converted_class(plain)
    return converted.__new__(converted)


@functools.cache
def converted_class(plain: type[nn.Module]) -> type[nn.Module]:
    """Return a subclass of an attention class: hooks that go by class still match."""
    return type(f"NV{plain.__name__}", (NVForward, plain), {"__module__": plain.__module__})
