"""Forward passes with dropout, and the mean of what they predict (Gal and Ghahramani, 2016, section 4).

What is dropped of an example depends on its tokens, the pass, the place in the model and the position there,
and on nothing else: a hash of them stands for the random number. So neither the size of batches nor their
padding changes a score, and a run that is resumed repeats it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from nvreg.compat import replace_forward
from nvreg.errors import UserError
from nvreg.models.cache import given_cache
from nvreg.models.registry import site_modules

MOST = 0.99
"""The highest rate of dropout: at 1 nothing would be left to scale up."""

_CACHED = 2**14
"""Numbers that are hashed at once on a CPU, where they stay in a core's cache: several times as fast."""

_FIRST, _SECOND = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
"""The multipliers of the finaliser of splitmix64, as signed numbers."""

_SPREAD = (0x1E3779B97F4A7C15, 0x3C6EF372FE94F82B, 0x5851F42D4C957F2D, 0x2545F4914F6CDD1D, 0x369DEA0F31A53F85)
"""Odd multipliers, one a dimension, that set the positions of a tensor apart."""


class DropoutPasses:
    """A model whose logits are those of the mean probabilities of several passes with dropout.

    The model's own ``forward`` is replaced, and runs once as it was where nothing is dropped. What a pass
    returns beside logits is the last one's, without a loss. An encoder that has run before, whose states are
    given, has no dropout.

    Args:
        model: in evaluation mode.
        passes: how many there are.

    Attributes:
        rate: the rate of every place for dropout, in place of the model's own rates where it is above 0.
        rate_scale: what the model's own rates are multiplied by, up to `MOST`.
        seed: another one drops other things.
        mean_rate: over the places for dropout of the last pass; 0 where nothing is dropped.
    """

    def __init__(self, model: PreTrainedModel, passes: int) -> None:
        self.rate, self.rate_scale, self.seed, self.mean_rate = 0.0, 0.0, 0, 0.0
        self._model, self._passes = model, passes
        self._forward = model.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            if self.rate == self.rate_scale == 0:
                return self._forward(*args, **kwargs)
            return self._mean(*args, **kwargs)

        self._revert = replace_forward(model, forward)

    def revert(self) -> None:
        """Give the model its own ``forward`` back."""
        self._revert()

    def _mean(self, *args: Any, **kwargs: Any) -> Any:
        if given_cache(kwargs) is not None:
            raise UserError(
                "expected a model that scores, got one that generates, which the mean of several passes "
                "with dropout cannot; set it to identity"
            )
        keys, lengths, total = _keys_of_examples(kwargs), _lengths(kwargs), None
        for number in range(self._passes):
            of_pass = _mixed(keys + _signed(self.seed * _SPREAD[0] + number * _SPREAD[1]))
            dropout = _Dropout(of_pass, lengths, self._rate)
            with _attention_in_training(self._model), dropout:
                output = self._forward(*args, **kwargs)
            log_probabilities = output.logits.log_softmax(-1, dtype=_wide(output.logits))
            total = log_probabilities if total is None else torch.logaddexp(total, log_probabilities)
        assert total is not None
        self.mean_rate = dropout.mean_rate
        output.logits = (total - math.log(self._passes)).to(output.logits.dtype)
        if output.get("loss") is not None:
            output.loss = None
        return output

    def _rate(self, own: float) -> float:
        return self.rate or min(self.rate_scale * own, MOST)


