"""Teacher-forced runs of a model, for what its attention reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nvreg.models.cache import without_cache
from nvreg.models.tokens import IGNORED


def decoder_inputs(model: PreTrainedModel, labels: Tensor) -> Tensor:
    """Return what a decoder reads to predict its labels, [rows, positions], shifted as the model does it."""
    shift: Callable[[Tensor], Tensor] | None = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if shift is not None:
        return shift(labels)
    start = torch.full_like(labels[:, :1], model.config.decoder_start_token_id)
    shifted = torch.cat([start, labels[:, :-1]], dim=1)
    return shifted.masked_fill(shifted == IGNORED, model.config.pad_token_id)


def run_body(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> None:
    """Run a model without what its attention does not need: a loss, a cache, logits of all positions.

    Args:
        model: whose hooks and observers see the run.
        batch: as `estimate_prior` takes them, on the model's device.
    """
    inputs = dict(batch)
    labels = inputs.pop("labels", None)
    is_fed = "decoder_input_ids" in inputs or not model.config.is_encoder_decoder
    if labels is not None and labels.ndim > 1 and not is_fed:
        inputs["decoder_input_ids"] = decoder_inputs(model, labels)
        inputs.setdefault("decoder_attention_mask", (labels != IGNORED).long())
    with ExitStack() as stack:
        if head := model.get_output_embeddings():
            hook = head.register_forward_pre_hook(lambda _, hidden: (hidden[0][:, :1],))
            stack.callback(hook.remove)
        model(**inputs, **without_cache(model))
