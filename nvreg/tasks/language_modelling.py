"""Language modelling: how likely a model finds a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from nvreg.data import Examples, model_inputs, pad
from nvreg.errors import UserError
from nvreg.models import IGNORED
from nvreg.tasks.base import Task
from nvreg.tasks.limits import check_length, token_limit
from nvreg.tasks.windows import (
    CausalReader,
    EncoderDecoderReader,
    LabelledTokens,
    MaskedReader,
    Reader,
    frame_of,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from nvreg.config import Evaluation, Reading
    from nvreg.models.loading import AutoClass
    from nvreg.tasks.forward import EncoderStates


@dataclass(frozen=True)
class EncodedTexts:
    """Token ids of each text, without what the tokenizer adds, and the characters of the scored ones."""

    tokens: list[list[int]]
    characters: list[int]
    truncated: int


class LanguageModelling(Task[EncodedTexts]):
    """Scores each text by itself, in sliding windows of ``evaluation.window`` tokens.

    A decoder-only model predicts each token from those before it, from the tokenizer's own beginning of
    sequence if it adds one; else the first token, which has no context, is not scored. A masked language
    model predicts each token from all others of its window, at the cost of a row for every token. An
    encoder-decoder model predicts a stride of tokens in its decoder after its encoder has read what comes
    before them. What the tokenizer adds is context and never scored.

    Raises:
        UserError: if the window is beyond the model's positions, or smaller than the stride or a token in its
            frame.
    """

    name = "language-modelling"
    unlabelled = "likelihood"
    auto_class: ClassVar[AutoClass] = {
        "encoder-decoder": "AutoModelForSeq2SeqLM",
        "decoder-only": "AutoModelForCausalLM",
        "encoder-only": "AutoModelForMaskedLM",
    }
    groups = frozenset({"likelihood"})
    trainable = True
    columns = ("text",)

    def _prepare(self, data: Reading, evaluation: Evaluation) -> None:
        check_length(self._config, "evaluation.window", evaluation.window)
        self._max_length = data.max_length
        window = evaluation.window or token_limit(self._config, self._tokenizer) or 10**9
        stride = evaluation.stride or max(1, window // 2)
        self._reader = _reader(self._tokenizer, self._config, window, stride)
        self.likelihood = f"scored:tokens|window:{window}|stride:{stride}|{self._reader.likelihood}"

    def encode(self, examples: Examples) -> EncodedTexts:
        """Tokenise a data set, counting the texts of which not all is read."""
        texts = [record["text"] for record in examples.records]
        options = {"add_special_tokens": False, "return_offsets_mapping": self._tokenizer.is_fast}
        encoding = self._tokenizer(texts, **options, verbose=False)
        tokens = [ids[: self._max_length] for ids in encoding.input_ids]
        ends = encoding.get("offset_mapping") or [None] * len(texts)
        return EncodedTexts(
            tokens,
            list(map(self._characters, texts, tokens, ends)),
            sum(len(ids) < len(whole) for ids, whole in zip(tokens, encoding.input_ids, strict=True)),
        )

    def is_empty(self, encoded: EncodedTexts) -> bool:
        """Return whether no text has a token that is scored, or these have no characters."""
        return not any(encoded.characters)

    def batch(self, encoded: EncodedTexts, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return all of these texts, in windows that do not overlap: a row a window.

        ``labels`` are those of Transformers for the kind of model; there are none for a masked one.
        """
        return self._padded([row for index in indices for row in self._reader.pieces(encoded.tokens[index])])

    def teacher_forced(self, encoded: EncodedTexts) -> Iterator[dict[str, Tensor]]:
        """Yield the windows of `batch`, long and short ones mixed."""
        pieces = [row for tokens in encoded.tokens for row in self._reader.pieces(tokens)]
        for indices in self._mixed([max(map(len, piece)) for piece in pieces]):
            yield self._padded([pieces[index] for index in indices])

    def score(
        self, model: PreTrainedModel, encoded: EncodedTexts, *, encoder_states: EncoderStates | None = None
    ) -> pd.DataFrame:
        """Score every text; a row each, in their order (see `nvreg.tasks.Task`)."""
        from nvreg.tasks.forward import check_finite, row_likelihoods

        of_texts = list(map(self._reader.rows, encoded.tokens))
        rows = [row for of_text in of_texts for row in of_text]
        nats = row_likelihoods(model, rows, self._padding, self._in_batches, self._temperatures)
        check_finite(nats.T, list(map(len, of_texts)))
        by_text = nats[self._temperatures.index(1)].split(list(map(len, of_texts)))
        frame = pd.DataFrame(
            {
                "id": range(len(by_text)),
                "likelihood": [
                    [text.sum().item(), max(0, len(tokens) - self._reader.unscored), characters]
                    for text, tokens, characters in zip(
                        by_text, encoded.tokens, encoded.characters, strict=True
                    )
                ],
            }
        )
        if self._keeps_temperatures:
            frame["tempered"] = [
                text.sum(dim=1).tolist() for text in nats.split(list(map(len, of_texts)), dim=1)
            ]
        return frame

    def _characters(self, text: str, tokens: list[int], offsets: list[tuple[int, int]] | None) -> int:
        """Return the characters of a text's scored tokens."""
        first = self._reader.unscored
        if len(tokens) <= first:
            return 0
        if offsets is None:
            return len(self._tokenizer.decode(tokens[first:]))
        end = offsets[len(tokens) - 1][1] if len(tokens) < len(offsets) else len(text)
        return end - (offsets[first - 1][1] if first else 0)

    def _padded(self, rows: Sequence[LabelledTokens]) -> dict[str, Tensor]:
        inputs = model_inputs([row.inputs for row in rows], self._padding)
        labels = [row.labels for row in rows]
        return {**inputs, "labels": pad(labels, IGNORED)} if any(labels) else inputs


def _reader(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, window: int, stride: int) -> Reader:
    from nvreg.models.loading import kind_of

    frame = frame_of(tokenizer)
    if stride > window:
        raise UserError(f"evaluation.stride: expected at most the window of {window}, got {stride}")
    if window <= len(frame):
        raise UserError(
            f"evaluation.window: expected more than the {len(frame)} tokens that the tokenizer adds, "
            f"got {window}"
        )
    kind = kind_of(config)
    if kind == "encoder-only":
        if tokenizer.mask_token_id is None:
            raise UserError("expected a tokenizer with a mask token, which a masked language model needs")
        return MaskedReader(frame, window, stride, tokenizer.mask_token_id)
    return (EncoderDecoderReader if kind == "encoder-decoder" else CausalReader)(frame, window, stride)
