"""Classification of the words of a text: parts of speech, entities, or whatever else their tags are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress
from typing import TYPE_CHECKING

import pandas as pd

from nvreg.data import Examples, model_inputs, pad
from nvreg.errors import UserError
from nvreg.metrics.classification import entity_statistics, names_entities, word_statistics
from nvreg.metrics.temperature import alternatives_of
from nvreg.models import IGNORED
from nvreg.tasks.base import READS_LABELS, Task
from nvreg.tasks.classification import number_of
from nvreg.tasks.limits import check_length, token_limit
from nvreg.tasks.windows import frame_of

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from nvreg.config import Evaluation, Reading
    from nvreg.metrics import Metric
    from nvreg.tasks.forward import EncoderStates

UNSCORED = "_"
"""What stands for the predicted tag of a word that has none."""


@dataclass(frozen=True)
class EncodedWords:
    """A tokenised data set.

    Attributes:
        tokens: token ids of each text.
        firsts: position in them of the first piece of each scored word.
        labels: class of each scored word.
        scored: whether each word is scored.
        truncated: how many texts are cut, or have words that are not scored.
    """

    tokens: list[list[int]]
    firsts: list[list[int]]
    labels: list[list[int]]
    scored: list[list[bool]]
    truncated: int


class TokenClassification(Task[EncodedWords]):
    """Scores the probability of the right tag of every word, and the predicted tag, at its first piece.

    The columns are "tokens", the words, and "tags". A text is cut to ``data.max_length`` tokens or the
    model's limit. A word whose first piece is cut, or of which the tokenizer makes no piece, is not scored,
    and its text counts as cut.

    Raises:
        UserError: if the model does not choose one of several tags, or its tags name no entities, which the
            metric f1 needs.
    """

    name = "token-classification"
    auto_class = "AutoModelForTokenClassification"
    groups = frozenset({"likelihood", "classes", "calibration", "entities"})
    without = frozenset({"perplexity", "bits-per-character"})  # a tag is no text
    trainable = True
    uses = READS_LABELS
    label_column = "tags"
    columns = ("tokens", "tags")
    likelihood = "scored:words|piece:first"

    def _prepare(self, data: Reading, evaluation: Evaluation) -> None:
        self._tags = [name for _, name in sorted((self._config.id2label or {}).items())]
        self._renamed = data.labels
        if len(self._tags) < 2:
            raise UserError(f"expected a model that chooses one of several tags, got one of {self._tags}")
        other = [tag for tag in self._tags if not names_entities(tag)]
        if "entities" in self._groups and other:
            raise UserError(
                "evaluation.metrics: expected f1 with a model whose tags name entities, as B-PER, I-PER and "
                f"O do, got {other[0]}; accuracy and macro-f1 score any tags"
            )
        check_length(self._config, "data.max_length", data.max_length)
        self._frame = frame_of(self._tokenizer)
        limit = data.max_length or token_limit(self._config, self._tokenizer) or 10**9
        self._room = max(1, limit - len(self._frame))
        self._space = _space_before_words(self._tokenizer)

    def _signature(self, metric: Metric) -> str:
        return super()._signature(metric).replace("mean:examples", "mean:words")

    def encode(self, examples: Examples) -> EncodedWords:
        """Tokenise a data set, counting the texts of which a word is not scored or has lost pieces.

        The words of a record without tags have the label -100, of nothing to predict.
        """
        texts = [self._spaced(record["tokens"]) for record in examples.records]
        pieces = self._pieces(texts)
        numbers = self._numbers(examples)
        tokens, firsts, labels, scored, truncated = [], [], [], [], 0
        for record, text in zip(examples.records, texts, strict=True):
            ends = list(accumulate(len(pieces[word]) for word in text))
            starts = [0, *ends[:-1]]
            scored.append([start < min(end, self._room) for start, end in zip(starts, ends, strict=True)])
            ids = [piece for word in text for piece in pieces[word]]
            tokens.append(self._frame.around(ids[: self._room]))
            firsts.append([len(self._frame.prefix) + start for start in compress(starts, scored[-1])])
            classes = [numbers[tag] for tag in record["tags"]] if "tags" in record else [IGNORED] * len(text)
            labels.append(list(compress(classes, scored[-1])))
            truncated += len(ids) > self._room or not all(scored[-1])
        return EncodedWords(tokens, firsts, labels, scored, truncated)

    def is_empty(self, encoded: EncodedWords) -> bool:
        """Return whether no word is scored."""
        return not any(encoded.firsts)

    def batch(self, encoded: EncodedWords, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return ``input_ids``, ``attention_mask`` and ``labels``: a class at each word's first piece."""
        tokens = [encoded.tokens[index] for index in indices]
        labels = [[IGNORED] * len(ids) for ids in tokens]
        for row, index in zip(labels, indices, strict=True):
            for first, label in zip(encoded.firsts[index], encoded.labels[index], strict=True):
                row[first] = label
        return {**model_inputs(tokens, self._padding), "labels": pad(labels, IGNORED)}

    def lengths(self, encoded: EncodedWords) -> list[int]:
        """Return the tokens of every text that has a scored word."""
        return [len(encoded.tokens[text]) for text in _with_words(encoded)]

    @property
    def scores_as_read(self) -> bool:
        """Whether scoring runs each text once, which it does."""
        return True

    def teacher_forced(self, encoded: EncodedWords) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of `batch`, long and short ones mixed, without texts that have no scored word."""
        texts = _with_words(encoded)
        for positions in self._mixed(self.lengths(encoded)):
            yield self.batch(encoded, [texts[position] for position in positions])

    def score(
        self, model: PreTrainedModel, encoded: EncodedWords, *, encoder_states: EncoderStates | None = None
    ) -> pd.DataFrame:
        """Score every word; a row each text, in their order (see `nvreg.tasks.Task`)."""
        import torch

        from nvreg.models.teacher_forcing import on_device, to_device
        from nvreg.tasks.forward import ByRow, check_finite

        words = list(map(len, encoded.firsts))
        starts, texts = [0, *accumulate(words)], _with_words(encoded)
        made = ByRow()

        def run(positions: list[int]) -> None:
            indices = [texts[position] for position in positions]
            batch = self.batch(encoded, indices)
            firsts = (batch.pop("labels") != IGNORED).flatten().nonzero()[:, 0]
            places = [place for index in indices for place in range(starts[index], starts[index + 1])]
            logits = model(**on_device(model, batch)).logits.flatten(0, 1)
            made.add(places, logits.index_select(0, to_device(firsts, logits.device)))

        with torch.inference_mode():
            self._in_batches(self.lengths(encoded), run)
        logits = made.whole(sum(words), len(self._tags))
        check_finite(logits, words)
        labels = [label for of_text in encoded.labels for label in of_text]
        log_probabilities = logits.log_softmax(dim=-1)
        statistics = word_statistics(log_probabilities.numpy(), labels, words)
        predicted = [
            [self._tags[number] for number in of_text]
            for of_text in (part.tolist() for part in logits.argmax(dim=-1).split(words))
        ]
        if "entities" in self._groups:
            right = [[self._tags[number] for number in of_text] for of_text in encoded.labels]
            statistics["entities"] = entity_statistics(right, predicted)
        predictions = [
            " ".join(next(tags) if is_scored else UNSCORED for is_scored in scored)
            for tags, scored in zip(map(iter, predicted), encoded.scored, strict=True)
        ]
        columns = {group: statistics[group] for group in self._groups}
        frame = pd.DataFrame({"id": range(len(words)), **columns, "prediction": predictions})
        if self._keeps_temperatures:
            of_texts = [part.numpy() for part in log_probabilities.split(words)]
            frame = frame.assign(**alternatives_of(of_texts, encoded.labels))
        return frame

    def _spaced(self, words: Sequence[str]) -> list[str]:
        return [*words[:1], *(self._space + word for word in words[1:])]

    def _pieces(self, texts: Sequence[Sequence[str]]) -> dict[str, list[int]]:
        """Return the token ids of every word, each tokenised once."""
        words = list(dict.fromkeys(word for text in texts for word in text))
        pieces = self._tokenizer(words, add_special_tokens=False, verbose=False).input_ids
        return dict(zip(words, pieces, strict=True))

    def _numbers(self, examples: Examples) -> dict[str | int, int]:
        """Return the class of every tag."""
        numbers: dict[str | int, int] = {}
        for record, values in enumerate(examples.records, start=1):
            for tag in values.get("tags", ()):
                if tag not in numbers:
                    numbers[tag] = number_of(tag, self._tags, self._renamed, record=record)
        return numbers


def _with_words(encoded: EncodedWords) -> list[int]:
    return [index for index, firsts in enumerate(encoded.firsts) if firsts]


def _space_before_words(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return what words but the first are tokenised after, to have the pieces that they have in a text.

    A byte-level tokenizer makes the space a part of the word's first piece; others part words themselves.
    """
    text, first, bare, spaced = tokenizer(["a b", "a", "b", " b"], add_special_tokens=False).input_ids
    is_part = text == [*first, *spaced] and spaced != bare and len(spaced) == len(bare)
    return " " if is_part else ""
