"""What `nvreg.diagnostics.measure_heads` costs beside a plain forward: python -m benchmarks.heads."""

from __future__ import annotations

import statistics

import torch
from transformers import PreTrainedModel

import nvreg
from benchmarks.shapes import SETTINGS, build, tokens, with_the_weights_of
from benchmarks.timing import interleaved, ratio
from nvreg.diagnostics import measure_heads

ROUNDS = 3
BATCHES = {512: 2, 1024: 1}
"""Rows by length in tokens."""


def main() -> None:
    """Print a table: milliseconds of the unconverted model's forward, and the ratio to it."""
    print("| model | tokens | unconverted, ms | measure_heads, " + ", measure_heads, ".join(SETTINGS) + " |")
    print("|---" * (3 + len(SETTINGS)) + "|")
    for name in ("bert", "gpt2", "llama"):
        plain = build(name, torch.float32)
        models = [
            nvreg.convert_(with_the_weights_of(plain), nvreg.Prior.gaussian(plain), each)
            for each in SETTINGS.values()
        ]
        for length, rows in BATCHES.items():
            time_length(name, plain, models, rows, length)


def time_length(
    name: str, plain: PreTrainedModel, models: list[PreTrainedModel], rows: int, length: int
) -> None:
    """Print the row of one length."""
    ids = tokens(rows, length)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def forward() -> object:
        with torch.inference_mode():
            return plain(**batch)

    calls = {"plain": forward}
    for setting, model in zip(SETTINGS, models, strict=True):
        calls[setting] = lambda model=model: measure_heads(model, [batch])
    seconds = interleaved(calls, ROUNDS)
    base = seconds["plain"]
    cells = " | ".join(str(ratio(seconds[setting], base)) for setting in SETTINGS)
    print(f"| {name} | {length} | {1000 * statistics.median(base):.0f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
