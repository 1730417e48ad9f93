"""What every task is: from examples to batches, and from a model to a frame of scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from math import isnan
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar, cast

import numpy as np

from nvreg.data import batches
from nvreg.errors import NotFiniteError, UserError, did_you_mean, shown
from nvreg.metrics import METRICS, Metric, Tokenisation, score, statistics_of, text_statistics

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from nvreg.config import Evaluation, Reading
    from nvreg.data import Examples
    from nvreg.models.loading import AutoClass
    from nvreg.tasks.forward import EncoderStates

BATCH_TOKENS = 2048
"""Padded tokens of a batch where ``batch_tokens`` is auto, unless another size is found to be better."""

RunRows = Callable[[list[int]], None]
"""Runs the rows of a data set that are at some positions."""


class Encoded(Protocol):
    """A tokenised data set: a dataclass of its task's own, whose lists have one entry an example.

    A field that is not compared (``field(compare=False)``) follows from the text and the others.
    """

    @property
    def truncated(self) -> int:
        """The number of examples that were cut to the model's limits."""


E = TypeVar("E", bound=Encoded)
T = TypeVar("T")

# Keys of an experiment file that only some tasks have a use for, by what they are for.
READS_PAIRS = frozenset({"data.source_prefix", "data.source_language", "data.target_language"})
WRITES_TEXT = frozenset({"evaluation.generation", "evaluation.bleu_tokenize", "evaluation.rouge_tokenize"})
READS_WINDOWS = frozenset({"evaluation.window", "evaluation.stride"})
READS_LABELS = frozenset({"data.labels"})
READS_PREFIX = frozenset({"evaluation.prefix"})
NORMALISES = frozenset({"evaluation.normalisation"})

OPTIONAL = READS_PAIRS | WRITES_TEXT | READS_WINDOWS | READS_LABELS | READS_PREFIX | NORMALISES
"""All of them."""


