"""A few thousand tokens of a data set, for what is measured on a sample (docs/method.md, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from torch import Tensor

from nvreg.data import Examples
from nvreg.models.tokens import IGNORED
from nvreg.tasks.base import Task, part

CALIBRATION_TOKENS = 4096
CALIBRATION_EXAMPLES = 32
"""Where examples are long, weights differ more between them than within them."""


def random_batches(
    task: Task, examples: Examples, tokens: int = CALIBRATION_TOKENS
) -> list[dict[str, Tensor]]:
    """Return random examples as teacher-forced batches, the same ones each time.

    Args:
        task: of the examples.
        examples: at least one.
        tokens: of encoder and decoder each, in `CALIBRATION_EXAMPLES` examples or more; all examples where
            they have fewer.
    """
    most = max(tokens, CALIBRATION_EXAMPLES)
    records = Random(0).sample(examples.records, min(len(examples), most))
    encoded = task.encode(Examples(records))
    taken = count = 0
    while taken < len(records) and (count < tokens or taken < CALIBRATION_EXAMPLES):
        count += _tokens(task.batch(encoded, [taken]))
        taken += 1
    return list(task.teacher_forced(part(encoded, slice(taken))))


def _tokens(batch: Mapping[str, Tensor]) -> int:
    counts = [batch["attention_mask"].sum()]
    if "labels" in batch and batch["labels"].ndim > 1:
        counts.append((batch["labels"] != IGNORED).sum())
    return int(min(counts))
