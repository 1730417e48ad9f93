"""What one example scores, per task: from examples to batches, and from a model to a frame of scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nvreg.registry import Registry, subclass_of
from nvreg.tasks.base import Encoded, Task, encode, score_set

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from nvreg.config import Evaluation, Reading

__all__ = ["SCORING_VERSION", "TASKS", "Encoded", "Task", "encode", "make_task", "score_set"]

SCORING_VERSION = 4
"""Raised by hand with every change that changes a score: no trial of another version is reused."""

TASKS: Registry[type[Task[Any]]] = Registry(
    "task",
    {
        "translation": "nvreg.tasks.sequence_to_sequence:Translation",
        "summarisation": "nvreg.tasks.sequence_to_sequence:Summarisation",
        "language-modelling": "nvreg.tasks.language_modelling:LanguageModelling",
        "classification": "nvreg.tasks.classification:Classification",
        "token-classification": "nvreg.tasks.token_classification:TokenClassification",
        "multiple-choice": "nvreg.tasks.multiple_choice:MultipleChoice",
    },
    group="nvreg.tasks",
    check=subclass_of(Task),
)
"""Every task by name."""


def make_task(
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    model_config: PretrainedConfig,
    *,
    data: Reading,
    evaluation: Evaluation,
) -> Task[Any]:
    """Return the task of that name for a model and an experiment's data and evaluation sections.

    Raises:
        UserError: if there is no such task, or it cannot do what the sections ask of it with this model.
    """
    return TASKS[name](tokenizer, model_config, data, evaluation)
