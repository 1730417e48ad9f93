"""The experiment file: its schema and its loading."""

from nvreg.config.loading import load_experiment
from nvreg.config.schema import (
    Evaluation,
    Experiment,
    Generation,
    MethodSpace,
    PriorSource,
    Racing,
    Selection,
    Sweep,
)
from nvreg.config.sections import Data, InDomain, ModelSource, OutOfDomain, Reading, Source

__all__ = [
    "Data",
    "Evaluation",
    "Experiment",
    "Generation",
    "InDomain",
    "MethodSpace",
    "ModelSource",
    "OutOfDomain",
    "PriorSource",
    "Racing",
    "Reading",
    "Selection",
    "Source",
    "Sweep",
    "load_experiment",
]
