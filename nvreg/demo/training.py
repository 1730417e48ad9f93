"""Training the models of the demo: one loop, and the same numbers whatever the number of cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from random import Random

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from nvreg.demo.recipe import Training

Batch = Mapping[str, Tensor]


def train_(
    model: PreTrainedModel, batches: Iterator[Batch], training: Training, advance: Callable[[float], None]
) -> None:
    """Train a model in place, and leave it in evaluation mode.

    Args:
        model: which.
        batches: with labels; as many are taken as there are steps.
        training: how.
        advance: called with the loss after each step.
    """
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, betas=(0.9, 0.98))
    schedule = get_linear_schedule_with_warmup(optimizer, training.warmup_steps, training.steps)
    for batch in islice(batches, training.steps):
        loss = model(**batch).loss
        loss.backward()
        clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        advance(loss.item())
    model.eval()


def epochs(batches: Sequence[Batch], seed: int) -> Iterator[Batch]:
    """Yield the batches without end, each epoch in another order."""
    rng = Random(seed)
    while True:
        yield from rng.sample(batches, len(batches))


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Seed PyTorch and keep it to one thread; afterwards it is as it was.

    The order of sums depends on the number of threads, and with batches this small a second one gains little,
    less than nothing when other work wants the cores.
    """
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
