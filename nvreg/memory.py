"""Memory: batches that do not fit, in halves, what a GPU has free, and what is kept by batch."""

from __future__ import annotations

import hashlib
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


class KeptByBatch:
    """Tensors that are made of batches, up to a number of bytes.

    Those of the first batches are kept. What does not fit beside them is made again each time: every setting
    meets the batches in the same order, so that to make room would be to lose each just before it is needed.

    Args:
        budget_bytes: most bytes of the tensors kept, on their device.

    Attributes:
        kept_bytes: how many bytes are taken.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.kept_bytes = 0
        self._budget = budget_bytes
        self._kept: dict[bytes, Tensor] = {}

    def clear(self) -> None:
        """Drop everything."""
        self.kept_bytes = 0
        self._kept.clear()

    def of(self, batch: Mapping[str, Tensor], make: Callable[[], Tensor]) -> Tensor:
        """Return what is kept of a batch, or make it.

        Args:
            batch: token ids, masks and the like, which tell batches apart; their device is waited for.
            make: makes it.
        """
        name = _digest(batch)
        if name in self._kept:
            return self._kept[name]
        made = make()
        size = made.element_size() * made.numel()
        if self.kept_bytes + size <= self._budget:
            self._kept[name] = made
            self.kept_bytes += size
        return made


def _digest(batch: Mapping[str, Tensor]) -> bytes:
    digest = hashlib.sha256()
    for name, tensor in sorted(batch.items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + tensor.cpu().numpy().tobytes())
    return digest.digest()
