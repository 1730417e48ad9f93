"""How many operators of PyTorch a decoded token takes more in each layer: python -m benchmarks.operators.

Counts are the same on every machine, and matter where a model is small: every operator of a decoded token
runs from cold caches.
"""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache, PreTrainedModel

import nvreg
from benchmarks.shapes import METHODS, SETTINGS, build, prior_of, tokens, with_the_weights_of


class Counter(TorchDispatchMode):
    """Counts the operators that run while it is entered; those that only view a tensor too."""

    def __init__(self) -> None:
        super().__init__()
        self.all = self.views = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Count an operator, and run it."""
        self.all += 1
        self.views += function.is_view
        return function(*args, **(kwargs or {}))


def main() -> None:
    """Print a table: operators a layer and token beyond the unconverted model's, and how many are views."""
    print("| model | method | " + " | ".join(SETTINGS) + " |")
    print("|---" * (2 + len(SETTINGS)) + "|")
    for name in ("gpt2", "llama"):
        plain = build(name, torch.float32)
        layers = plain.config.num_hidden_layers
        base = count(plain)
        for method in METHODS:
            cells = []
            prior = prior_of(plain, method)
            for setting in SETTINGS.values():
                model = nvreg.convert_(with_the_weights_of(plain), prior, setting)
                more, views = (
                    (ours - theirs) / layers for ours, theirs in zip(count(model), base, strict=True)
                )
                cells.append(f"{more:.0f}, of which {views:.0f} are views")
            print(f"| {name} | {method} | " + " | ".join(cells) + " |", flush=True)


def count(model: PreTrainedModel) -> tuple[int, int]:
    """Return the operators of one token after 128 in a cache, and how many of them are views."""
    with torch.no_grad():
        cache = DynamicCache(config=model.config)
        for ids in (tokens(2, 128), tokens(2, 1)):  # the first token prepares what all later ones use
            model(input_ids=ids, past_key_values=cache, use_cache=True)
        with Counter() as counter:
            model(input_ids=tokens(2, 1), past_key_values=cache, use_cache=True)
    return counter.all, counter.views


if __name__ == "__main__":
    main()
