"""Sites converted in head space: NV attention in place of the function that a model's attention calls.

A converted module runs its own forward. What it sees of its config names `attention_forward` as the function
to call (docs/method.md, section 9); masks are made outside of it, for sdpa or eager attention as before.
"""

from __future__ import annotations

import functools
import re
import warnings
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, Cache, PreTrainedConfig

from nvreg.attention.heads import attend_heads
from nvreg.attention.moments import HeadMoments
from nvreg.attention.prepared_heads import PreparedHeads, prepare_heads
from nvreg.attention.settings import SiteSettings
from nvreg.attention.solving import solve_tau_sigma
from nvreg.compat import naming_attention
from nvreg.errors import NvregWarning, UserError
from nvreg.models.adapter import is_eager
from nvreg.models.dispatching import scale_of
from nvreg.models.module import NVForward
from nvreg.models.projections import as_autocast, without_autocast
from nvreg.models.site import Site, SiteState

NAME = "nvreg-heads"
"""The name under which Transformers knows the attention function of converted modules."""

_ROTARY = re.compile(r"(?:^|_)(rope|rotary)(?:_|$)")
"""What configs call the options of rotary positions."""

_Given = tuple[float, int, tuple[int, int, int], torch.dtype, torch.device]
"""What a setting is prepared for: c, query heads per key head, `HeadMoments.shape`, and where and in what."""


