"""What ``nvreg evaluate`` writes: every key with its type and meaning (docs/evaluate.md)."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import PlainSerializer, WithJsonSchema

from nvreg.config import Section
from nvreg.results import BatchSize

Number = Annotated[
    float,
    PlainSerializer(lambda value: value if math.isfinite(value) else str(value), when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["inf", "-inf", "nan"]}]}),
]
"""A number; JSON has none for infinities and NaN, which are text."""


class Score(Section):
    """A metric over a data set, with its uncertainty over examples."""

    value: Number
    """The metric."""
    standard_error: Number | None
    """Bootstrap standard error; null of fewer than 10 examples, or where a resample has no finite value."""
    low: Number | None
    """Lower end of the 95 % bootstrap interval; null of fewer than 10 examples."""
    high: Number | None
    """Its upper end."""


class Difference(Section):
    """How a metric differs from what it is compared with, on the same examples."""

    other: Number
    """The metric of what it is compared with."""
    difference: Number
    """The metric minus that."""
    standard_error: Number | None
    """Paired bootstrap standard error; null as above."""
    low: Number | None
    """Lower end of the 95 % paired bootstrap interval."""
    high: Number | None
    """Its upper end."""
    p: Number | None
    """P-value of no difference by approximate randomisation; null of fewer than 10 examples, or where the
    metric has no better direction or is not finite."""
    p_holm: Number | None
    """The same, corrected for the number of domains by Holm's method."""


class DomainResult(Section):
    """The scores of one data set."""

    name: str
    """Name of the domain: the file's, or its directory's where the file is called like a split or another."""
    data: str
    """The file, address or source, as it was given."""
    fingerprint: str
    """SHA-256 of the records."""
    examples: int
    """How many there are."""
    truncated: int
    """How many of them are cut to what the model reads."""
    metrics: dict[str, Score]
    """Every metric by its name."""
    normalisations: dict[str, dict[str, Score]] | None = None
    """The metrics by every ``evaluation.normalisation``, of one scoring; null but for multiple choice."""
    against: dict[str, Difference] | None = None
    """Differences by metric, where there is something to compare with."""


class MeasuredModel(Section):
    """A model that is measured."""

    path: str
    """The directory or name that was given."""
    model_type: str
    """Its architecture."""
    fingerprint: str
    """Digest of its class, its pretrained weights and their dtypes."""
    dtype: str
    """Precision of the weights and of what is computed with them."""
    space: Literal["inputs", "heads"] | None
    """Where NV attention has its vectors; null: attention is as pretrained."""
    settings: dict[str, Any]
    """The setting, as it was asked for or saved; empty: attention is as pretrained."""
    resolved: dict[str, Any] | None
    """What it stands for, with all that was solved for."""
    prior: str | None
    """Digest of the prior."""


class Result(Section):
    """What came of an evaluation."""

    schema_name: Literal["nvreg-evaluation"] = "nvreg-evaluation"
    """What kind of file it is."""
    schema_version: Literal[1] = 1
    """Version of its keys, raised with every change that a reader of earlier results would misread."""
    task: str
    """The task."""
    model: MeasuredModel
    """What was measured."""
    against: MeasuredModel | None = None
    """What it was compared with."""
    data: dict[str, Any]
    """How text was read: the data section of an experiment file."""
    evaluation: dict[str, Any]
    """What was measured, and how: the evaluation section of an experiment file."""
    signatures: dict[str, str]
    """Every metric with the choices that change it."""
    domains: list[DomainResult]
    """The data sets, in the order that they were given."""
    batch_tokens: BatchSize | None = None
    """How much was scored at a time, of each model; null of earlier versions, whose auto was 2048."""
    notes: list[str]
    """What was decided by itself, and the user may decide otherwise."""
    environment: dict[str, Any]
    """Versions, commit and hardware."""
    seconds: float
    """Wall-clock time."""
