"""How much is scored at a time where ``batch_tokens`` is auto: tried on the model and on what is scored."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from nvreg.config import Evaluation
from nvreg.data import batches
from nvreg.memory import free_bytes, in_halves, peak_bytes
from nvreg.models.teacher_forcing import device_of
from nvreg.progress import Progress
from nvreg.results import BatchSize
from nvreg.tasks.base import BATCH_TOKENS, Encoded, RunRows, Task

LEAST_WORK = 10**12
"""Parameters of the model times padded tokens of all data sets, from which on a size is looked for: less is
scored in seconds on a CPU at any size."""

LEAST_BATCHES = 200
"""Batches of the usual size that are scored in all, from which on a size is looked for: trying takes some."""

LARGER, SMALLER = (4096, 8192), (1024, 512)
"""Sizes that are tried on a CPU beside the usual one, until one is slower than that before it."""

MOST_LOGITS = 2**28
"""Logits of a batch of the larger sizes at most, a gigabyte in float32: what a CPU has free, nothing says."""

CLEARLY = 1.1
"""Times as fast as the usual size that another is, at least, to be taken: clocks are not that wrong twice."""

SHARE_OF_TIME = 0.01
"""How much of the time of all scoring trying sizes may take, beside the usual one."""

MOST_ON_GPU = 2**14
"""Padded tokens of a batch on a GPU at most: larger ones pay little, and pad short rows to longer ones."""

SHARE_OF_MEMORY = 0.5
"""How much of a GPU's free memory a batch may take: regularised attention takes more, as do longer texts."""


def settled_batch_size(
    evaluation: Evaluation,
    find: Callable[[], BatchSize],
    progress: Progress,
    earlier: BatchSize | None = None,
) -> BatchSize:
    """Return how much is scored at a time: what a file says, or was found before, or is found now.

    Args:
        evaluation: says a number, or auto.
        find: finds it.
        progress: is told what is looked for, and what was found.
        earlier: what was found before, if it was.
    """
    if evaluation.batch_tokens != "auto":
        return BatchSize(tokens=evaluation.batch_tokens)
    if earlier is None:
        progress.phase("finding the size of batches")
    size = earlier or find()
    progress.say(f"batches of {size.tokens} tokens: {size.found}")
    return size


def find_batch_size(
    model: PreTrainedModel, task: Task[Any], sets: Sequence[Encoded], repeats: int = 1
) -> BatchSize:
    """Return how much is best scored at a time: on a GPU by memory, elsewhere by speed.

    Some batches of the largest data set are run as scoring runs them, generation included, and their results
    thrown away.

    Args:
        model: as pretrained, in evaluation mode.
        task: encodes and scores; its ``batch_tokens`` stays as it is.
        sets: the data sets that are scored, one or more.
        repeats: how often each is.
    """
    try:
        return _found(model, task, sets, repeats)
    except Exception:  # scoring says what is wrong, and of which example
        return BatchSize(tokens=BATCH_TOKENS, found="no other could be tried")


def _found(model: PreTrainedModel, task: Task[Any], sets: Sequence[Encoded], repeats: int) -> BatchSize:
    tokens = [sum(task.lengths(each)) for each in sets]
    if not task.pads or not any(tokens):
        return BatchSize(tokens=BATCH_TOKENS, found="this task scores alike at any size")
    scored, work = repeats * sum(tokens), sum(tokens) * model.num_parameters()
    if scored < LEAST_BATCHES * BATCH_TOKENS or work < LEAST_WORK:
        return BatchSize(tokens=BATCH_TOKENS, found="too little is scored for another size to pay")
    device, most = device_of(model), MOST_LOGITS // _logits_of_a_token(model)

    def by_speed(lengths: Sequence[int], run: RunRows) -> BatchSize:
        def run_to_its_end(rows: list[int]) -> None:
            run(rows)
            if device.type != "cpu":  # which goes on computing
                torch.accelerator.synchronize(device)

        return fastest(lengths, run_to_its_end, scored, most)

    measure = partial(that_fits, model) if device.type == "cuda" else by_speed
    found = task.rehearse(model, sets[tokens.index(max(tokens))], measure)
    assert found is not None
    return found


