"""What nvreg must know of an attention layout: one subclass of `Adapter` a layout, mostly names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from torch import Tensor
from transformers import PreTrainedConfig

from nvreg.attention.fused import Projection
from nvreg.attention.rotary import Rotation
from nvreg.compat import attention_implementation
from nvreg.errors import UserError
from nvreg.models.cache import Components, cached, given_cache
from nvreg.models.projections import columns, fused_projections, project_fused, projection, split_heads


class Adapter(ABC):
    """How Transformers arranges one kind of attention module.

    A layout with separate projections names them and what else it calls by a name of its own; what it does
    otherwise, it overrides. Adapters hold no state: they read plain and converted modules alike. What a
    setting needs at run time is on the converted module as ``module.nv`` (`nvreg.models.inputs.InputState`).
    Modules are typed Any: their attributes are the layout's.

    Attributes:
        attention_classes: model type (as in ``config.model_type``) to the name of its attention class, a
            regular expression where it has several.
        refused_options: option of a config to the reason why a model that sets it cannot be converted.
        query_module: name of the attention module's child that projects queries.
        key_value_modules: names of those that project keys and values; one name if one projects both.
        output_projection: path of the module that mixes the heads, from the attention module; after "..",
            from its parent, which is then the one to run it.
        head_dim: name of the module's attribute that is e.
        layer: name of the module's attribute that is its index in the cache.
        states: name of the forward's argument that is the encoder's output.
        mask: name of the forward's argument that is the mask.
        is_eager_only: whether the module runs eager attention whatever the config says.
    """

    attention_classes: ClassVar[Mapping[str, str]]
    refused_options: ClassVar[Mapping[str, str]] = {}
    query_module: ClassVar[str] = "q_proj"
    key_value_modules: ClassVar[tuple[str, ...]] = ("k_proj", "v_proj")
    output_projection: ClassVar[str] = "out_proj"
    head_dim: ClassVar[str] = "head_dim"
    layer: ClassVar[str] = "layer_idx"
    states: ClassVar[str] = "key_value_states"
    mask: ClassVar[str] = "attention_mask"
    is_eager_only: ClassVar[bool] = False

    def refusal(self, config: PreTrainedConfig) -> str | None:
        """Return why a model of this layout cannot be converted, or None."""
        for option, reason in self.refused_options.items():
            value = getattr(config, option, None)
            if value is not None and value is not False:  # 0.0 is a number to clip to
                return f"{reason} ({option})"
        return None

    # --- what a module is -------------------------------------------------------------------------

    @abstractmethod
    def role(self, module: Any, name: str) -> str:
        """Return ``encoder``, ``cross`` or ``decoder`` for the module called ``name`` in the base model."""

    def scale(self, module: Any) -> float:
        """Return c, by which the model multiplies ``(W_q x + b_q) . (W_k z + b_k)``."""
        return module.scaling if hasattr(module, "scaling") else getattr(module, self.head_dim) ** -0.5

    def width(self, module: Any) -> int:
        """Return d, the number of coordinates that keys and values are projected from."""
        return getattr(module, self.key_value_modules[0]).in_features

    def is_causal(self, module: Any) -> bool:
        """Return whether sdpa attention hides later keys, where neither a mask nor the caller says so."""
        return not self.is_eager_only and module.is_causal

    def projections(self, module: Any) -> tuple[Projection, Projection]:
        """Return the key and the value projection by head, in float32 at least."""
        key, value = (getattr(module, name) for name in self.key_value_modules)
        head_dim = getattr(module, self.head_dim)
        return projection(key, head_dim), projection(value, head_dim)

    def weights(self, module: Any) -> tuple[Tensor, Tensor]:
        """Return views of the weights of plain key and value projections; either side may be transposed."""
        key, value = (getattr(module, name).weight.detach() for name in self.key_value_modules)
        return key, value

    # --- what its forward does --------------------------------------------------------------------

    def key_input(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """Return z, shape (batch, keys, d), from the arguments of the module's forward."""
        states = kwargs.get(self.states)
        return hidden_states if states is None else states

    def forward(
        self, module: Any, hidden_states: Tensor, *, is_causal: bool, **kwargs: Any
    ) -> tuple[Any, ...]:
        """Do what the module's own forward does, with NV attention.

        Args:
            module: the converted module.
            hidden_states: x, shape (batch, queries, width of the model).
            is_causal: whether sdpa attention hides later keys where there is no mask.
            kwargs: what else the module's own forward is given.

        Returns:
            What the module's own forward does.
        """
        rotation = self.rotation(module, hidden_states, kwargs)
        query, components = self.components(module, hidden_states, kwargs, rotation)
        return self.attend(
            module,
            query,
            components,
            kwargs.get(self.mask),
            is_causal=is_causal,
            need_weights=self.needs_weights(module, kwargs),
            rotation=rotation,
        )

    def rotation(self, module: Any, hidden_states: Tensor, kwargs: Mapping[str, Any]) -> Rotation | None:
        """Return the rotation of queries and keys, None where positions are not rotary."""
        return None

    def needs_weights(self, module: Any, kwargs: Mapping[str, Any]) -> bool:
        """Return whether a forward returns attention maps, as it does where it computes them."""
        return kwargs.get("output_attentions", False) if self.is_eager_only else is_eager(module.config)

    def components(
        self, module: Any, hidden_states: Tensor, kwargs: Mapping[str, Any], rotation: Rotation | None = None
    ) -> tuple[Tensor, Components]:
        """Return queries, not rotated, and the components of all keys seen so far, the cache's among them.

        Args:
            module: the converted module.
            hidden_states: what its forward is given, like the next.
            kwargs: arguments by name.
            rotation: the rotation of queries and keys, where positions are rotary.
        """
        states = kwargs.get(self.states)
        if states is None:
            means, bias = module.nv.token_components(hidden_states)
            query, key, value = self.project(module, hidden_states, means)
            if rotation is not None:
                key, value = rotation(key), module.nv.with_columns(value, rotation)
            make = partial(_given, (key, value, bias))
        else:
            query = self.project_query(module, hidden_states)
            make = partial(self._cross_components, module, states)
        if (cache := given_cache(kwargs)) is None:
            return query, make()
        return query, cached(cache, getattr(module, self.layer), make, is_cross=states is not None)

    def _cross_components(self, module: Any, states: Tensor) -> Components:
        means, bias = module.nv.token_components(states)
        return *self.project_cross(module, means), bias

    def project(self, module: Any, hidden_states: Tensor, means: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries of ``hidden_states``, keys and values of ``means``, (batch, heads, tokens, e)."""
        return self.project_query(module, hidden_states), *self.project_cross(module, means)

    def project_query(self, module: Any, hidden_states: Tensor) -> Tensor:
        """Return queries, shape (batch, heads, queries, e)."""
        return split_heads(getattr(module, self.query_module)(hidden_states), getattr(module, self.head_dim))

    def project_cross(self, module: Any, means: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values alone, shape (batch, key heads, keys, e)."""
        key, value = self.key_value_modules
        head_dim = getattr(module, self.head_dim)
        return (
            split_heads(getattr(module, key)(means), head_dim),
            split_heads(getattr(module, value)(means), head_dim),
        )

    def attend(
        self,
        module: Any,
        query: Tensor,
        components: Components,
        mask: Tensor | None,
        *,
        is_causal: bool,
        need_weights: bool,
        rotation: Rotation | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Run NV attention (see `InputState.attend`), and what mixes the heads where the module does that."""
        output, weights = module.nv.attend(
            query,
            *components,
            mask,
            is_causal=is_causal and not self.is_eager_only,
            need_weights=need_weights,
            rotation=rotation,
        )
        if not self.output_projection.startswith(".."):
            output = getattr(module, self.output_projection)(output)
        return output, weights


class FusedAdapter(Adapter):
    """A layout in which one projection makes queries, keys and values, in cross-attention the latter two."""

    @abstractmethod
    def split(self, module: Any, features: Tensor) -> tuple[Tensor, ...]:
        """Split what the projection makes, shape (..., features), into parts of shape (..., heads, e)."""

    def width(self, module: Any) -> int:
        """Return d (see `Adapter.width`)."""
        return module.config.hidden_size

    def projections(self, module: Any) -> tuple[Projection, Projection]:
        """Return both projections by head (see `Adapter.projections`)."""
        return fused_projections(self._fused(module), self.width(module), partial(self.split, module))

    def weights(self, module: Any) -> tuple[Tensor, Tensor]:
        """Return views of both weights (see `Adapter.weights`)."""
        key, value = self.split(module, columns(self._fused(module)).detach())[-2:]
        return key, value

    def project(self, module: Any, hidden_states: Tensor, means: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values (see `Adapter.project`)."""
        query, key, value = project_fused(
            self._fused(module), hidden_states, means, partial(self.split, module)
        )
        return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)

    def project_cross(self, module: Any, means: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values alone (see `Adapter.project_cross`)."""
        key, value = self.split(module, self._fused(module)(means))
        return key.transpose(1, 2), value.transpose(1, 2)

    def _fused(self, module: Any) -> Any:
        return getattr(module, self.key_value_modules[0])


def _given(components: Components) -> Components:
    return components


def is_eager(config: PreTrainedConfig) -> bool:
    """Whether a model runs eager attention, the one that returns attention maps.

    Raises:
        UserError: if it runs one whose masks are not those of sdpa or eager attention.
    """
    implementation = attention_implementation(config)
    if implementation not in ("sdpa", "eager"):
        raise UserError(
            f"expected attn_implementation 'sdpa' or 'eager', got {implementation!r}; "
            "load the model with attn_implementation='sdpa', or call model.set_attn_implementation('sdpa')"
        )
    return implementation == "eager"