class DispatchedState(SiteState):
    """What is beside a module whose attention function is `attention_forward`.

    Args:
        site: the module's.
        module: what is at the site.
    """

    space = "heads"

    def __init__(self, site: Site, module: Any) -> None:
        super().__init__(site)
        self.seen_config: Any = _seen(module.config)

    def __getstate__(self) -> dict[str, Any]:  # a copy of the module has another config to see
        return {**vars(self), "seen_config": None}

    def forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a module's own forward, which calls `attention_forward`."""
        return module.own_forward(*args, **kwargs)

    @abstractmethod
    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scale: float, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Return outputs and weights; arguments as those of `nvreg.attention.heads.attend_heads`."""


class HeadState(DispatchedState):
    """What is beside a module under NV regularisation in head space.

    Args:
        site: the module's.
        module: what is at the site.
        moments: the site's prior.
        interpolates: as in `nvreg.attention.prepared_heads.prepare_heads`.
    """

    setting_type = SiteSettings

    def __init__(self, site: Site, module: Any, moments: HeadMoments, *, interpolates: bool = True) -> None:
        super().__init__(site, module)
        self.interpolates = interpolates
        self._moments = moments
        self._longest = moments.longest if _rotates_keys(module.config) else 0  # 0: any will do
        self._prepared: PreparedHeads

    def forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a module's own forward, and warn where there are more tokens than a text of the prior had."""
        output = super().forward(module, *args, **kwargs)
        if self._longest and self.site.role == "decoder" and not torch.compiler.is_compiling():
            caches = (each for each in (*kwargs.values(), *args) if isinstance(each, Cache))
            length: Any = 0 if (cache := next(caches, None)) is None else cache.get_seq_length()
            is_elsewhere = torch.is_tensor(length) and length.device.type != "cpu"  # to ask is to wait for it
            if not is_elsewhere and self._longest < length:
                _warn_beyond(self._longest)
        return output

    def unsettle(self) -> None:
        """Have the next forward make everything anew."""
        self._made_for: Any = None

    def solve_tau_sigma(self, module: Any, noise_share: float) -> float:
        """Return the tau_sigma at which noise has the wanted share of what is seen of tokens.

        Raises:
            UserError: if the share cannot be had, or it is not known which scale the module gives.
        """
        if (scale := self._scale(module)) is None:
            raise UserError(
                f"expected a module that says by which scale it multiplies, for noise_share, got "
                f"{type(module).__name__} at {self.site.name!r}; set tau_sigma"
            )
        return solve_tau_sigma(noise_share, self._moments.key_variance, scale, site=self.site.name)

    def refresh(self, module: Any, dtype: torch.dtype) -> None:
        """Make what the setting needs beforehand, as compiled code wants it, for what is to be expected."""
        scale, parameter = self._scale(module), next(module.parameters(), None)
        if scale is not None and parameter is not None:
            groups = getattr(module, "num_key_value_groups", 1)
            self._make((scale, groups, self._moments.shape, dtype, parameter.device))

    def _scale(self, module: Any) -> float | None:
        return scale_of(module, self._moments.shape[1])

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scale: float, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Run NV attention.

        Raises:
            UserError: if the prior has another number of heads, or heads of another width.
        """
        _, key_heads, keys, key_width = key.shape
        groups, shape = query.shape[1] // key_heads, (key_heads, key_width, value.shape[3])
        made_for = scale, groups, shape, query.dtype, query.device
        if made_for != self._made_for:
            self._make(made_for)
        if self._longest and not torch.compiler.is_compiling():
            reach = keys if self.site.role == "cross" else query.shape[2]  # a cache may have room for more
            if self._longest < reach:
                _warn_beyond(self._longest)
        output, weights, prior_weight = attend_heads(
            query,
            key,
            value,
            self._prepared,
            scale,
            solve=None if self.solver is None else functools.partial(self.solver, self.site),
            **options,
        )
        if self.observer is not None:
            self.observer(self.site, prior_weight, self._prepared.token_share)
        return output, weights

    @torch.compiler.disable
    def _make(self, made_for: _Given) -> None:
        scale, groups, shape, dtype, device = made_for
        if shape != self._moments.shape:
            raise UserError(
                f"expected a prior of {shape[0]} key heads with keys of width {shape[1]} and values of width "
                f"{shape[2]} at {self.site.name!r}, got {', '.join(map(str, self._moments.shape))}; "
                "estimate this model's with `nvreg prior --space heads`"
            )
        with torch.no_grad(), without_autocast(device):
            self._prepared = prepare_heads(
                self._moments,
                self.settings,
                scale,
                groups=groups,
                dtype=dtype,
                device=device,
                interpolates=self.interpolates,
            )
        self._made_for = made_for


def _rotates_keys(config: PreTrainedConfig) -> bool:
    """Return whether a config speaks of rotary positions, as those of all models that have them do."""
    return any(
        _ROTARY.search(key) or (key == "position_embedding_type" and value == "rotary")
        for key, value in vars(config).items()
        if value is not None
    )


@functools.cache
def _warn_beyond(longest: int) -> None:
    """Warn once that texts are longer than those that the prior was estimated on."""
    warnings.warn(
        f"texts are longer than the {longest} tokens that the prior was estimated on, and rotated keys have "
        "other moments further on: scores are right, but a setting may do less well on such texts than it "
        "could; estimate the prior on training text that is as long",
        category=NvregWarning,
        stacklevel=2,
    )


class DispatchedForward(NVForward):
    """First base of the class of a module that is converted in head space."""

    nv_states: list[Any]

    @property
    def config(self) -> Any:
        """The module's config; away from identity, one that names the attention function to call."""
        state = self.nv
        return self.__dict__["config"] if state.is_identity else state.seen_config

    @config.setter
    def config(self, config: PreTrainedConfig) -> None:
        self.__dict__["config"] = config
        self._see_config()

    def _see_config(self) -> None:
        for state in self.nv_states:
            state.seen_config = _seen(self.__dict__["config"])

    def plain_forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the pretrained forward, whatever the setting."""
        state, was_identity = self.nv, self.nv.is_identity
        state.is_identity = True
        try:
            return self.own_forward(*args, **kwargs)
        finally:
            state.is_identity = was_identity

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        self._see_config()


def _seen(config: PreTrainedConfig) -> PreTrainedConfig:
    """Return the very same config, but for the attention function that it names."""
    kind: Any = type(config)
    seen = object.__new__(naming_attention(kind, NAME))
    object.__setattr__(seen, "__dict__", vars(config))
    return seen


def attention_forward(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    indices: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor | None]:
    """Run NV attention where a converted module calls its attention function.

    What it is given means what it means to Transformers' sdpa attention, or to the model's own eager
    attention, which goes by its mask alone and returns weights.

    Args:
        module: the converted module.
        query: shape (batch, heads, queries, e).
        key: shape (batch, key heads, keys, e).
        value: shape (batch, key heads, keys, f).
        attention_mask: bool or additive, or None.
        scaling: c, by default ``1/sqrt(e)``.
        is_causal: whether later keys are hidden where there is no mask; by default the module's own word.
        position_bias: added to the logits of tokens.
        softcap: what the logits are capped to.
        s_aux: logits of the model's own sink, shape (heads,).
        indices: the keys that are seen, shape (batch, queries, kept), where attention is sparse.

    Returns:
        Outputs, shape (batch, queries, heads, f), and weights with the prior in column 0, shape
        (batch, heads, queries, 1 + keys), or None.
    """
    needs_weights = is_eager(module.__dict__["config"])
    query, key, value = as_autocast(query, key, value)
    queries, mask = query.shape[2], attention_mask
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    is_causal = queries > 1 and mask is None and bool(is_causal) and not needs_weights
    if is_causal and key.shape[2] > queries:  # an empty static cache: the rest is not written yet
        key, value = key[:, :, :queries], value[:, :, :queries]
        position_bias = None if position_bias is None else position_bias[..., :queries]
    if is_causal and position_bias is not None:
        mask, is_causal = torch.ones(queries, queries, dtype=torch.bool, device=query.device).tril(), False
        mask = mask.view(1, 1, queries, queries)
    if mask is not None:
        mask = mask[..., : key.shape[2]]
    if indices is not None:
        chosen = torch.zeros(*indices.shape[:2], key.shape[2], dtype=torch.bool, device=query.device)
        mask = _restricted(mask, chosen.scatter(-1, indices.long(), True).unsqueeze(1))
    with without_autocast(query.device):
        output, weights = module.nv.attend(
            query,
            key,
            value,
            query.shape[-1] ** -0.5 if scaling is None else scaling,
            mask=mask,
            position_bias=position_bias,
            is_causal=is_causal,
            softcap=softcap,
            sink=s_aux,
            need_weights=needs_weights,
        )
    return output.transpose(1, 2).contiguous(), weights


def _restricted(mask: Tensor | None, chosen: Tensor) -> Tensor:
    """Return a mask that hides all but the chosen keys too."""
    if mask is None:
        return chosen
    if mask.dtype == torch.bool:
        return mask & chosen
    return mask.masked_fill(~chosen, torch.finfo(mask.dtype).min)


AttentionInterface.register(NAME, attention_forward)
