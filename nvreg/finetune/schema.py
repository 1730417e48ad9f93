"""The fine-tuning file: name, task, model, data and output as in an experiment, a method and its training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    FiniteFloat,
    GetJsonSchemaHandler,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from nvreg.config.loading import load_checked
from nvreg.config.sections import (
    Count,
    FileName,
    ModelSource,
    NameIn,
    OutOfDomain,
    Reading,
    Section,
    Seed,
    Seeded,
    Source,
)
from nvreg.errors import UserError, expected_one_of
from nvreg.experiment import check_sense
from nvreg.finetune.regularisers import REGULARISERS, Options
from nvreg.metrics import METRICS
from nvreg.tasks import TASKS


class TrainingDomain(Section):
    """A domain with examples to train on."""

    name: FileName
    """Name of the domain."""

    train: Source
    """Examples to train on."""

    validation: Source
    """Examples that are scored after every epoch, and decide when to stop."""

    test: Source | None = None
    """Examples that an experiment scores; training never looks at them."""


class TrainingData(Reading):
    """An experiment's data section, of which only ``in_domain`` is needed and used."""

    in_domain: TrainingDomain
    """The domain that the model is trained on."""

    out_of_domain: list[OutOfDomain] = Field(default_factory=list)
    """Domains of an experiment, which training never looks at."""


class EarlyStopping(Section):
    """When training stops, which then keeps the best epoch's weights."""

    metric: str
    """Metric of the validation examples that decides."""

    patience: Count = 3
    """Number of epochs without a better score after which training stops."""

    @model_validator(mode="before")
    @classmethod
    def _metric_alone(cls, given: Any) -> Any:
        return {"metric": given} if isinstance(given, str) else given

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        written = handler.resolve_ref_schema(super().__get_pydantic_json_schema__(schema, handler))
        return {"anyOf": [written, {"type": "string", "description": "The metric alone."}]}


class TrainingOptions(Seeded):
    """How a model is trained, once a seed: by AdamW, with gradients clipped to norm 1."""

    seeds: list[Annotated[Seed, Field(lt=2**32)]] = Field(default=[0], min_length=1)
    """Seeds, each of which trains a checkpoint; seed: 1 stands for seeds: [1]."""

    epochs: Count = 3
    """Number of passes over the training examples, at most."""

    batch_size: Count = 32
    """Number of examples in a step."""

    learning_rate: Annotated[FiniteFloat, Field(gt=0)] = 2e-5
    """Largest learning rate, which falls linearly to 0 by the last step."""

    weight_decay: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    """Weight decay of AdamW."""

    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of all steps over which the learning rate rises first."""

    early_stopping: EarlyStopping | None = None
    """Metric that ends training and chooses its weights; without one they are those of the last epoch."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of training; ``auto`` is bfloat16 where the hardware has it. Weights are always float32."""


class _OptionsOfMethods:
    """Describes the options of every method in the JSON Schema; a file is checked for those of its own."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        classes = dict.fromkeys(method.options_class for method in REGULARISERS.values())
        return {"anyOf": [handler(each.__pydantic_core_schema__) for each in classes]}


def _trainable() -> list[str]:
    return [name for name, task in TASKS.items() if task.trainable]


def _check_trainable(task: str) -> str:
    if task not in (names := _trainable()):
        raise ValueError(expected_one_of(names, task))
    return task


def _name_trainable(schema: dict[str, Any]) -> None:
    schema["enum"] = _trainable()


class FineTuning(Section):
    """One fine-tuning file."""

    name: str
    """Name of the fine-tuning, in its manifest."""

    task: Annotated[str, AfterValidator(_check_trainable), Field(json_schema_extra=_name_trainable)]
    """The task that the model is trained for."""

    model: ModelSource
    """The pretrained checkpoint."""

    data: TrainingData
    """All text, and how the model reads it."""

    method: Annotated[str, NameIn(REGULARISERS)]
    """How the model is fine-tuned: plainly, or with a regulariser."""

    regulariser: Annotated[SerializeAsAny[Options], _OptionsOfMethods()] = Field(
        default={}, validate_default=True
    )
    """The method's own options."""

    training: TrainingOptions = TrainingOptions()
    """How long and how fast the model is trained."""

    output: str
    """Directory of the checkpoints, relative to the working directory."""

    @field_validator("regulariser", mode="before")
    @classmethod
    def _options_of_the_method(cls, given: Any, info: ValidationInfo) -> Any:
        method = info.data.get("method")
        if method is None:
            return Options()  # the mistake in the method is the one to name
        options = REGULARISERS[method].options_class
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
        try:
            TASKS[self.task].check_columns(self.data)
        except UserError as error:
            raise ValueError(str(error)) from None
        stopping = self.training.early_stopping
        better = [name for name in TASKS[self.task].metrics() if _is_better_one_way(name)]
        if stopping and stopping.metric not in better:
            wanted = expected_one_of(better, stopping.metric)
            raise ValueError(f"training.early_stopping: {wanted}, with task {self.task}")
        return self


def _is_better_one_way(name: str) -> bool:
    """Whether a metric has a better direction, and needs no predictions but those of the model."""
    return METRICS[name].higher_is_better is not None and name != "overlap"


def load_finetuning(path: Path | str, overrides: Sequence[str] = ()) -> FineTuning:
    """Read and check a fine-tuning file, as `nvreg.experiment.load_experiment` reads an experiment file.

    Raises:
        UserError: if the file cannot be read, or a key or value is not what the schema expects, or of no use.
    """
    finetuning = load_checked(FineTuning, path, overrides)
    check_sense(path, finetuning.task, finetuning.data, None)
    return finetuning
