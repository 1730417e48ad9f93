"""What is timed: prefill, cached decoding, and teacher-forced evaluation of a padded batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from transformers import PreTrainedModel

from benchmarks.shapes import tokens

Workload = Callable[[PreTrainedModel], object]


def workloads_of(model: PreTrainedModel, lengths: list[int]) -> Mapping[str, Workload]:
    """Return the workloads that fit a model, by name."""
    seq2seq, generates = model.config.is_encoder_decoder, model.can_generate()

    def prefill(length: int) -> Workload:
        inputs = {"input_ids": tokens(2, length)}
        if seq2seq:
            inputs["decoder_input_ids"] = tokens(2, 64)
        return lambda model: model(**inputs, use_cache=False) if generates else model(**inputs)

    def padded(model: PreTrainedModel) -> object:
        ids = tokens(8, 256)
        kept = torch.arange(256) < torch.arange(256, 0, -32)[:, None]
        batch = {"input_ids": ids.masked_fill(~kept, 0), "attention_mask": kept.long()}
        batch["labels"] = ids.masked_fill(~kept, -100)
        return model(**batch)

    def decode(model: PreTrainedModel) -> object:
        length = {"min_new_tokens": 64, "max_new_tokens": 64}
        return model.generate(input_ids=tokens(2, 128), do_sample=False, **length)

    chosen: dict[str, Workload] = {f"prefill {length}": prefill(length) for length in lengths}
    chosen["padded batch"] = padded
    if generates:
        chosen["decode 64"] = decode
    return chosen
