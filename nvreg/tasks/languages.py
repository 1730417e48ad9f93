"""The languages of a multilingual tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvreg.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def set_languages(
    tokenizer: PreTrainedTokenizerBase, source: str | None, target: str | None
) -> dict[str, int]:
    """Set the languages of a tokenizer in place, and return the options of `generate` they decide.

    Args:
        tokenizer: of one pair of languages, or of many (mBART, M2M100, NLLB).
        source: a language as the tokenizer writes it; by default the tokenizer's own.
        target: the same for the target.

    Returns:
        Nothing for a tokenizer of one pair. Else ``forced_bos_token_id`` where a target begins with its
        language, or ``decoder_start_token_id`` where it ends with it, which the decoder then starts with.

    Raises:
        UserError: if the tokenizer does not know these languages, or needs them and has none.
    """
    if not hasattr(tokenizer, "src_lang"):
        if source or target:
            raise UserError(
                "data.source_language, data.target_language: expected none, as the model has one pair of "
                f"languages, got {source} and {target}"
            )
        return {}
    source, target = source or tokenizer.src_lang, target or tokenizer.tgt_lang
    if not target:
        raise UserError(
            "data.target_language, or --target-language: expected a language, as the model has many, got none"
        )
    try:
        tokenizer.src_lang, tokenizer.tgt_lang = source, target
        frames = {"source": tokenizer("").input_ids, "target": tokenizer(text_target="").input_ids}
    except KeyError as error:
        raise UserError(f"data: expected languages of the model's tokenizer, got {error}") from error
    for side, frame in frames.items():
        if tokenizer.unk_token_id in frame:
            got = source if side == "source" else target
            raise UserError(
                f"data.{side}_language: expected a language of the model's tokenizer, got {got!r}"
            )
    first, last = frames["target"][0], frames["target"][-1]
    if first == tokenizer.eos_token_id:
        return {"decoder_start_token_id": last}
    return {"forced_bos_token_id": first}
