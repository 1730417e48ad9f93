"""What is timed: prefill, cached decoding, and teacher-forced evaluation of a padded batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from transformers import PreTrainedModel

from benchmarks.shapes import tokens

Workload = Callable[[PreTrainedModel], object]


KINDS = ["prefill", "padded", "decode"]


def workloads_of(
    model: PreTrainedModel, lengths: list[int], kinds: Sequence[str] = KINDS
) -> Mapping[str, Workload]:
    """Return the workloads of these kinds that fit a model, by name."""
    seq2seq, generates = model.config.is_encoder_decoder, model.can_generate()
    device = model.device

    def prefill(length: int) -> Workload:
        inputs = {"input_ids": tokens(2, length).to(device)}
        if seq2seq:
            inputs["decoder_input_ids"] = tokens(2, 64).to(device)
        return lambda model: model(**inputs, use_cache=False) if generates else model(**inputs)

    def padded(model: PreTrainedModel) -> object:
        ids = tokens(8, 256).to(device)
        kept = (torch.arange(256) < torch.arange(256, 0, -32)[:, None]).to(device)
        batch = {"input_ids": ids.masked_fill(~kept, 0), "attention_mask": kept.long()}
        batch["labels"] = ids.masked_fill(~kept, -100)
        return model(**batch)

    def decode(model: PreTrainedModel) -> object:
        length = {"min_new_tokens": 64, "max_new_tokens": 64}
        return model.generate(input_ids=tokens(2, 128).to(device), do_sample=False, **length)

    chosen: dict[str, Workload] = {}
    if "prefill" in kinds:
        chosen |= {f"prefill {length}": prefill(length) for length in lengths}
    if "padded" in kinds:
        chosen["padded batch"] = padded
    if "decode" in kinds and generates:
        chosen["decode 64"] = decode
    return chosen
