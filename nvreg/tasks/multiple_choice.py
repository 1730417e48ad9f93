"""Multiple choice, by how likely a language model finds each answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from nvreg.data import Examples, model_inputs, pad
from nvreg.errors import UserError
from nvreg.metrics.choices import CHOICES, choice_row, divisors
from nvreg.metrics.classification import choice_statistics
from nvreg.metrics.temperature import alternatives_of
from nvreg.models import IGNORED
from nvreg.tasks.base import NORMALISES, READS_LABELS, READS_PREFIX, Task
from nvreg.tasks.classification import number_of
from nvreg.tasks.limits import check_length, token_limit
from nvreg.tasks.windows import LabelledTokens, frame_of, lengths_of, prefixed

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from nvreg.config import Evaluation, Reading
    from nvreg.models.loading import AutoClass
    from nvreg.tasks.forward import EncoderStates


@dataclass(frozen=True)
class EncodedQuestions:
    """Token ids of each context with each of its choices, how many are the choice's, and which is right."""

    tokens: list[list[list[int]]]
    scored: list[list[int]]
    choices: list[list[str]]
    labels: list[int]
    truncated: int


_LIKELIHOODS = {
    "tokens": "mean-log-likelihood-of-tokens",
    "characters": "log-likelihood-per-character",
    "bytes": "log-likelihood-per-byte",
    "none": "log-likelihood",
}
"""How signatures call what choices are compared by, for each normalisation."""


