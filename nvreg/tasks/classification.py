"""Classification of a text, or of a pair of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from nvreg.data import Examples, model_inputs, pad
from nvreg.errors import UserError
from nvreg.metrics.classification import choice_statistics
from nvreg.metrics.temperature import alternatives_of
from nvreg.models import IGNORED
from nvreg.tasks.base import READS_LABELS, Task
from nvreg.tasks.limits import check_length, token_limit, tokenise
from nvreg.text import whole_number

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from nvreg.config import Evaluation, Reading
    from nvreg.tasks.forward import EncoderStates

PAIR = ("premise", "hypothesis")
"""The columns of a pair of texts, in the order that the model reads them."""


@dataclass(frozen=True)
class LabelledTexts:
    """Token ids of each text or pair, which of its texts a token is of (if the model reads that), classes."""

    tokens: list[list[int]]
    segments: list[list[int]] | None
    labels: list[int]
    truncated: int


class Classification(Task[LabelledTexts]):
    """Scores the probability of the right class and the predicted class.

    Examples without the column "label" have no scores (NaN), and probabilities of the classes like others.

    The columns are "text", or "premise" and "hypothesis" where ``data.columns`` names them, and "label". A
    text is cut to ``data.max_length`` tokens or the model's limit, the longer one of a pair first.

    Raises:
        UserError: if the model does not choose one of several classes, or cannot tell padding from text.
    """

    name = "classification"
    auto_class = "AutoModelForSequenceClassification"
    groups = frozenset({"likelihood", "classes", "calibration"})
    without = frozenset({"perplexity", "bits-per-character"})  # a label is no text
    trainable = True
    uses = READS_LABELS
    columns = ("text", *PAIR, "label")
    unlabelled = "confidence"
    label_column = "label"
    likelihood = "scored:labels"

    def _prepare(self, data: Reading, evaluation: Evaluation) -> None:
        from nvreg.models.loading import kind_of
        from nvreg.models.teacher_forcing import is_token

        self._texts = PAIR if set(PAIR) & set(data.columns) else ("text",)
        self._classes = [name for _, name in sorted((self._config.id2label or {}).items())]
        self._renamed = data.labels
        if len(self._classes) < 2 or self._config.problem_type == "multi_label_classification":
            raise UserError(
                f"expected a model that chooses one of several classes, got one of {len(self._classes)} "
                f"with problem type {self._config.problem_type}"
            )
        if self._config.pad_token_id is None and kind_of(self._config) == "decoder-only":
            raise UserError(
                "expected pad_token_id in the model's config, without which no batch can be padded"
            )
        if is_token(self._config, self._config.pad_token_id):
            self._padding = self._config.pad_token_id  # by which some models find the last token
        elif kind_of(self._config) == "decoder-only":
            self.pads = False  # where no token is the one they know
        check_length(self._config, "data.max_length", data.max_length)
        self._limit = data.max_length or token_limit(self._config, self._tokenizer)

    @property
    def required(self) -> Sequence[str]:
        """The text or the pair, and the label."""
        return (*self._texts, "label")

    def encode(self, examples: Examples) -> LabelledTexts:
        """Tokenise a data set, counting the examples that are cut."""
        sides = dict(zip(("text", "text_pair"), self._texts, strict=False))
        texts = {side: [record[column] for record in examples.records] for side, column in sides.items()}
        encoding, cut = tokenise(self._tokenizer, self._limit, **texts)
        labels = [
            number_of(record["label"], self._classes, self._renamed, record=number)
            if "label" in record
            else IGNORED
            for number, record in enumerate(examples.records, start=1)
        ]
        return LabelledTexts(encoding.input_ids, encoding.get("token_type_ids"), labels, len(cut))

    def batch(self, encoded: LabelledTexts, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return ``input_ids``, ``attention_mask`` and ``labels`` [examples], of classes.

        The masks of an encoder-decoder model, of which the decoder reads the text too, are two.
        """
        import torch

        batch = model_inputs([encoded.tokens[index] for index in indices], self._padding)
        if encoded.segments is not None:
            batch["token_type_ids"] = pad([encoded.segments[index] for index in indices], 0)
        if self._config.is_encoder_decoder:
            batch["decoder_attention_mask"] = batch["attention_mask"]
        return {**batch, "labels": torch.tensor([encoded.labels[index] for index in indices])}

    def lengths(self, encoded: LabelledTexts) -> list[int]:
        """Return the tokens of every text."""
        return list(map(len, encoded.tokens))

    @property
    def scores_as_read(self) -> bool:
        """Whether scoring runs each text once, which it does."""
        return True

    def teacher_forced(self, encoded: LabelledTexts) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of `batch`, long and short ones mixed."""
        for indices in self._mixed(self.lengths(encoded)):
            yield self.batch(encoded, indices)

    def score(
        self, model: PreTrainedModel, encoded: LabelledTexts, *, encoder_states: EncoderStates | None = None
    ) -> pd.DataFrame:
        """Score every example; a row each, in their order (see `nvreg.tasks.Task`)."""
        import torch

        from nvreg.models.teacher_forcing import on_device
        from nvreg.tasks.forward import ByRow, check_finite

        made = ByRow()

        def run(indices: list[int]) -> None:
            batch = self.batch(encoded, indices)
            del batch["labels"]
            made.add(indices, model(**on_device(model, batch)).logits)

        with torch.inference_mode():
            self._in_batches(self.lengths(encoded), run)
        logits = made.whole(len(encoded.labels), len(self._classes))
        check_finite(logits)
        log_probabilities = list(logits.log_softmax(dim=-1).numpy())
        statistics = choice_statistics(log_probabilities, encoded.labels)
        predictions = [self._classes[number] for number in logits.argmax(dim=-1).tolist()]
        columns = {group: statistics[group] for group in self._groups}
        frame = pd.DataFrame({"id": range(len(predictions)), **columns, "prediction": predictions})
        if self._keeps_temperatures:
            frame = frame.assign(**alternatives_of(log_probabilities, encoded.labels))
        return frame


def number_of(
    label: str | int,
    names: Sequence[str],
    renamed: Mapping[str, str] | None,
    *,
    record: int,
    by_number: bool = False,
) -> int:
    """Return which alternative a label is: by its name, in any case if need be, or by its number from 0.

    Args:
        label: what the data has.
        names: names of the alternatives; a name goes before a number, unless ``by_number``.
        renamed: labels of the data to names or numbers of alternatives, where they differ.
        record: which record of the data, from 1, for the message.
        by_number: a whole number is a number, and so is text that ``renamed`` gives, whatever the names are.

    Raises:
        UserError: if it is none of them, or ``by_number`` text that is one's name and another's number.
    """
    name = (renamed or {}).get(str(label), str(label))
    number = whole_number(name)
    number = number if number is not None and number < len(names) else None
    if by_number and number is not None:
        if not isinstance(label, str) or str(label) in (renamed or {}):
            return number
        if name in names and names.index(name) != number:
            raise UserError(
                f"record {record}: expected the number or the text of a choice, got {name!r}, which is "
                "the number of one and the text of another; write a number without quotes, or say under "
                "data.labels which one it is"
            )
    if name in names:
        return names.index(name)
    folded = [each.casefold() for each in names]
    if name.casefold() in folded:
        return folded.index(name.casefold())
    if number is not None:
        return number
    raise UserError(
        f"record {record}: expected the label {', '.join(names):.300} or a number of 0 to {len(names) - 1}, "
        f"got {name:.80}; say under data.labels which one it is"
    )
