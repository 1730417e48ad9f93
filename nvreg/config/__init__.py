"""The sections that experiment and fine-tuning files share, and how what people write is loaded."""

from nvreg.config.loading import load_checked, source_of
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
    "source_of",
]