class _Dropout(TorchFunctionMode):
    """Has every dropout drop what the keys of examples say, whether or not modules are in training mode.

    Args:
        keys: the keys of the examples of a batch, in this pass: [examples].
        lengths: how many positions an example has, on each side.
        rate_of: the rate of a place, given its own.
    """

    def __init__(self, keys: Tensor, lengths: Collection[int], rate_of: Callable[[float], float]) -> None:
        super().__init__()
        self._keys, self._rate_of = keys, rate_of
        self._rows = {len(keys), *(len(keys) * length for length in lengths)}
        self._rates: list[float] = []

    @property
    def mean_rate(self) -> float:
        """Mean over all places so far; 0 where there is none."""
        return sum(self._rates) / max(1, len(self._rates))

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.dropout:
            return self._dropped(*args, **(kwargs or {}))
        if function is F.scaled_dot_product_attention:
            return self._attended(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _dropped(
        self, values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        rate = self._rate_of(p)
        self._rates.append(rate)
        if rate == 0:
            return values
        return torch.where(self._is_kept(values, rate), values / (1 - rate), 0)

    def _attended(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Return attention with dropout of its weights, which the fused function draws by itself."""
        if enable_gqa:
            groups = query.shape[-3] // key.shape[-3]
            key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
        scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min)
        elif attn_mask is not None:
            scores = scores + attn_mask
        weights = scores.softmax(-1, dtype=_wide(scores)).to(value.dtype)
        return self._dropped(weights, dropout_p) @ value

    def _is_kept(self, values: Tensor, rate: float) -> Tensor:
        """Return whether each value of a tensor is kept: bool, of its shape."""
        examples, shape = len(self._keys), values.shape
        if shape[0] % examples or (len(shape) == 2 and shape[0] not in self._rows):
            raise UserError(
                f"expected dropout of tensors with equally many rows for each of {examples} examples, got "
                f"one of shape {tuple(shape)}, as of tokens sent to an expert; what is dropped there cannot "
                "be told by example"
            )
        by_example = shape if shape[0] == examples else (examples, shape[0] // examples, *shape[1:])
        keys = self._keys.to(values.device)  # one GPU of several may read the inputs
        bits = _mixed(keys + _signed(len(self._rates) * _SPREAD[2]))
        *places, last = (
            torch.arange(size, device=bits.device) * multiplier
            for size, multiplier in zip(by_example[1:] or (1,), _SPREAD, strict=False)
        )
        for place in places:
            bits = bits[..., None] + place
        blocks = _in_blocks(bits.view(-1, 1), len(last))
        kept = [_mixed(rows + last) >= int(rate * 2**63) for rows in blocks]
        return torch.cat(kept).view(shape)


@contextmanager
def _attention_in_training(model: PreTrainedModel) -> Iterator[None]:
    """Have attention say its rate of dropout, which it does in training mode alone."""
    modules: list[nn.Module] = list(site_modules(model).values())
    before = [module.training for module in modules]
    try:
        for module in modules:
            module.training = True
        yield
    finally:
        for module, was_training in zip(modules, before, strict=True):
            module.training = was_training


def _in_blocks(rows: Tensor, width: int) -> tuple[Tensor, ...]:
    """Return rows that become so wide in blocks, as stay in a cache on a CPU; elsewhere as one."""
    return rows.split(max(1, _CACHED // max(1, width)) if rows.device.type == "cpu" else max(1, len(rows)))


def _keys_of_examples(inputs: Mapping[str, Any]) -> Tensor:
    """Return a number that stands for the tokens of each example, without padding: int64, [examples]."""
    keys = None
    for side in ("", "decoder_"):
        ids, mask = inputs.get(f"{side}input_ids"), inputs.get(f"{side}attention_mask")
        if ids is None:
            continue
        places = torch.arange(ids.shape[1], device=ids.device) * _SPREAD[0]
        hashed = _mixed(ids * _SPREAD[1] + places)
        if mask is not None:
            hashed = hashed * mask.bool()
        total = hashed.sum(dim=1)
        keys = total if keys is None else _mixed(keys) + total
    if keys is None:
        raise UserError("expected input_ids, by which dropout is seeded, got none")
    return _mixed(keys)


def _wide(values: Tensor) -> torch.dtype:
    return torch.promote_types(values.dtype, torch.float32)


def _lengths(inputs: Mapping[str, Any]) -> set[int]:
    """Return the numbers of positions of the tokens of a batch."""
    tokens = (inputs.get(name) for name in ("input_ids", "decoder_input_ids", "labels"))
    return {ids.shape[1] for ids in tokens if ids is not None and ids.ndim == 2}


def _mixed(values: Tensor) -> Tensor:
    """Return numbers from 0 to 2 ** 63 that are as good as random, one for each number.

    It is the finaliser of splitmix64 (Steele et al., 2014), but for shifts that keep the sign.
    """
    values = (values ^ (values >> 30)).mul_(_FIRST)
    values.bitwise_xor_(values >> 27).mul_(_SECOND)
    return values.bitwise_xor_(values >> 31)


def _signed(number: int) -> int:
    """Return a whole number wrapped to 64 bits with sign."""
    return (number + 2**63) % 2**64 - 2**63
