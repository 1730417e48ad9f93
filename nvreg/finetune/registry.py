"""The fine-tuning methods by name, without importing what they run on."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from nvreg.errors import UserError
from nvreg.finetune.options import (
    GuidedDropoutOptions,
    MVCROptions,
    Options,
    WeightDecayToPretrainedOptions,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from nvreg.finetune.regularisers.regulariser import Regulariser


class Method(NamedTuple):
    """What a method can be told, and where its `nvreg.finetune.regularisers.Regulariser` is."""

    options: type[Options]
    module: str
    regulariser: str


METHODS: Mapping[str, Method] = {
    "plain": Method(Options, "regulariser", "Regulariser"),
    "head-only": Method(Options, "head_only", "HeadOnly"),
    "weight-decay-to-pretrained": Method(
        WeightDecayToPretrainedOptions, "weight_decay", "WeightDecayToPretrained"
    ),
    "guided-dropout": Method(GuidedDropoutOptions, "guided_dropout", "GuidedDropout"),
    "mvcr": Method(MVCROptions, "mvcr", "MVCR"),
}

REFUSED: Mapping[str, str] = {
    "mixout": "no maintained library has it, only the code of its authors' paper, which has no releases",
}
"""Methods that are known and not offered, and why."""


def check_method(name: str) -> None:
    """Check that there is a method of that name.

    Raises:
        UserError: if there is none; it lists those that exist, or says why one is not offered.
    """
    if name in METHODS:
        return
    why = f", which is not offered: {REFUSED[name]}" if name in REFUSED else ""
    raise UserError(f"method: expected one of {', '.join(METHODS)}, got {name!r}{why}")


def attach(method: str, model: PreTrainedModel, options: Options, seed: int) -> Regulariser[Any]:
    """Put a method to work on a model.

    Raises:
        UserError: if the model is not one for it.
    """
    _, module, name = METHODS[method]
    regulariser = getattr(import_module(f"nvreg.finetune.regularisers.{module}"), name)
    attached: Regulariser[Any] = regulariser(model, options, seed)
    return attached
