"""Which tokens of a teacher-forced batch are real, as keys and as queries, by role."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nvreg.models import IGNORED
from nvreg.models.registry import layers_by_role

__all__ = ["IGNORED", "key_masks", "query_masks"]


def key_masks(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return, by role, which keys are not padding: bool, shape (batch, keys) (docs/method.md, section 7).

    Keys of cross-attention are the encoder's tokens. A decoder's are the label positions that are not
    padding: those it really reads.
    """
    inputs = _given(batch, "attention_mask", "input_ids")
    roles = layers_by_role(model)
    if "cross" not in roles:
        return dict.fromkeys(roles, inputs)
    return {"encoder": inputs, "cross": inputs, "decoder": _decoder_tokens(batch)}


def query_masks(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return, by role, which queries are not padding: bool, shape (batch, queries)."""
    masks = key_masks(model, batch)
    return {**masks, "cross": masks["decoder"]} if "cross" in masks else masks


def _decoder_tokens(batch: Mapping[str, Tensor]) -> Tensor:
    if "labels" in batch and "decoder_attention_mask" not in batch:
        return batch["labels"] != IGNORED
    return _given(batch, "decoder_attention_mask", "decoder_input_ids")


def _given(batch: Mapping[str, Tensor], mask: str, ids: str) -> Tensor:
    return batch[mask].bool() if mask in batch else torch.ones_like(batch[ids], dtype=torch.bool)
