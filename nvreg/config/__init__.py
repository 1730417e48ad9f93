"""The sections that experiment and fine-tuning files share, and how any file is loaded."""

from nvreg.config.loading import load_checked
from nvreg.config.sections import (
    Data,
    Evaluation,
    Generation,
    InDomain,
    ModelSource,
    OutOfDomain,
    Reading,
    Section,
    Source,
)

__all__ = [
    "Data",
    "Evaluation",
    "Generation",
    "InDomain",
    "ModelSource",
    "OutOfDomain",
    "Reading",
    "Section",
    "Source",
    "load_checked",
]
