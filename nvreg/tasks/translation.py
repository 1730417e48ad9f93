"""Translation with a sequence-to-sequence model: likelihood of the reference, and generated text."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from nvreg.data import Examples, batches, model_inputs, pad
from nvreg.errors import UserError
from nvreg.models.tokens import IGNORED
from nvreg.tasks.generation import generate
from nvreg.tasks.languages import set_languages
from nvreg.tasks.likelihood import negative_log_likelihood
from nvreg.tasks.metrics import GENERATED, METRICS, text_statistics

if TYPE_CHECKING:
    from nvreg.config import Evaluation, Reading

BATCH_TOKENS = 2048
"""Padded tokens of a batch where ``batch_tokens`` is auto."""


@dataclass(frozen=True)
class EncodedPairs:
    """Token ids of sources and targets, and what the targets say."""

    sources: list[list[int]]
    targets: list[list[int]]
    references: list[str]
    characters: list[int]
    truncated: int


class Translation:
    """Scores how likely a model finds the reference translations, and its own translations against them.

    The source is cut to ``data.max_length`` tokens or the model's limit, the target to the latter; both keep
    their end of sentence. Every token of the target is scored, the end of sentence included, and the mark
    of its language where it has one.

    Args:
        tokenizer: the model's; its languages are set in place.
        model_config: the model's, for the limits.
        data: the prefix, languages and length of sources.
        evaluation: metrics, generation and the size of batches.

    Raises:
        UserError: if a length is beyond the model's positions, or a language not the tokenizer's.
    """

    required = ("source", "target")

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        model_config: PretrainedConfig,
        data: Reading,
        evaluation: Evaluation,
    ) -> None:
        self._groups = sorted({METRICS[name].group for name in evaluation.metrics})
        new_tokens = evaluation.generation.max_new_tokens if GENERATED.intersection(self._groups) else None
        _check_length(model_config, "data.max_length", data.max_length)
        _check_length(model_config, "evaluation.generation.max_new_tokens", new_tokens)
        self._tokenizer = tokenizer
        self._forced = set_languages(tokenizer, data.source_language, data.target_language)
        self._prefix = data.source_prefix or ""
        self._target_limit = _limit(model_config, tokenizer)
        self._source_limit = data.max_length or self._target_limit
        self._generation = evaluation.generation
        self._budget = BATCH_TOKENS if evaluation.batch_tokens == "auto" else evaluation.batch_tokens

    def encode(self, examples: Examples) -> EncodedPairs:
        """Tokenise a data set, counting the examples of which source or target is cut."""
        texts = [self._prefix + record["source"] for record in examples.records]
        references = [record["target"] for record in examples.records]
        sources, cut_sources = self._tokenise("text", texts, self._source_limit)
        targets, cut_targets = self._tokenise("text_target", references, self._target_limit)
        characters = [len(reference) for reference in references]
        for index in cut_targets:
            characters[index] = len(self._tokenizer.decode(targets[index], skip_special_tokens=True))
        return EncodedPairs(sources, targets, references, characters, len(cut_sources | cut_targets))

    def batch(self, encoded: EncodedPairs, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return ``input_ids``, ``attention_mask`` and ``labels`` of the examples of these positions."""
        inputs = model_inputs([encoded.sources[index] for index in indices], self._tokenizer.pad_token_id)
        return {**inputs, "labels": pad([encoded.targets[index] for index in indices], IGNORED)}

    def teacher_forced(self, encoded: EncodedPairs) -> Iterator[dict[str, Tensor]]:
        """Yield ``input_ids``, ``attention_mask`` and ``labels``, long and short batches mixed."""
        mixed = self._batches(encoded)
        random.Random(0).shuffle(mixed)
        for indices in mixed:
            yield self.batch(encoded, indices)

    def score(self, model: PreTrainedModel, encoded: EncodedPairs) -> pd.DataFrame:
        """Score every example; a row each, in their order (see `nvreg.tasks.Task`).

        A metric over a data set is independent of the size of batches to 1e-6, as long as no two next tokens
        are so close in likelihood that the rounding of a batch decides between them.
        """
        frame = pd.DataFrame({"id": range(len(encoded.references))})
        generated = [group for group in self._groups if group in GENERATED]
        with torch.inference_mode():
            if "likelihood" in self._groups:
                frame["likelihood"] = self._likelihood(model, encoded)
            if generated:
                frame["prediction"] = generate(
                    model, self._tokenizer, encoded.sources, self._generation, self._budget, self._forced
                )
        for group in set(generated) - {"overlap"}:  # which needs the pretrained model's frame too
            frame[group] = text_statistics(group, list(frame["prediction"]), encoded.references).tolist()
        return frame

    def _likelihood(self, model: PreTrainedModel, encoded: EncodedPairs) -> list[list[float]]:
        totals = torch.empty(len(encoded.targets), dtype=torch.float64)
        for indices in self._batches(encoded):
            batch = {name: ids.to(model.device) for name, ids in self.batch(encoded, indices).items()}
            totals[indices] = negative_log_likelihood(model(**batch).logits, batch["labels"])
        tokens = map(len, encoded.targets)
        return [list(row) for row in zip(totals.tolist(), tokens, encoded.characters, strict=True)]

    def _batches(self, encoded: EncodedPairs) -> list[list[int]]:
        pairs = zip(encoded.sources, encoded.targets, strict=True)
        return batches([max(len(source), len(target)) for source, target in pairs], self._budget)

    def _tokenise(self, side: str, texts: list[str], limit: int | None) -> tuple[list[list[int]], set[int]]:
        """Return token ids, cut to the limit, and which are cut; ``side`` is the tokenizer's argument."""
        tokens = self._tokenizer(**{side: texts}, truncation=limit is not None, max_length=limit).input_ids
        full = [index for index, ids in enumerate(tokens) if len(ids) == limit]
        if not full:
            return tokens, set()
        whole = self._tokenizer(**{side: [texts[index] for index in full]}, verbose=False).input_ids
        return tokens, {
            index for index, ids in zip(full, whole, strict=True) if len(ids) > len(tokens[index])
        }


def _limit(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the tokens a model reads at most, or None where neither positions nor tokenizer have a limit."""
    limit = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    return limit if limit < 10**9 else None  # a tokenizer's word for no limit is about 10^30


def _check_length(config: PretrainedConfig, key: str, length: int | None) -> None:
    positions = getattr(config, "max_position_embeddings", None)
    if positions and length and length > positions:
        raise UserError(f"{key}: expected at most the model's {positions} positions, received {length}")
