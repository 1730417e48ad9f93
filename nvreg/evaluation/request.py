"""What ``nvreg evaluate`` is asked: the parts of an experiment file that one score needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvreg.config import Evaluation, ModelSource, Reading, Section, Source, source_of
from nvreg.config.loading import check_document, set_keys
from nvreg.errors import UserError
from nvreg.experiment import TaskName, check_sense
from nvreg.methods.nv import NVSetting
from nvreg.metrics.classification import names_entities
from nvreg.tasks import TASKS, Task

if TYPE_CHECKING:
    from nvreg.models.site import Space

COMMAND_LINE = Path("nvreg evaluate")
"""What messages call the document that options write; paths in it are relative to the working directory."""


class Request(Section):
    """A model, a task, and how text is read and scored."""

    task: TaskName
    """What the model is to do with an example."""
    model: ModelSource
    """The checkpoint, or what ``nvreg convert`` or ``nvreg export`` wrote."""
    data: Reading = Reading()
    """How the model reads text."""
    evaluation: Evaluation
    """What is measured."""

    def source(self, written: str, split: str, limit: int | None = None) -> Source:
        """Return the data that an option names, as `source_of` does, with the columns of the request."""
        words, tags = (self.data.columns.get(name, "") for name in ("tokens", "tags"))
        return source_of(written, split, words=words, tags=tags, limit=limit)


@dataclass(frozen=True)
class Regularisation:
    """How attention is regularised; all at its default leaves a model as it is, and a converted one as saved.

    Attributes:
        setting: identity: that of a converted model, where it is one.
        space: by default that of the prior.
        prior: file of the prior; a converted model has its own.
        prior_data: in-domain training text as `source_of` reads it, for the prior where there is none, and
            for prior weights.
    """

    setting: NVSetting
    space: Space | None = None
    prior: Path | None = None
    prior_data: str | None = None


def make_request(
    task: str,
    model: str,
    *,
    columns: Mapping[str, str | None],
    metrics: Sequence[str] | None,
    overrides: Sequence[str],
    **source: str,
) -> Request:
    """Return what a command line asks for.

    Args:
        task: name of the task.
        model: directory or name of the model.
        columns: columns of the data by the option that names them: ``--column`` the first of the task's,
            ``--target-column`` what is generated, ``--label-column`` labels or tags.
        metrics: names of metrics; by default all that the task supplies but "overlap".
        overrides: ``a.b=value`` each, of the sections of `Request`.
        source: other keys of the model section.

    Raises:
        UserError: if the task has no such column or metric, or no use for a key, or if a key or value is not
            what the schema expects.
    """
    kind = TASKS[task]
    names: dict[str, str] = {}
    for option, given in columns.items():
        if given is not None:
            names[_column(kind.columns, option, task)] = given
    document: dict[str, Any] = {
        "task": task,
        "model": {"path": model, **source},
        "data": {"columns": names},
        "evaluation": {
            "metrics": list(metrics or _metrics(kind, model)),
            "temperatures": [],
        },
    }
    set_keys(document, overrides, COMMAND_LINE)
    request = check_document(Request, document, COMMAND_LINE)
    kind.check_columns(request.data)
    kind.check_metrics(request.evaluation.metrics)
    check_sense(COMMAND_LINE, task, request.data, request.evaluation)
    return request


def _metrics(task: type[Task[Any]], model: str) -> list[str]:
    """Return the metrics that a task supplies for a model by itself."""
    names = [name for name in task.metrics() if name != "overlap"]
    if "f1" in names:
        from nvreg.models.loading import load_config

        tags = load_config(model).id2label or {}
        names = [name for name in names if name != "f1" or all(map(names_entities, tags.values()))]
    return names


def _column(known: Sequence[str], option: str, task: str) -> str:
    """Return the task's name of the column that an option names."""
    wanted = {
        "--column": known[:1],
        "--target-column": [name for name in known if name in ("target", "summary")],
        "--label-column": [name for name in known if name in ("label", "tags")],
    }[option]
    if not wanted:
        raise UserError(f"{option}: expected a task that has such a column, got {task}; leave it out")
    return wanted[0]
