"""Forward passes that scores are made of: an encoder's outputs, kept, and the likelihood of labels."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from nvreg.data import model_inputs, pad
from nvreg.errors import NotFiniteError
from nvreg.memory import KeptByBatch
from nvreg.models import IGNORED
from nvreg.models.teacher_forcing import decoder_inputs, in_float64, on_device, to_device
from nvreg.tasks.windows import LabelledTokens, lengths_of

_POSITIONS = 256
"""How many positions are normalised at a time where memory is all that matters."""

_CACHED = 2**17
"""How many logits a thread of the CPU normalises at a time, few enough for the cache of its core."""


class EncoderStates(KeptByBatch):
    """Outputs of an encoder by batch, for the settings that leave it as it was."""

    def __init__(self, budget_bytes: int) -> None:
        super().__init__(budget_bytes)
        self._key: str | None = None

    def use(self, key: str) -> None:
        """Say which setting the encoder is at; what was kept at another is dropped."""
        if key != self._key:
            self._key = key
            self.clear()

    def of_encoder(self, model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the encoder's last hidden states of a batch, shape (batch, tokens, width).

        Args:
            model: an encoder-decoder model, at the setting of the last `use`.
            inputs: ``input_ids`` and ``attention_mask``, as the encoder takes them, on the CPU.
        """

        def run() -> Tensor:
            states: Tensor = model.get_encoder()(**on_device(model, inputs)).last_hidden_state
            return states

        return self.of(inputs, run)


def negative_log_likelihood(
    model: PreTrainedModel, labels: Tensor, temperatures: Sequence[float] = (1.0,), **inputs: Any
) -> Tensor:
    """Return the summed negative log-likelihood of each row's labels, in nats, at each temperature.

    The model computes logits where something is scored and nowhere else: they are often most of the work and
    the largest tensor of a run. They are normalised in float32, so many at a time that on the CPU all
    temperatures find them in its cache.

    Args:
        model: a model whose output at a position is scored on the label there, unlike a causal model's in
            Transformers, which is scored on the label one position later.
        labels: [rows, positions], -100 where nothing is scored; on the CPU, where it is known at once which
            positions these are.
        temperatures: what logits are divided by.
        inputs: what the model reads, without labels, on its device.

    Returns:
        [temperatures, rows], float64, on the device of the logits if it has such numbers, else on the CPU.
    """
    places = (labels != IGNORED).flatten().nonzero()[:, 0]
    hook = model.get_output_embeddings().register_forward_pre_hook(
        lambda _, hidden: (_rows_at(hidden[0].flatten(0, 1), places),)
    )
    try:
        logits = model(**inputs, use_cache=False).logits
    finally:
        hook.remove()
    device = logits.device
    totals = in_float64(torch.zeros(len(temperatures), len(labels), device=device))
    scored = to_device(labels.flatten()[places], device)
    rows = to_device(places // labels.shape[1], totals.device)
    on_cpu = max(1, _CACHED * torch.get_num_threads() // logits.shape[-1])
    positions = on_cpu if device.type == "cpu" else _POSITIONS
    parts = (tensor.split(positions) for tensor in (logits, scored, rows))
    for part, label, row in zip(*parts, strict=True):
        totals.index_add_(1, row, in_float64(_nats(part.float(), label, temperatures)))
    return totals


def _nats(logits: Tensor, labels: Tensor, temperatures: Sequence[float]) -> Tensor:
    """Return the negative log-likelihood of labels at each temperature, [temperatures, positions].

    At 1 it is PyTorch's own. At others the greatest logit is found once and one buffer serves all, where a
    cross-entropy for each writes every log-probability. There it has no gradient.

    Args:
        logits: [positions, vocabulary], float32.
        labels: [positions].
        temperatures: what logits are divided by.
    """
    plain = F.cross_entropy(logits, labels, reduction="none")
    if list(temperatures) == [1]:
        return plain[None]
    below = logits - logits.amax(dim=1, keepdim=True)
    of_labels = below.gather(1, labels[:, None])[:, 0]
    buffer = torch.empty_like(below)

    def at(temperature: float) -> Tensor:
        torch.mul(below, 1 / temperature, out=buffer)
        return buffer.exp_().sum(dim=1).log() - of_labels / temperature

    return torch.stack([plain if each == 1 else at(each) for each in temperatures])


class ByRow:
    """What a model makes of the rows of batches, left on its device until all have run."""

    def __init__(self) -> None:
        self._places: list[int] = []
        self._parts: list[Tensor] = []

    def add(self, places: Sequence[int], part: Tensor) -> None:
        """Take a tensor [places, ...]."""
        self._places += places
        self._parts.append(part)

    def whole(self, *shape: int) -> Tensor:
        """Return it in the order of places, float64, on the CPU, in this shape; 0 where there is nothing."""
        whole = torch.zeros(shape, dtype=torch.float64)
        if self._parts:
            whole[self._places] = torch.cat(self._parts).cpu().double()
        return whole


def check_finite(values: Tensor, rows: Sequence[int] | None = None) -> None:
    """Check that what a model made of every example is finite.

    Args:
        values: [rows, ...].
        rows: how many rows each example has, in their order; None: one.

    Raises:
        NotFiniteError: if something is not; with the first such example.
    """
    is_finite = values.isfinite().flatten(1).all(dim=1)
    if not is_finite.all():
        row = int(is_finite.logical_not().nonzero()[0])
        raise NotFiniteError(row if rows is None else bisect(list(accumulate(rows)), row))


def _rows_at(tensor: Tensor, places: Tensor) -> Tensor:
    """Return rows of a tensor whose numbers are known on the CPU, without waiting for the device."""
    return tensor.index_select(0, to_device(places, tensor.device))


def row_likelihoods(
    model: PreTrainedModel,
    rows: Sequence[Callable[[], LabelledTokens]],
    padding: int,
    in_batches: Callable[[Sequence[int], Callable[[list[int]], None]], None],
    temperatures: Sequence[float] = (1.0,),
) -> Tensor:
    """Return what `negative_log_likelihood` does of rows that are made when they are needed.

    Args:
        model: as for `negative_log_likelihood`.
        rows: each made when it is needed.
        padding: any token, for what is masked.
        in_batches: calls a function on the positions of batches, given the padded tokens of every row.
        temperatures: as for `negative_log_likelihood`.
    """
    totals = ByRow()

    def run(indices: list[int]) -> None:
        made = [rows[index]() for index in indices]
        inputs = model_inputs([row.inputs for row in made], padding)
        labels = pad([row.labels for row in made], IGNORED)
        if model.config.is_encoder_decoder:
            inputs["decoder_input_ids"] = decoder_inputs(model, labels)
            inputs["decoder_attention_mask"] = (labels != IGNORED).long()
        nats = negative_log_likelihood(model, labels, temperatures, **on_device(model, inputs))
        totals.add(indices, nats.T)

    with torch.inference_mode():
        in_batches(lengths_of(rows), run)
    return totals.whole(len(rows), len(temperatures)).T
