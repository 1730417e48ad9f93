"""How many tokens a model reads, and text cut to that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvreg.errors import UserError

if TYPE_CHECKING:
    from transformers import BatchEncoding, PretrainedConfig, PreTrainedTokenizerBase


def token_limit(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the tokens a model reads at most, or None where neither positions nor tokenizer have a limit."""
    limit = min(_positions(config) or tokenizer.model_max_length, tokenizer.model_max_length)
    return limit if limit < 10**9 else None  # a tokenizer's word for no limit is about 10^30


def check_length(config: PretrainedConfig, key: str, length: int | None) -> None:
    """Check a number of tokens that an experiment file asks for, by its key there.

    Raises:
        UserError: if it is beyond the model's positions.
    """
    positions = _positions(config)
    if positions and length and length > positions:
        raise UserError(f"{key}: expected at most the model's {positions} positions, got {length}")


def tokenise(
    tokenizer: PreTrainedTokenizerBase, limit: int | None, **texts: list[str]
) -> tuple[BatchEncoding, set[int]]:
    """Return texts as the tokenizer encodes them, cut to a limit of tokens, and which ones are cut.

    Args:
        tokenizer: the model's.
        limit: tokens, with the ones that the tokenizer adds.
        texts: the tokenizer's own arguments, of the same number of texts each.
    """
    encoding = tokenizer(**texts, truncation=limit is not None, max_length=limit)
    full = [index for index, ids in enumerate(encoding.input_ids) if len(ids) == limit]
    if not full:
        return encoding, set()
    again = {name: [column[index] for index in full] for name, column in texts.items()}
    whole = tokenizer(**again, verbose=False).input_ids
    return encoding, {
        index for index, ids in zip(full, whole, strict=True) if len(ids) > len(encoding.input_ids[index])
    }


def _positions(config: PretrainedConfig) -> int | None:
    from nvreg.models.loading import position_count  # imports torch

    return position_count(config)
