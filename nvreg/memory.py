"""Memory: batches that do not fit, in halves, and what a GPU has free."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from nvreg.errors import is_of_memory


def in_halves(groups: Iterable[list[int]], run: Callable[[list[int]], None]) -> int:
    """Call a function on every group in order, and on the halves of one that does not fit in memory.

    Args:
        groups: positions of examples.
        run: what is called; once again on a part of what it failed with.

    Returns:
        How many times a group was halved.

    Raises:
        RuntimeError: what ``run`` raises otherwise, or if even one example does not fit.
    """
    left = list(groups)[::-1]
    halved = 0
    while left:
        group = left.pop()
        if not _fits(run, group):
            torch.cuda.empty_cache()
            left += [group[len(group) // 2 :], group[: len(group) // 2]]
            halved += 1
    return halved


def over_rows(batch: Mapping[str, Tensor], run: Callable[[Mapping[str, Tensor]], None]) -> int:
    """Call a function on a batch, and on the halves of its rows if it does not fit in memory.

    Args:
        batch: tensors [rows, ...].
        run: what is called; once again on a part of what it failed with.

    Returns:
        How many times the batch was halved.

    Raises:
        RuntimeError: as `in_halves`.
    """
    rows = range(len(next(iter(batch.values()))))
    return in_halves([list(rows)], lambda part: run({name: tensor[part] for name, tensor in batch.items()}))


def peak_bytes(devices: Sequence[torch.device], run: Callable[[], object]) -> list[int]:
    """Return how much memory of each GPU something takes at its peak, beside what is held before it."""
    held = [torch.cuda.memory_allocated(device) for device in devices]
    for device in devices:
        torch.cuda.reset_peak_memory_stats(device)
    run()
    peaks = [torch.cuda.max_memory_allocated(device) for device in devices]
    return [peak - before for peak, before in zip(peaks, held, strict=True)]


def free_bytes(device: torch.device) -> int:
    """Return how much memory of a GPU this process can still have, what PyTorch keeps unused with it."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def _fits(run: Callable[[list[int]], None], group: list[int]) -> bool:
    """Return whether it ran; the error, which holds on to the tensors of its frames, ends here."""
    try:
        run(group)
    except RuntimeError as error:
        if len(group) == 1 or not is_of_memory(error):
            raise
        return False
    return True
