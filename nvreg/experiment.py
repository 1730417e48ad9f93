"""The experiment file: its sections as pydantic models, how they agree, and its loading."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from nvreg.config.loading import load_checked
from nvreg.config.sections import (
    Data,
    Evaluation,
    InputPath,
    ModelPath,
    ModelSource,
    NameIn,
    Section,
    Seeded,
)
from nvreg.errors import UserError
from nvreg.methods import METHODS
from nvreg.metrics import METRICS, check_metrics
from nvreg.protocols import PROTOCOLS
from nvreg.space import Range, Space, parse_space

Protocol = Annotated[str, NameIn(PROTOCOLS)]
TaskName = Literal["translation", "summarisation", "language-modelling", "classification", "multiple-choice"]


class PriorSource(Section):
    """How the prior is made, or the file of a saved one."""

    kind: Literal["empirical", "gaussian"] | None = None
    max_tokens: PositiveInt | None = None
    path: InputPath | None = None

    @model_validator(mode="before")
    @classmethod
    def _empirical_by_default(cls, given: Any) -> Any:
        return {"kind": "empirical", **given} if isinstance(given, dict) and "path" not in given else given

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.path is not None and self.kind is not None:
            raise ValueError("expected kind or path, got both")
        if self.max_tokens is not None and self.kind != "empirical":
            raise ValueError("expected max_tokens only with kind: empirical")
        return self


class MethodSpace(Section):
    """What is tried of a method: ``enqueue`` first, then what the sampler draws from ``space``.

    ``space`` has dimensions by parameter and role, in the syntax of `nvreg.space`; what it does not
    name is at identity. ``pretrained`` is the checkpoint that wise-ft mixes with.
    """

    space: dict[str, Any]
    enqueue: list[dict[str, Any]] = Field(default_factory=list)
    pretrained: ModelPath | None = None

    @property
    def parameters(self) -> set[str]:
        """The parameters that some setting may move from identity."""
        return set(self.space).union(*self.enqueue)


class Racing(Section):
    """Settings that are clearly worse after so many examples of every validation set are stopped."""

    after: PositiveInt


class Sweep(Seeded):
    """Which settings are tried: ``trials`` of each method and seed, the enqueued ones included.

    ``method``, ``space`` and ``enqueue`` may stand for ``methods`` with one method.
    """

    methods: Annotated[dict[str, MethodSpace], Field(min_length=1)]
    sampler: Literal["grid", "random", "tpe"]
    trials: PositiveInt | None = None
    racing: Racing | None = None

    @classmethod
    def _written_out(cls, given: dict[str, Any]) -> dict[str, Any]:
        given = super()._written_out(given)
        single = {key: given.pop(key) for key in ("method", *MethodSpace.model_fields) if key in given}
        if single and "methods" in given:
            raise ValueError(f"expected methods or {next(iter(single))}, got both")
        return {"methods": {single.pop("method", "nv"): single}, **given} if single else given

    @model_validator(mode="after")
    def _methods_read_their_spaces(self) -> Self:
        if self.sampler != "grid" and self.trials is None:
            raise ValueError(f"expected trials, the number of settings that sampler: {self.sampler} draws")
        for name, written in self.methods.items():
            if name not in METHODS:
                raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {name!r}")
            where = f"methods.{name}." if len(self.methods) > 1 else ""
            wanted = "pretrained" in METHODS[name].options
            if wanted != (written.pretrained is not None):
                expected = "a checkpoint" if wanted else "none"
                raise ValueError(
                    f"{where}pretrained: expected {expected} with {name}, got {written.pretrained}"
                )
            try:
                self._check_space(parse_space(METHODS[name].setting.parameters, written.space))
            except ValueError as error:
                separator = ": " if str(error).startswith("expected") else "."
                raise ValueError(f"{where}space{separator}{error}") from None
            for setting in written.enqueue:
                try:
                    METHODS[name].setting.from_dict(setting)
                except ValueError as error:
                    raise ValueError(f"{where}enqueue: {error}") from None
        return self

    def _check_space(self, space: Space) -> None:
        if not space:
            raise ValueError("expected at least one dimension, got none")
        for (parameter, role), dimension in space.items():
            if self.sampler == "grid" and isinstance(dimension, Range):
                raise ValueError(
                    f"{parameter}{f'.{role}' if role else ''}: expected {{values: [...]}} or a fixed value, "
                    "which sampler: grid needs, got a range"
                )


class Selection(Section):
    """How a setting is chosen from the trials."""

    metric: str
    protocols: Annotated[list[Protocol], Field(min_length=1)]


class Experiment(Section):
    """One experiment file. ``output`` is relative to the working directory."""

    name: str
    task: TaskName
    model: ModelSource
    data: Data
    prior: PriorSource = PriorSource(kind="empirical")
    sweep: Sweep
    evaluation: Evaluation
    selection: Selection
    output: str

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.prior.kind == "empirical" and self.data.in_domain.train is None:
            raise ValueError("expected data.in_domain.train, which the empirical prior is estimated on")
        calibrated = any("prior_weight" in method.parameters for method in self.sweep.methods.values())
        if calibrated and self.data.in_domain.train is None:
            raise ValueError("expected data.in_domain.train, which prior_weight is calibrated on")
        metric, metrics = self.selection.metric, self.evaluation.metrics
        try:
            check_metrics(self.task, metrics)
        except UserError as error:
            raise ValueError(str(error)) from None
        if metric not in metrics or METRICS[metric].higher_is_better is None:
            better = [name for name in metrics if METRICS[name].higher_is_better is not None]
            raise ValueError(
                f"selection.metric: expected one of evaluation.metrics with a better direction "
                f"({', '.join(better)}), got {metric!r}"
            )
        if self.sweep.racing and METRICS[metric].of_examples is None:
            raise ValueError(
                "selection.metric: expected a metric that scores single examples, which sweep.racing "
                f"compares, got {metric!r}"
            )
        return self


def load_experiment(path: Path | str, overrides: Sequence[str] = ()) -> Experiment:
    """Read and check an experiment file.

    Args:
        path: the YAML file. Input paths in it are relative to its directory and returned absolute.
        overrides: ``a.b=value`` each, set before checking: a dotted path of keys (and of positions in lists,
            from 0) and a YAML value.

    Raises:
        UserError: if the file cannot be read, or a key or value is not what the schema expects.
    """
    return load_checked(Experiment, path, overrides)
