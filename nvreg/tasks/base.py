"""What every task is: from examples to batches, and from a model to a frame of scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

from nvreg.data import batches
from nvreg.errors import UserError
from nvreg.metrics import METRICS, check_metrics, signature

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from nvreg.config import Evaluation, Reading
    from nvreg.data import Examples
    from nvreg.tasks.encoder_states import EncoderStates

BATCH_TOKENS = 2048
"""Padded tokens of a batch where ``batch_tokens`` is auto."""


class Encoded(Protocol):
    """A tokenised data set; what is inside is its task's own."""

    @property
    def truncated(self) -> int:
        """The number of examples that were cut to the model's limits."""


E = TypeVar("E", bound=Encoded)


class Task(ABC, Generic[E]):
    """What the model is to do with an example, and what that scores.

    Args:
        tokenizer: the model's; some tasks set its languages in place.
        model_config: the model's.
        data: how the model reads text.
        evaluation: metrics, and the size of batches.

    Attributes:
        name: as in an experiment file.
        required: the columns that examples must have.
        likelihood: how likelihood is scored, for the signatures.
        halved: how many batches have not fitted in memory and were halved.

    Raises:
        UserError: if the task does not supply a metric, or the model cannot do what is asked of it.
    """

    name: ClassVar[str]
    required: Sequence[str]
    likelihood: str

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        model_config: PretrainedConfig,
        data: Reading,
        evaluation: Evaluation,
    ) -> None:
        check_metrics(self.name, evaluation.metrics)
        self.halved = 0
        self._tokenizer = tokenizer
        self._config = model_config
        self._metrics = evaluation.metrics
        self._groups = sorted({METRICS[name].group for name in evaluation.metrics})
        self._budget = BATCH_TOKENS if evaluation.batch_tokens == "auto" else evaluation.batch_tokens

    @property
    def signatures(self) -> Mapping[str, str]:
        """Every metric of the evaluation, with the choices that change it."""
        return {name: signature(name, self.name, self.likelihood) for name in self._metrics}

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

    @abstractmethod
    def score(
        self, model: PreTrainedModel, encoded: E, *, encoder_states: EncoderStates | None = None
    ) -> DataFrame:
        """Score every example, with results that do not depend on how they are batched.

        Args:
            model: in evaluation mode.
            encoded: what `encode` returned.
            encoder_states: reused and added to by a task of encoder-decoder models.

        Returns:
            A row an example, in their order: "id", its number from 0; a list of statistics for each group of
            `nvreg.metrics` that the evaluation needs, but "overlap"; "prediction" where there is one.
        """

    def _mixed(self, lengths: Sequence[int]) -> list[list[int]]:
        """Return the positions of every batch, given the padded tokens of each row, long and short mixed."""
        mixed = batches(lengths, self._budget)
        Random(0).shuffle(mixed)
        return mixed

    def _in_batches(self, lengths: Sequence[int], run: Callable[[list[int]], None]) -> None:
        """Call a function on the positions of every batch, and on halves of those that are too large."""
        from nvreg.memory import in_halves  # imports torch, which metrics do without

        self.halved += in_halves(batches(lengths, self._budget), run)


def encode(task: Task[E], examples: Examples, name: str) -> E:
    """Tokenise a data set.

    Raises:
        UserError: if the model cannot read an example; with the name of the data set.
    """
    try:
        return task.encode(examples)
    except UserError as error:
        raise UserError(f"{name}, {error}") from error