class MultipleChoice(Task[EncodedQuestions]):
    """Scores choices by the log-likelihood of their tokens after the context, divided by their length.

    The length is what ``evaluation.normalisation`` says: tokens (Brown et al., 2020), characters or bytes;
    or there is none. Probabilities are the softmax of that over the choices of a context. A space is put
    between context and choice where neither has white space there and the context is not empty. The context
    is cut at its beginning to what ``data.max_length`` or the model's limit leaves beside the choice. Of a
    decoder-only model.

    Raises:
        UserError: if a length is beyond the model's positions, or the tokenizer lacks the prefix that
            ``evaluation.prefix`` asks for.
    """

    name = "multiple-choice"
    auto_class: ClassVar[AutoClass] = {"decoder-only": "AutoModelForCausalLM"}
    groups = frozenset({"likelihood", "classes", "calibration"})
    without = frozenset({"perplexity", "bits-per-character", "macro-f1"})  # an answer is no class
    uses = READS_LABELS | READS_PREFIX | NORMALISES
    columns = ("context", "choices", "label")
    may_be_blank = frozenset({"context", "label"})

    def _prepare(self, data: Reading, evaluation: Evaluation) -> None:
        check_length(self._config, "data.max_length", data.max_length)
        self._normalisation = evaluation.normalisation
        frame, source = prefixed(frame_of(self._tokenizer), self._tokenizer, evaluation.prefix)
        self._prefix = frame.prefix
        self._is_for_empty = evaluation.prefix == "auto" and source != "own"
        self._unscored = 0
        self.likelihood = f"scored:labels|softmax:{_LIKELIHOODS[self._normalisation]}"
        self.remark = (
            f"|by:{self._normalisation}|prefix:{source}{'-if-empty' if self._is_for_empty else ''}"
            "|space:one-if-none"
        )
        limit = data.max_length or token_limit(self._config, self._tokenizer) or 10**9
        self._room = max(1, limit - len(self._prefix))
        self._renamed = data.labels

    def encode(self, examples: Examples) -> EncodedQuestions:
        """Tokenise a data set, counting the examples of which a context is cut."""
        tokens, scored, labels, truncated = [], [], [], 0
        for number, record in enumerate(examples.records, start=1):
            context, choices = record["context"], record["choices"]
            whole = [self._after(context, choice) for choice in choices]
            kept = [(ids[-self._room :], min(count, self._room)) for ids, count in whole]
            tokens.append([[*self._before(ids, count), *ids] for ids, count in kept])
            # A token that nothing comes before has no likelihood.
            scored.append(
                [min(count, len(ids) - 1) for ids, (_, count) in zip(tokens[-1], kept, strict=True)]
            )
            if min(scored[-1]) < 1:
                raise UserError(
                    f"record {number}: expected choices of at least one token after a context"
                    f"{'' if self._prefix or context else '; evaluation.prefix: auto puts one before it'}"
                )
            self._unscored += any(count < wanted for count, (_, wanted) in zip(scored[-1], kept, strict=True))
            labels.append(number_of(record["label"], choices, self._renamed, record=number, by_number=True))
            truncated += any(len(ids) > self._room for ids, _ in whole)
        if self._unscored:
            self.notes = [
                f"the first token of choices is not scored in {self._unscored} examples, as nothing comes "
                "before it; evaluation.prefix: auto puts the beginning of sequence there"
            ]
        choices = [record["choices"] for record in examples.records]
        return EncodedQuestions(tokens, scored, choices, labels, truncated)

    def batch(self, encoded: EncodedQuestions, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return each context with its right choice, of which the tokens are the ``labels``."""
        right = [(index, encoded.labels[index]) for index in indices]
        tokens = [encoded.tokens[index][choice] for index, choice in right]
        labels = [
            [IGNORED] * (len(ids) - count) + ids[-count:]
            for ids, count in zip(tokens, (encoded.scored[i][choice] for i, choice in right), strict=True)
        ]
        return {**model_inputs(tokens, self._padding), "labels": pad(labels, IGNORED)}

    def teacher_forced(self, encoded: EncodedQuestions) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of `batch`, long and short ones mixed."""
        right = zip(encoded.tokens, encoded.labels, strict=True)
        for indices in self._mixed([len(choices[label]) for choices, label in right]):
            yield self.batch(encoded, indices)

    def lengths(self, encoded: EncodedQuestions) -> list[int]:
        """Return the tokens of every choice after its context."""
        return lengths_of(_rows(encoded))

    def score(
        self,
        model: PreTrainedModel,
        encoded: EncodedQuestions,
        *,
        encoder_states: EncoderStates | None = None,
    ) -> pd.DataFrame:
        """Score every example; a row each, in their order (see `nvreg.tasks.Task`)."""
        import torch

        from nvreg.tasks.forward import check_finite, row_likelihoods

        nats = row_likelihoods(model, _rows(encoded), self._padding, self._in_batches, self._temperatures)
        check_finite(nats.T, list(map(len, encoded.scored)))
        sizes = [
            size
            for texts, scored in zip(encoded.choices, encoded.scored, strict=True)
            for size in divisors(texts, scored, self._normalisation)
        ]
        lengths = list(map(len, encoded.scored))
        of_questions = (-nats / torch.tensor(sizes)).split(lengths, dim=1)
        means = [scores[self._temperatures.index(1)] for scores in of_questions]
        log_probabilities = [scores.log_softmax(dim=-1).numpy() for scores in means]
        statistics = choice_statistics(log_probabilities, encoded.labels)
        chosen = [
            choices[int(scores.argmax())] for choices, scores in zip(encoded.choices, means, strict=True)
        ]
        columns = {group: statistics[group] for group in self._groups}
        totals = (-nats[self._temperatures.index(1)]).split(lengths)
        frame = pd.DataFrame({"id": range(len(chosen)), **columns, "prediction": chosen})
        frame[CHOICES] = [
            choice_row(total.tolist(), texts, scored)
            for total, texts, scored in zip(totals, encoded.choices, encoded.scored, strict=True)
        ]
        if self._keeps_temperatures:
            frame = frame.assign(**alternatives_of(log_probabilities, encoded.labels))
            frame["tempered"] = [scores.log_softmax(dim=-1).T.flatten().tolist() for scores in of_questions]
        return frame

    def _before(self, ids: list[int], scored: int) -> list[int]:
        """Return what is read before context and choice."""
        return [] if self._is_for_empty and scored < len(ids) else self._prefix

    def _after(self, context: str, choice: str) -> tuple[list[int], int]:
        """Return the tokens of both, and how many of them the context alone does not have."""
        space = " " if context and not context[-1].isspace() and not choice[:1].isspace() else ""
        before, ids = self._tokenizer(
            [context, f"{context}{space}{choice}"], add_special_tokens=False, verbose=False
        ).input_ids
        common = takewhile(lambda pair: pair[0] == pair[1], zip(before, ids, strict=False))
        return ids, len(ids) - sum(1 for _ in common)


def _rows(encoded: EncodedQuestions) -> list[partial[LabelledTokens]]:
    """Return every context with each of its choices."""
    counts = [count for scored in encoded.scored for count in scored]
    sequences = [ids for choices in encoded.tokens for ids in choices]
    return [partial(_row, ids, count) for ids, count in zip(sequences, counts, strict=True)]


def _row(ids: list[int], scored: int) -> LabelledTokens:
    return LabelledTokens(ids[:-1], [IGNORED] * (len(ids) - 1 - scored) + ids[-scored:])
