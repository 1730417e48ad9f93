"""Controls that change the softmax of attention: temperature and sink."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nvreg.methods.method import Batch, Method
from nvreg.parameters import Parameter, Setting

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from nvreg.diagnostics import Record
    from nvreg.models.inputs import InputState
    from nvreg.models.site import Site
    from nvreg.prior.artefact import Prior


class _Softmax(Method):
    """A method that converts attention to a form of its own, whose settings have the same parameters."""

    @property
    @abstractmethod
    def _form(self) -> type[InputState]: ...

    def attach_(self, model: PreTrainedModel, prior: Prior | None, sample: Sequence[Batch]) -> None:
        """Convert a model (see `Method.attach_`)."""
        from nvreg.models.convert import attach_

        attach_(model, self._form)

    def set_(self, model: PreTrainedModel, setting: Setting) -> None:
        """Set every site to its values."""
        from nvreg.models.convert import set_sites_
        from nvreg.models.registry import layers_by_role

        setting.check(layers_by_role(model))

        def at(site: Site) -> Any:
            values = (setting.value(name, site.role, site.layer) for name in setting.parameters)
            return self._form.setting_type(*values)

        set_sites_(model, at)

    def detach_(self, model: PreTrainedModel) -> None:
        """Revert the conversion."""
        from nvreg.models.convert import revert_

        revert_(model)


class TemperatureSetting(Setting):
    """``temperature``: what scores are divided by."""

    parameters: ClassVar = {
        "temperature": Parameter(
            1.0, "a number from 1e-15 to 1e15", lambda v: 1e-15 <= v <= 1e15, logarithmic=True
        )
    }


class Temperature(_Softmax):
    """Scores of attention, position biases included, are divided by a temperature."""

    name = "temperature"
    setting_type = TemperatureSetting

    @property
    def _form(self) -> type[InputState]:
        from nvreg.models.inputs import TemperatureState

        return TemperatureState

    def strength(self, setting: Setting, record: Record) -> float:
        """Return the mean over sites of the absolute logarithm of the temperature."""
        return record.over_sites(
            lambda site: abs(math.log(setting.value("temperature", site.role, site.layer)))
        )


class SinkSetting(Setting):
    """``sink_logit``: the logit of the sink; at 0, one is added to the denominator of the softmax."""

    parameters: ClassVar = {
        "sink_logit": Parameter(
            -math.inf,
            "a number from -1e30 to 1e30, or -inf",
            lambda v: abs(v) <= 1e30 or v == -math.inf,
        )
    }


class Sink(_Softmax):
    """Every query sees one more key, of constant logit and zero value."""

    name = "sink"
    setting_type = SinkSetting

    @property
    def _form(self) -> type[InputState]:
        from nvreg.models.inputs import SinkState

        return SinkState

    def strength(self, setting: Setting, record: Record) -> float:
        """Return the mean weight of the sink."""
        return record.prior_weight
