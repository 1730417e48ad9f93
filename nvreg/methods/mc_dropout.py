"""The control that a checkpoint brings along: Monte Carlo dropout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import PositiveInt

from nvreg.attention.settings import check_one_of
from nvreg.config import Section
from nvreg.methods.method import Batch, Method
from nvreg.parameters import Parameter, Setting

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from nvreg.diagnostics import Record
    from nvreg.prior.artefact import Prior


class MCDropoutSetting(Setting):
    """``rate`` of dropout, or ``rate_scale``, what the checkpoint's own rates are multiplied by; ``seed``."""

    parameters: ClassVar = {
        "rate": Parameter(0.0, "a number from 0 to below 1", lambda v: 0 <= v < 1, by_role=False),
        "rate_scale": Parameter(0.0, "a number from 0 to 9", lambda v: 0 <= v <= 9, by_role=False),
        "seed": Parameter(
            0, "a whole number from 0 to 1e15", lambda v: 0 <= v <= 1e15 and v.is_integer(), by_role=False
        ),
    }

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        check_one_of(self, "rate", "rate_scale")


class MCDropoutOptions(Section):
    """How often mc-dropout runs the model."""

    passes: PositiveInt = 10
    """Passes with dropout of which the probabilities are averaged; each takes the time of one."""


class MCDropout(Method):
    """The mean of what several passes with dropout predict (Gal and Ghahramani, 2016, arXiv 1506.02142).

    Dropout acts where the architecture has it, attention weights included. Text is not generated.

    Args:
        passes: how many there are.
    """

    name = "mc-dropout"
    setting_type = MCDropoutSetting
    options = MCDropoutOptions
    space = None
    generates = False
    shares_encoder = False

    def __init__(self, passes: int = 10) -> None:
        self._passes = passes

    @property
    def fingerprint(self) -> str:
        """The method with the number of passes."""
        return f"{self.name} passes={self._passes}"

    def attach_(self, model: PreTrainedModel, prior: Prior | None, sample: Sequence[Batch]) -> None:
        """Have the model run several passes (see `Method.attach_`)."""
        from nvreg.models.passes import DropoutPasses

        self._averaged = DropoutPasses(model, self._passes)

    def set_(self, model: PreTrainedModel, setting: Setting) -> None:
        """Set the rates.

        Raises:
            ValueError: if the checkpoint's own rates are wanted and it has none.
        """
        scale = setting.value("rate_scale")
        if scale > 0 and not _has_rates(model.config.to_dict()):
            raise ValueError(
                "rate_scale: expected a checkpoint with rates of dropout above 0, got none in its config; "
                "search rate instead"
            )
        self._averaged.rate, self._averaged.rate_scale = setting.value("rate"), scale
        self._averaged.seed, self._averaged.mean_rate = int(setting.value("seed")), 0.0

    def detach_(self, model: PreTrainedModel) -> None:
        """Have the model run once."""
        self._averaged.revert()

    def strength(self, setting: Setting, record: Record) -> float:
        """Return the mean rate over the places for dropout that the model has run."""
        return self._averaged.mean_rate


def _has_rates(config: Mapping[str, Any]) -> bool:
    """Return whether a config, or one inside it, has a rate of dropout above 0."""
    return any(
        _has_rates(value)
        if isinstance(value, Mapping)
        else "drop" in str(key)
        and "layerdrop" not in str(key)
        and isinstance(value, int | float)
        and value > 0
        for key, value in config.items()
    )
