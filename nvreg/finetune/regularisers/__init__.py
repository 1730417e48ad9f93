"""The fine-tuning methods: what each does to a model while it is trained, and how that is undone.

A method is a `Regulariser` in a file of its own, with its options beside it; `REGULARISERS` names it.
"""

from __future__ import annotations

from typing import Any

from nvreg.finetune.regularisers.regulariser import Options, Regulariser
from nvreg.registry import Registry

__all__ = ["REGULARISERS", "Options", "Regulariser"]

REGULARISERS: Registry[type[Regulariser[Any]]] = Registry(
    "method",
    {
        "plain": "nvreg.finetune.regularisers.baselines:Plain",
        "head-only": "nvreg.finetune.regularisers.baselines:HeadOnly",
        "weight-decay-to-pretrained": "nvreg.finetune.regularisers.baselines:WeightDecayToPretrained",
        "guided-dropout": "nvreg.finetune.regularisers.guided_dropout:GuidedDropout",
        "mvcr": "nvreg.finetune.regularisers.mvcr:MVCR",
    },
    refused={
        "mixout": "no maintained library has it, only the code of its authors' paper, which has no releases"
    },
)
"""The fine-tuning methods by the names that files give them."""
