"""The fine-tuning file: name, task, model, data and output as in an experiment, a method and its training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from nvreg.config.loading import load_checked
from nvreg.config.sections import (
    FileName,
    ModelSource,
    OutOfDomain,
    Reading,
    Section,
    Seeded,
    Source,
)
from nvreg.errors import UserError
from nvreg.finetune.options import Options
from nvreg.finetune.registry import METHODS, check_method
from nvreg.metrics import METRICS, METRICS_OF_TASK


class TrainingDomain(Section):
    """What is trained on, and what decides when to stop; ``test`` is never looked at."""

    name: FileName
    train: Source
    validation: Source
    test: Source | None = None


class TrainingData(Reading):
    """An experiment's data section, of which only ``in_domain`` is needed and used."""

    in_domain: TrainingDomain
    out_of_domain: list[OutOfDomain] = Field(default_factory=list)


class EarlyStopping(Section):
    """Stop after ``patience`` epochs without a better validation score, and keep the best epoch's weights."""

    metric: str
    patience: PositiveInt = 3


class Training(Seeded):
    """How a model is trained, once a seed.

    AdamW, whose learning rate rises over the share ``warmup`` of all steps, then falls linearly
    to 0. ``precision`` is the arithmetic's, by default bfloat16 where the hardware has it; weights are always
    float32. Without ``early_stopping`` the weights are those of the last epoch.
    """

    epochs: PositiveInt = 3
    batch_size: PositiveInt = 32
    learning_rate: PositiveFloat = 2e-5
    weight_decay: NonNegativeFloat = 0.0
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    early_stopping: EarlyStopping | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @classmethod
    def _written_out(cls, given: dict[str, Any]) -> dict[str, Any]:
        given = super()._written_out(given)
        if isinstance(given.get("early_stopping"), str):
            given["early_stopping"] = {"metric": given["early_stopping"]}
        return given


class FineTuning(Section):
    """One fine-tuning file. ``output`` is relative to the working directory."""

    name: str
    task: Literal["translation", "summarisation", "language-modelling", "classification"]
    model: ModelSource
    data: TrainingData
    method: str
    regulariser: SerializeAsAny[Options] = Field(default={}, validate_default=True)
    training: Training = Training()
    output: str

    @field_validator("method")
    @classmethod
    def _known(cls, method: str) -> str:
        try:
            check_method(method)
        except UserError as error:
            raise ValueError(str(error).removeprefix("method: ")) from None
        return method

    @field_validator("regulariser", mode="before")
    @classmethod
    def _options_of_the_method(cls, given: Any, info: ValidationInfo) -> Any:
        method = info.data.get("method")
        if method is None:
            return Options()  # its own mistake is the one to name
        options = METHODS[method].options
        if given and not options.model_fields:
            raise ValueError(f"expected none, as {method} has no options, got {given}")
        required = [name for name, field in options.model_fields.items() if field.is_required()]
        if required and not given:
            raise ValueError(f"regulariser: expected {', '.join(required)} with {method}, got nothing")
        return options.model_validate(given, context=info.context)

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.model.dtype != "float32":
            raise ValueError(
                f"model.dtype: expected float32, which weights are trained in, got {self.model.dtype}; "
                "training.precision: bfloat16 is the faster one"
            )
        stopping = self.training.early_stopping
        better = [name for name in METRICS_OF_TASK[self.task] if _is_better_one_way(name)]
        if stopping and stopping.metric not in better:
            raise ValueError(
                f"training.early_stopping: expected one of {', '.join(better)} with task {self.task}, "
                f"got {stopping.metric!r}"
            )
        return self


def _is_better_one_way(name: str) -> bool:
    """Whether a metric has a better direction, and needs no predictions but those of the model."""
    return METRICS[name].higher_is_better is not None and name != "overlap"


def load_finetuning(path: Path | str, overrides: Sequence[str] = ()) -> FineTuning:
    """Read and check a fine-tuning file, as `nvreg.config.load_experiment` reads an experiment file.

    Raises:
        UserError: if the file cannot be read, or a key or value is not what the schema expects.
    """
    return load_checked(FineTuning, path, overrides)
