"""A control that nvreg has not: every weight of the output projections, times a factor."""

from typing import ClassVar

import torch

from nvreg.config import Section
from nvreg.methods import Method
from nvreg.parameters import Parameter, Setting


class ShrinkSetting(Setting):
    """``factor``: what weights are multiplied by."""

    parameters: ClassVar = {"factor": Parameter(1.0, "a number from 0 to 1", lambda v: 0 <= v <= 1)}


class ShrinkOptions(Section):
    """What shrink needs."""

    biases: bool = False
    """Whether biases shrink as well."""


class Shrink(Method):
    """Output projections are shrunk."""

    name = "shrink"
    setting_type = ShrinkSetting
    options = ShrinkOptions
    matched_to = "nv"
    is_saved = True

    def __init__(self, biases: bool) -> None:
        self._biases = biases

    @property
    def fingerprint(self):
        return f"{self.name} biases={self._biases}"

    def attach_(self, model, prior, sample):
        modules = [module for name, module in model.named_modules() if name.endswith("out_proj")]
        weights = [
            weight for each in modules for weight in each.parameters() if weight.ndim > 1 or self._biases
        ]
        self._weights = [(weight, weight.detach().clone()) for weight in weights]

    def set_(self, model, setting):
        with torch.no_grad():
            for weight, original in self._weights:
                weight.copy_(setting.value("factor", "encoder") * original)

    def detach_(self, model):
        self.set_(model, ShrinkSetting())

    def strength(self, setting, record):
        return record.over_sites(lambda site: 1 - setting.value("factor", site.role, site.layer))
