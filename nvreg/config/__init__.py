"""The experiment file: its schema and its loading."""

from nvreg.config.loading import load_experiment
from nvreg.config.schema import (
    Data,
    Evaluation,
    Experiment,
    Generation,
    InDomain,
    ModelSource,
    OutOfDomain,
    PriorSource,
    Reading,
    Selection,
    Source,
    Space,
    Sweep,
)

__all__ = [
    "Data",
    "Evaluation",
    "Experiment",
    "Generation",
    "InDomain",
    "ModelSource",
    "OutOfDomain",
    "PriorSource",
    "Reading",
    "Selection",
    "Source",
    "Space",
    "Sweep",
    "load_experiment",
]