class Task(ABC, Generic[E]):
    """What the model is to do with an example, and what that scores.

    A task is one class and one line of `nvreg.tasks.TASKS`. Importing its module imports no torch, so that a
    file is checked, and a report written, without.

    Args:
        tokenizer: the model's; some tasks set its languages in place.
        model_config: the model's.
        data: how the model reads text.
        evaluation: metrics, and the size of batches.

    Attributes:
        name: as in an experiment file.
        auto_class: the class of Transformers that loads its models, or one for each kind of architecture
            that it has models of.
        groups: the statistics that it makes of an example (see `nvreg.metrics`); it supplies their metrics.
        without: metrics of these groups that mean nothing here.
        generates: whether it has generated text and a reference, and so supplies the metrics of both.
        overlap: the metric that "overlap" with the pretrained model's text is; None: it has no overlap.
        uses: those of `OPTIONAL`, the keys that not every task has a use for, that it has one for; all where
            it does not say.
        trainable: whether `nvreg finetune` trains for it.
        columns: the columns of its examples; a file says what they are called in its data.
        may_be_blank: those of them that may hold blank text alone in all examples.
        unlabelled: what tells how good a setting is on texts without labels: the confidence of the model, or
            the likelihood of the text, which is its own label; None: nothing does.
        label_column: the column whose values are the classes of a new head; None: it has no head of its own.
        likelihood: how likelihood is scored, for the signatures.
        remark: what every signature says beside that no key of a trial needs, as no option changes it or the
            option itself is in the key.
        tokenisation: how generated text is cut into words, for its metrics.
        notes: lines that say what the task decided by itself, and its user may decide otherwise.
        halved: how many batches have not fitted in memory and were halved.
        batch_tokens: padded tokens of a batch of what is scored. It may be set at any time; what is read
            teacher-forced, for priors and what is solved for, keeps to what the evaluation says.
        pads: whether rows are padded to the longest of a batch; else each is a batch of its own.

    Raises:
        UserError: if the task does not supply a metric, or the model cannot do what is asked of it.
    """

    name: ClassVar[str]
    auto_class: ClassVar[AutoClass]
    groups: ClassVar[frozenset[str]]
    without: ClassVar[frozenset[str]] = frozenset()
    generates: ClassVar[bool] = False
    overlap: ClassVar[str | None] = None
    uses: ClassVar[frozenset[str]] = OPTIONAL
    trainable: ClassVar[bool] = False
    columns: ClassVar[Sequence[str]]
    may_be_blank: ClassVar[frozenset[str]] = frozenset({"label", "tags"})
    unlabelled: ClassVar[Literal["confidence", "likelihood"] | None] = None
    label_column: ClassVar[str | None] = None
    likelihood: str
    remark: str = ""
    tokenisation = Tokenisation()
    notes: Sequence[str] = ()

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        model_config: PretrainedConfig,
        data: Reading,
        evaluation: Evaluation,
    ) -> None:
        from nvreg.models.teacher_forcing import check_vocabulary, padding_token

        self.check_metrics(evaluation.metrics)
        check_vocabulary(model_config, tokenizer)
        self.halved = 0
        self._padding = padding_token(model_config, tokenizer)
        self._tokenizer = tokenizer
        self._config = model_config
        self._metrics = evaluation.metrics
        self._temperatures = evaluation.temperatures
        self._keeps_temperatures = evaluation.keeps_temperatures
        self._groups = sorted({METRICS[name].group for name in evaluation.metrics})
        asked = evaluation.batch_tokens
        self.batch_tokens = self._read_tokens = BATCH_TOKENS if asked == "auto" else asked
        self.pads = True
        self._rehearsal: Callable[[Sequence[int], RunRows], Any] | None = None
        self._prepare(data, evaluation)

    def _prepare(self, data: Reading, evaluation: Evaluation) -> None:
        """Take what the task needs, beside ``_tokenizer`` and ``_config``, from its arguments.

        Raises:
            UserError: if the model cannot do what they ask.
        """

    @classmethod
    def metrics(cls) -> list[str]:
        """Return the names of the metrics that the task supplies."""
        return [name for name, metric in METRICS.items() if cls._supplies(metric)]

    @classmethod
    def check_metrics(cls, names: Sequence[str]) -> None:
        """Check that the task supplies the metrics of these names.

        Raises:
            UserError: if it does not supply one; it lists those that it does.
        """
        supplied = cls.metrics()
        for name in names:
            if name not in supplied:
                raise UserError(
                    f"evaluation.metrics: expected some of {', '.join(supplied)} with task {cls.name}, "
                    f"got {name!r}{did_you_mean(name, supplied)}"
                )

    @classmethod
    def check_columns(cls, data: Reading) -> None:
        """Check that a file's data section names columns that the task has, in every ``columns`` of it.

        Raises:
            UserError: if the task has not one; it lists those that it has.
        """
        for key, name in data.column_names("data"):
            if name not in cls.columns:
                raise UserError(
                    f"{key}: expected some of {', '.join(cls.columns)} with task {cls.name}, "
                    f"got {name!r}{did_you_mean(name, cls.columns)}"
                )

    @classmethod
    def check_use(cls, data: Reading, evaluation: Evaluation | None = None) -> None:
        """Check that a file says nothing that the task has no use for.

        Raises:
            UserError: if it does; it names the key.
        """
        for key in sorted(OPTIONAL - cls.uses):
            section, _, name = key.partition(".")
            written = data if section == "data" else evaluation
            if written is None:
                continue
            given = getattr(written, name)
            if given != type(written).model_fields[name].default:
                raise UserError(
                    f"{key}: expected none with task {cls.name}, which has no use for it, got "
                    f"{shown(given)}; remove it"
                )

    @property
    def required(self) -> Sequence[str]:
        """The columns that examples must have."""
        return self.columns

    @classmethod
    def _supplies(cls, metric: Metric) -> bool:
        if metric.group == "overlap":
            return cls.overlap is not None
        is_made = metric.group in cls.groups or (cls.generates and metric.of_texts is not None)
        return is_made and metric.name not in cls.without

    @property
    def signatures(self) -> Mapping[str, str]:
        """Every metric of the evaluation, with the choices that change it and the versions they are of."""
        return {name: f"{signature}{self.remark}" for name, signature in self.conditions.items()}

    @property
    def conditions(self) -> Mapping[str, str]:
        """The same without the remark: what of the signatures is part of a trial's key."""
        return {name: self._signature(METRICS[name]) for name in self._metrics}

    def _signature(self, metric: Metric) -> str:
        described = metric.signature(self.tokenisation)
        if package := METRICS.package(metric.name):
            described = f"{described}|{package}"
        if metric.group in ("likelihood", "text"):
            return f"{described}|{self.likelihood}"
        if metric.group == "overlap" and self.overlap is not None:
            return f"{described}|{self._signature(METRICS[self.overlap])}"
        return described

    def completed(self, frame: DataFrame, pretrained: Sequence[str] | None = None) -> DataFrame:
        """Return what `score` returned of a whole data set, with all that its metrics need.

        Args:
            frame: scores, of which the ids may begin anew with each part that was scored.
            pretrained: predictions of the pretrained model for the same examples; by default, these.
        """
        frame = frame.assign(id=range(len(frame)))
        if "overlap" not in self._metrics:
            return frame
        return self.with_overlap(frame, list(frame["prediction"] if pretrained is None else pretrained))

    def values(self, frame: DataFrame, of_set: str) -> dict[str, float]:
        """Return every metric of a set; NaN is the value of one that needs labels which the set has not.

        Args:
            frame: completed.
            of_set: what messages call the set.

        Raises:
            UserError: if one of examples that have their statistics is no number.
        """
        values = {name: score(frame, name) for name in self._metrics}
        for name, value in values.items():
            if isnan(value) and not np.isnan(statistics_of(frame, METRICS[name].group)).all():
                raise UserError(f"{of_set}: expected a number for {name}, got NaN")
        return values

    def with_overlap(self, frame: DataFrame, pretrained: Sequence[str]) -> DataFrame:
        """Return a frame of scores with the column "overlap".

        Args:
            frame: scores of any model, with its predictions.
            pretrained: predictions of the pretrained model for the same examples.
        """
        assert self.overlap is not None
        rows = text_statistics(self.overlap, list(frame["prediction"]), list(pretrained), self.tokenisation)
        return frame.assign(overlap=rows.tolist())

    def check_model(self, model: PreTrainedModel) -> None:
        """Check that a loaded model does what the evaluation needs, before anything is scored.

        Raises:
            UserError: if it does not.
        """

    @property
    def scores_as_read(self) -> bool:
        """Whether scoring runs what `teacher_forced` yields, once, and all else it runs is generation."""
        return False

    @abstractmethod
    def encode(self, examples: Examples) -> E:
        """Tokenise a data set, once for all that is done with it.

        Raises:
            UserError: if the model cannot read an example.
        """

    def is_empty(self, encoded: E) -> bool:
        """Return whether a tokenised data set has nothing that is scored."""
        return False

    @abstractmethod
    def batch(self, encoded: E, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return the examples at these positions as one padded batch that the model accepts, with labels.

        Padding is -100 where labels are tokens.
        """

    @abstractmethod
    def teacher_forced(self, encoded: E) -> Iterator[dict[str, Tensor]]:
        """Yield every example in batches as `batch` returns them.

        Long and short batches are mixed, the same way each time, so that the first ones speak for all.
        """

    def lengths(self, encoded: E) -> list[int]:
        """Return the padded tokens of every row that is scored in batches of a budget: by default none."""
        return []

    @abstractmethod
    def score(
        self, model: PreTrainedModel, encoded: E, *, encoder_states: EncoderStates | None = None
    ) -> DataFrame:
        """Score every example, with results that do not depend on how they are batched, in float32.

        Args:
            model: in evaluation mode.
            encoded: what `encode` returned.
            encoder_states: reused and added to by a task of encoder-decoder models; None: encoders run anew
                for all that is scored.

        Returns:
            A row an example, in their order: "id", its number from 0; a list of statistics for each group of
            `nvreg.metrics` that the evaluation needs, but "overlap"; "prediction" where there is one; and
            where the evaluation keeps temperatures, what `nvreg.metrics.temperature` reads.

        Raises:
            NotFiniteError: if what the model makes of an example is not finite.
        """

    def _mixed(self, lengths: Sequence[int]) -> list[list[int]]:
        """Return the positions of every batch, given the padded tokens of each row, long and short mixed."""
        mixed = self._batches(lengths, self._read_tokens)
        Random(0).shuffle(mixed)
        return mixed

    def rehearse(
        self, model: PreTrainedModel, encoded: E, rehearsal: Callable[[Sequence[int], RunRows], T]
    ) -> T | None:
        """Begin to score a data set, and let a function run what it likes of it; nothing is scored.

        Args:
            model: in evaluation mode.
            encoded: what `encode` returned.
            rehearsal: gets what `lengths` returns, and what runs rows.

        Returns:
            What the rehearsal returns; None where the task does not score in batches of `batch_tokens`.
        """
        self._rehearsal = rehearsal
        try:
            self.score(model, encoded)
        except _RehearsedError as ended:
            return cast(T, ended.result)
        finally:
            self._rehearsal = None
        return None

    def _batches(self, lengths: Sequence[int], tokens: int) -> list[list[int]]:
        return batches(lengths, tokens if self.pads else 1)

    def _in_batches(self, lengths: Sequence[int], run: RunRows) -> None:
        """Call a function on the positions of every batch, and on halves of those that are too large."""
        from nvreg.memory import in_halves  # imports torch, which metrics do without

        if self._rehearsal is not None:
            raise _RehearsedError(self._rehearsal(lengths, run))
        self.halved += in_halves(self._batches(lengths, self.batch_tokens), run)


class _RehearsedError(Exception):
    """Ends a scoring that was begun for a rehearsal, whose result it brings."""

    def __init__(self, result: Any) -> None:
        self.result = result


def part(encoded: E, which: slice) -> E:
    """Return some of the examples of a tokenised data set; what was cut is counted as in the whole."""
    lists = {name: value[which] for name, value in vars(encoded).items() if isinstance(value, list)}
    return cast(E, replace(cast(Any, encoded), **lists))


def content_of(encoded: Encoded) -> dict[str, Any]:
    """Return, as JSON-safe data, what makes a tokenised data set another one."""
    compared = [field.name for field in fields(cast(Any, encoded)) if field.compare]
    return {name: getattr(encoded, name) for name in compared}


def encode(task: Task[E], examples: Examples, name: str) -> E:
    """Tokenise a data set.

    Raises:
        UserError: if the model cannot read an example, or there is nothing to score; with the name of the
            data set.
    """
    origin = f" in {examples.origin}" if examples.origin else ""
    for column in task.required:
        if column not in task.may_be_blank and all(_is_blank(each.get(column)) for each in examples.records):
            raise UserError(
                f"{name}{origin}: expected text in the column {column!r}, got {len(examples)} blank examples"
            )
    try:
        encoded = task.encode(examples)
    except UserError as error:
        raise UserError(f"{name}, {error}") from error
    if task.is_empty(encoded):
        raise UserError(
            f"{name}{origin}: expected text with something to score, got {len(examples)} examples without; "
            "give longer ones, or a greater data.max_length"
        )
    return encoded


def _is_blank(value: Any) -> bool:
    """Return whether a text, or every text of a list, holds blanks alone."""
    if isinstance(value, list):
        return all(map(_is_blank, value))
    return isinstance(value, str) and not value.strip()


def score_set(
    task: Task[E],
    model: PreTrainedModel,
    encoded: E,
    name: str,
    *,
    first: int = 0,
    encoder_states: EncoderStates | None = None,
) -> DataFrame:
    """Score every example of a data set, or of a part of one (see `Task.score`).

    Args:
        task: which.
        model: in evaluation mode.
        encoded: what `encode` returned.
        name: the name of the data set, for messages.
        first: the number of the first example in the whole data set, from 0.
        encoder_states: as for `Task.score`.

    Raises:
        UserError: if a score is not finite, with the name of the data set and the number of the example.
    """
    try:
        return task.score(model, encoded, encoder_states=encoder_states)
    except NotFiniteError as error:
        raise UserError(f"{name}, {NotFiniteError(first + error.example)}") from error
