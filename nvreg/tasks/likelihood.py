"""Negative log-likelihood of labels under a model's logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from nvreg.data import model_inputs, pad
from nvreg.models.tokens import IGNORED

_POSITIONS = 256


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the summed negative log-likelihood of each row's labels, in nats: [rows], float64, on the CPU.

    Each token's is computed in float32. No more than 256 positions are normalised at a time, and no padding:
    a copy of all logits in float32 would often be the largest tensor of a run.

    Args:
        logits: [rows, positions, vocabulary], of any dtype.
        labels: [rows, positions], -100 where nothing is scored.
    """
    totals = torch.zeros(len(labels), dtype=torch.float64)
    rows, positions = (labels != IGNORED).nonzero(as_tuple=True)
    for row, position in zip(rows.split(_POSITIONS), positions.split(_POSITIONS), strict=True):
        token = F.cross_entropy(logits[row, position].float(), labels[row, position], reduction="none")
        totals.index_add_(0, row.cpu(), token.cpu().double())
    return totals


def decoder_inputs(model: PreTrainedModel, labels: Tensor) -> dict[str, Any]:
    """Return what has an encoder-decoder model read its labels, [rows, positions], and no more than that.

    Given the labels themselves it would compute a loss too, at a tenth of the decoder's cost; a few models
    take nothing else.
    """
    shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    return {"decoder_input_ids": shift(labels), "use_cache": False} if shift else {"labels": labels}


class Row(NamedTuple):
    """What a model reads at once, and the token that each of its outputs is scored on, -100 for none.

    An encoder-decoder model reads the inputs in its encoder, and its decoder is fed with the labels.
    """

    inputs: list[int]
    labels: list[int]


def row_likelihoods(
    model: PreTrainedModel,
    rows: Sequence[Callable[[], Row]],
    pad_token_id: int | None,
    in_batches: Callable[[Sequence[int], Callable[[list[int]], None]], None],
) -> Tensor:
    """Return the summed negative log-likelihood of each row's labels, in nats: [rows], float64, on the CPU.

    Args:
        model: of which the logits at a position are of the label there, unlike the labels of a causal model
            in Transformers, which are one position later.
        rows: each made when it is needed.
        pad_token_id: any token, for what is masked.
        in_batches: calls a function on the positions of batches, given the padded tokens of every row.
    """
    totals = torch.zeros(len(rows), dtype=torch.float64)

    def run(indices: list[int]) -> None:
        made = [rows[index]() for index in indices]
        inputs = {
            name: tensor.to(model.device)
            for name, tensor in model_inputs([row.inputs for row in made], pad_token_id).items()
        }
        labels = pad([row.labels for row in made], IGNORED).to(model.device)
        fed = decoder_inputs(model, labels) if model.config.is_encoder_decoder else {"use_cache": False}
        totals[indices] = negative_log_likelihood(model(**inputs, **fed).logits, labels)

    with torch.inference_mode():
        in_batches([max(map(len, make())) for make in rows], run)
    return totals
