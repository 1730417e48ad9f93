"""The logits of classes, remembered by batch: for what changes them afterwards, the model runs once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from nvreg.digests import batch_digest

MOST_BYTES = 2**28
"""How much is remembered: the batches that come first."""


class RememberedClassLogits:
    """A model that chooses one of several classes, and runs once on every batch that it reads.

    The model's own ``forward`` is replaced. It runs whenever it is asked for more than logits (a loss, a
    gradient, hidden states), and on every batch of a model that predicts words, whose logits are too many.

    Args:
        model: in evaluation mode, with weights that stay as they are.
        budget_bytes: most bytes of the logits remembered, on the model's device.
    """

    def __init__(self, model: PreTrainedModel, budget_bytes: int = MOST_BYTES) -> None:
        self._model, self._left = model, budget_bytes
        self._kept: dict[bytes, Tensor] = {}
        self._output: type[Any] = ModelOutput
        self._own: Callable[..., Any] | None = vars(model).get("forward")
        self._forward = model.forward
        self._is_of_words = model.get_output_embeddings() is not None

        @functools.wraps(self._forward)
        def forward(*args: Any, **kwargs: Any) -> Any:
            if args or self._is_of_words or not _asks_for_logits_alone(kwargs):
                return self._forward(*args, **kwargs)
            return self._remembered(kwargs)

        vars(model)["forward"] = forward

    def revert(self) -> None:
        """Give the model its own ``forward`` back, and forget what was remembered."""
        self._kept.clear()
        del vars(self._model)["forward"]
        if self._own is not None:
            vars(self._model)["forward"] = self._own

    def _remembered(self, inputs: Mapping[str, Tensor]) -> Any:
        name = batch_digest(inputs)
        if name in self._kept:
            return self._output(logits=self._kept[name].clone())
        output = self._forward(**inputs)
        self._output = type(output)
        logits = output.logits
        size = logits.element_size() * logits.numel()
        if size <= self._left:
            self._left -= size
            self._kept[name] = logits.clone()
        return output


def _asks_for_logits_alone(inputs: Mapping[str, Any]) -> bool:
    """Return whether inputs are token ids and masks, without labels or options, and nothing is trained."""
    are_ids = all(isinstance(each, Tensor) and not each.is_floating_point() for each in inputs.values())
    return are_ids and "labels" not in inputs and not torch.is_grad_enabled()