def _logits_of_a_token(model: PreTrainedModel) -> int:
    """Return how many logits a model makes of a token, 1 where it has a head of few."""
    head = model.get_output_embeddings()
    return 1 if head is None else int(head.weight.shape[0])


def that_fits(model: PreTrainedModel, lengths: Sequence[int], run: RunRows) -> BatchSize:
    """Return the size whose batches fit on every GPU that a model is on, by one of the usual size.

    Args:
        model: on one GPU or several.
        lengths: padded tokens of the rows.
        run: runs rows.
    """
    devices = sorted({each.device for each in model.parameters() if each.device.type == "cuda"}, key=str)
    longest = batches(lengths, BATCH_TOKENS)[0]
    in_halves([longest], run)  # what runs for the first time loads libraries, which stay in memory
    needed = peak_bytes(devices, lambda: in_halves([longest], run))
    padded = len(longest) * lengths[longest[0]]
    rows = []
    for device, peak in zip(devices, needed, strict=True):
        each, free = peak / padded, free_bytes(device)
        rows.append((tokens_that_fit(each, free), each, free, str(device)))
    tokens, each, free, name = min(rows)
    found = f"a token takes {each / 1e3:.0f} kB, and {free / 1e9:.1f} GB of {name} are free"
    return BatchSize(tokens=tokens, found=found)


def tokens_that_fit(bytes_each: float, free: int) -> int:
    """Return the power of two of tokens, up to `MOST_ON_GPU`, that take at most their share of free memory.

    Args:
        bytes_each: what one takes.
        free: bytes.
    """
    most = min(SHARE_OF_MEMORY * free / max(bytes_each, 1e-9), MOST_ON_GPU)
    return 1 << max(int(most), 1).bit_length() - 1


def fastest(
    lengths: Sequence[int],
    run: RunRows,
    scored: int,
    most: int = LARGER[-1],
    clock: Callable[[], float] = time.perf_counter,
) -> BatchSize:
    """Return the size that scores most tokens a second: the usual one unless another is clearly faster.

    Args:
        lengths: padded tokens of the rows.
        run: runs rows.
        scored: tokens of all that is scored.
        most: tokens of a batch at most that are tried.
        clock: returns seconds.
    """

    def pace(size: int) -> float:
        """Return the tokens a second of batches of this size, of rows of about median length."""
        made = batches(lengths, size)
        count = max(1, BATCH_TOKENS // size)
        start = max(0, (len(made) - count) // 2)
        tried, began = made[start : start + count], clock()
        in_halves(tried, run)
        return sum(lengths[row] for rows in tried for row in rows) / max(clock() - began, 1e-9)

    pace(SMALLER[-1])  # what runs for the first time loads libraries
    paces = {BATCH_TOKENS: (usual := pace(BATCH_TOKENS))}
    end = clock() + SHARE_OF_TIME * scored / usual
    largest = max(BATCH_TOKENS, min(most, sum(lengths)))
    for sizes in (LARGER, SMALLER):
        last = usual
        for size in sizes:
            if size > largest or clock() + max(size, BATCH_TOKENS) / last > end:
                break
            paces[size] = pace(size)
            if paces[size] <= last:
                break
            last = paces[size]
    best = max(paces, key=lambda size: paces[size])
    is_clear = paces[best] >= CLEARLY * usual and pace(best) >= CLEARLY * pace(BATCH_TOKENS)
    measured = ", ".join(f"{size}: {paces[size]:.0f}" for size in sorted(paces))
    kept = "" if is_clear else "; none is clearly faster than the usual"
    return BatchSize(
        tokens=best if is_clear else BATCH_TOKENS, found=f"tokens a second by size are {measured}{kept}"
    )
