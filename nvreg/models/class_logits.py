"""The logits of classes, remembered by batch: for what changes them afterwards, the model runs once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from nvreg.compat import replace_forward
from nvreg.memory import KeptByBatch

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
        self._kept = KeptByBatch(budget_bytes)
        own, is_of_words = model.forward, model.get_output_embeddings() is not None

        def forward(*args: Any, **kwargs: Any) -> Any:
            if args or is_of_words or not _asks_for_logits_alone(kwargs):
                return own(*args, **kwargs)
            logits = self._kept.of(kwargs, lambda: own(**kwargs).logits)
            return SequenceClassifierOutput(logits=logits.clone())

        self._revert = replace_forward(model, forward)

    def revert(self) -> None:
        """Give the model its own ``forward`` back, and forget what was remembered."""
        self._kept.clear()
        self._revert()


def _asks_for_logits_alone(inputs: Mapping[str, Any]) -> bool:
    """Return whether inputs are token ids and masks, without labels or options, and nothing is trained."""
    are_ids = all(isinstance(each, Tensor) and not each.is_floating_point() for each in inputs.values())
    return are_ids and "labels" not in inputs and not torch.is_grad_enabled()
