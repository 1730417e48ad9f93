"""What is timed: prefill, cached decoding, and teacher-forced evaluation of a padded batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from benchmarks.shapes import tokens

Workload = Callable[[PreTrainedModel], object]


KINDS = ["prefill", "padded", "decode"]
COMPILED = "compiled"
"""Decoding with a static cache, which Transformers compiles on a GPU."""


def workloads_of(
    model: PreTrainedModel,
    lengths: list[int],
    kinds: Sequence[str] = KINDS,
    *,
    rows: Sequence[int] = (2,),
    new_tokens: int = 64,
) -> Mapping[str, Workload]:
    """Return the workloads of these kinds that fit a model, by name.

    Args:
        model: the model.
        lengths: tokens of a prefill.
        kinds: of `KINDS` and `COMPILED`.
        rows: how many texts are read, or written, at once.
        new_tokens: how many tokens are decoded.
    """
    seq2seq, generates = model.config.is_encoder_decoder, model.can_generate()
    device = model.device

    def prefill(count: int, length: int) -> Workload:
        inputs = {"input_ids": tokens(count, length).to(device)}
        if seq2seq:
            inputs["decoder_input_ids"] = tokens(count, 64).to(device)
        return lambda model: model(**inputs, use_cache=False) if generates else model(**inputs)

    def padded(model: PreTrainedModel) -> object:
        ids = tokens(8, 256).to(device)
        kept = (torch.arange(256) < torch.arange(256, 0, -32)[:, None]).to(device)
        batch = {"input_ids": ids.masked_fill(~kept, 0), "attention_mask": kept.long()}
        batch["labels"] = ids.masked_fill(~kept, -100)
        return model(**batch)

    def decode(count: int, **options: Any) -> Workload:
        options |= {"min_new_tokens": new_tokens, "max_new_tokens": new_tokens, "do_sample": False}
        ids = tokens(count, 128).to(device)
        return lambda model: model.generate(input_ids=ids, **options)

    def named(name: str, count: int) -> str:
        return name if len(rows) == 1 else f"{name}, {count} rows"

    chosen: dict[str, Workload] = {}
    if "prefill" in kinds:
        chosen |= {
            named(f"prefill {length}", count): prefill(count, length) for count in rows for length in lengths
        }
    if "padded" in kinds:
        chosen["padded batch"] = padded
    if "decode" in kinds and generates:
        chosen |= {named(f"decode {new_tokens}", count): decode(count) for count in rows}
    if COMPILED in kinds and generates:
        chosen |= {
            named(f"decode {new_tokens}, compiled", count): decode(count, cache_implementation="static")
            for count in rows
        }
    return chosen
