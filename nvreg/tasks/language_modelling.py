"""Language modelling: how likely a model finds a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from nvreg.data import Examples, model_inputs, pad
from nvreg.errors import UserError
from nvreg.metrics.likelihood import byte_and_word_statistics
from nvreg.models import IGNORED
from nvreg.tasks.base import READS_PREFIX, READS_WINDOWS, Task
from nvreg.tasks.limits import check_length, token_limit
from nvreg.tasks.windows import (
    CausalReader,
    EncoderDecoderReader,
    LabelledTokens,
    MaskedReader,
    Reader,
    frame_of,
    lengths_of,
    prefixed,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from nvreg.config import Evaluation, Reading
    from nvreg.config.sections import Prefix
    from nvreg.models.loading import AutoClass
    from nvreg.tasks.forward import EncoderStates


@dataclass(frozen=True)
class EncodedTexts:
    """Token ids of each text, without what the tokenizer adds, and what of the text is scored."""

    tokens: list[list[int]]
    characters: list[int]
    truncated: int
    scored: list[str] = field(compare=False)


class LanguageModelling(Task[EncodedTexts]):
    """Scores each text by itself, in sliding windows of ``evaluation.window`` tokens.

    A decoder-only model predicts each token from those before it, from the tokenizer's own beginning of
    sequence if it adds one, or from what ``evaluation.prefix`` says; else the first token, which has no
    context, is not scored. A masked language model predicts each token from all others of its window, at the
    cost of a row for every token. An encoder-decoder model predicts a stride of tokens in its decoder after
    its encoder has read what comes before them. What the tokenizer adds is context and never scored.

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
    groups = frozenset({"likelihood", "text"})
    trainable = True
    uses = READS_WINDOWS | READS_PREFIX
    columns = ("text",)

    def _prepare(self, data: Reading, evaluation: Evaluation) -> None:
        check_length(self._config, "evaluation.window", evaluation.window)
        self._max_length = data.max_length
        window = evaluation.window or token_limit(self._config, self._tokenizer) or 10**9
        stride = evaluation.stride or max(1, window // 2)
        self._reader = _reader(self._tokenizer, self._config, window, stride, evaluation.prefix)
        self.likelihood = f"scored:tokens|window:{window}|stride:{stride}|{self._reader.likelihood}"

    def encode(self, examples: Examples) -> EncodedTexts:
        """Tokenise a data set, counting the texts of which not all is read."""
        texts = [record["text"] for record in examples.records]
        options = {"add_special_tokens": False, "return_offsets_mapping": self._tokenizer.is_fast}
        encoding = self._tokenizer(texts, **options, verbose=False)
        tokens = [ids[: self._max_length] for ids in encoding.input_ids]
        ends = encoding.get("offset_mapping") or [None] * len(texts)
        scored = list(map(self._scored_text, texts, tokens, ends))
        cut = sum(len(ids) < len(whole) for ids, whole in zip(tokens, encoding.input_ids, strict=True))
        return EncodedTexts(tokens, list(map(len, scored)), cut, scored)

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

    def lengths(self, encoded: EncodedTexts) -> list[int]:
        """Return the tokens of every window; a masked model has one for every token."""
        return lengths_of(row for tokens in encoded.tokens for row in self._reader.rows(tokens))

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
        totals = [text.sum().item() for text in by_text]
        frame = pd.DataFrame({"id": range(len(totals))})
        frame["likelihood"] = [
            [total, max(0, len(tokens) - self._reader.unscored), characters]
            for total, tokens, characters in zip(totals, encoded.tokens, encoded.characters, strict=True)
        ]
        if "text" in self._groups:
            frame["text"] = byte_and_word_statistics(totals, encoded.scored)
        if self._keeps_temperatures:
            frame["tempered"] = [
                text.sum(dim=1).tolist() for text in nats.split(list(map(len, of_texts)), dim=1)
            ]
        return frame

    def _scored_text(self, text: str, tokens: list[int], offsets: list[tuple[int, int]] | None) -> str:
        """Return what a text's scored tokens are of it."""
        first = self._reader.unscored
        if len(tokens) <= first:
            return ""
        if offsets is None:
            return str(self._tokenizer.decode(tokens[first:]))
        end = offsets[len(tokens) - 1][1] if len(tokens) < len(offsets) else len(text)
        return text[offsets[first - 1][1] if first else 0 : end]

    def _padded(self, rows: Sequence[LabelledTokens]) -> dict[str, Tensor]:
        inputs = model_inputs([row.inputs for row in rows], self._padding)
        labels = [row.labels for row in rows]
        return {**inputs, "labels": pad(labels, IGNORED)} if any(labels) else inputs


def _reader(
    tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, window: int, stride: int, prefix: Prefix
) -> Reader:
    from nvreg.models.loading import kind_of

    kind = kind_of(config)
    frame, source = frame_of(tokenizer), ""
    if kind == "decoder-only":
        frame, source = prefixed(frame, tokenizer, prefix)
    elif prefix == "bos":
        raise UserError(
            f"evaluation.prefix: expected none or auto with a model whose kind is {kind}, got bos, "
            "which a decoder alone reads before a text"
        )
    if stride > window:
        raise UserError(f"evaluation.stride: expected at most the window of {window}, got {stride}")
    if window <= len(frame):
        raise UserError(
            f"evaluation.window: expected more than the {len(frame)} tokens that the tokenizer adds, "
            f"got {window}"
        )
    if kind == "encoder-only":
        if tokenizer.mask_token_id is None:
            raise UserError("expected a tokenizer with a mask token, which a masked language model needs")
        return MaskedReader(frame, window, stride, tokenizer.mask_token_id)
    if kind == "encoder-decoder":
        return EncoderDecoderReader(frame, window, stride)
    reader = CausalReader(frame, window, stride)
    if prefix != "none":
        reader.likelihood += f"|prefix:{source}"
    return reader
