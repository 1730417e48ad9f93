"""The interface of a task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor
    from transformers import PreTrainedModel

    from nvreg.data import Examples


class Encoded(Protocol):
    """A tokenised data set; what is inside is its task's own."""

    @property
    def truncated(self) -> int:
        """The number of examples that were cut to the model's limits."""


E = TypeVar("E", bound=Encoded)


class Task(Protocol[E]):
    """What the model is to do with an example, and what that scores."""

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that examples must have."""

    def encode(self, examples: Examples) -> E:
        """Tokenise a data set, once for all that is done with it."""

    def batch(self, encoded: E, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return the examples at these positions as one padded batch that the model accepts, with labels.

        Padding is -100 where labels are tokens.
        """

    def teacher_forced(self, encoded: E) -> Iterator[dict[str, Tensor]]:
        """Yield every example in batches as `batch` returns them.

        Long and short batches are mixed, the same way each time, so that the first ones speak for all.
        """

    def score(self, model: PreTrainedModel, encoded: E) -> DataFrame:
        """Score every example, with results that do not depend on how they are batched.

        Returns:
            A row an example, in their order: "id", its number from 0; a list of statistics for each group of
            `nvreg.tasks.metrics` that the evaluation needs; "prediction" where text was generated.
        """
