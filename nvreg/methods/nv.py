"""Nonparametric variational regularisation (docs/method.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nvreg.attention.settings import PRIOR_WEIGHT, Settings, check_one_of
from nvreg.methods.method import Batch, Method
from nvreg.parameters import Setting

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from nvreg.diagnostics import Record
    from nvreg.models.weight_files import WeightFiles
    from nvreg.prior.artefact import Prior


class NVSetting(Setting):
    """A setting of `nvreg.Settings`, or one that names the wanted mean prior weight in place of tau_alpha.

    Raises:
        ValueError: if a value is not allowed, or both are given, or both noise_share and tau_sigma.
    """

    parameters: ClassVar = {"prior_weight": PRIOR_WEIGHT, **Settings.parameters}

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        check_one_of(self, "prior_weight", "tau_alpha")
        check_one_of(self, "noise_share", "tau_sigma")

    @property
    def is_calibrated(self) -> bool:
        """Whether some tau_alpha is to be solved for."""
        return "prior_weight" in self.to_dict()


class NV(Method):
    """NV regularisation with the experiment's prior."""

    name = "nv"
    setting_type = NVSetting
    calibrated = frozenset({"prior_weight"})
    is_saved = True

    def attach_(self, model: PreTrainedModel, prior: Prior | None, sample: Sequence[Batch]) -> None:
        """Convert a model (see `Method.attach_`)."""
        from nvreg.models.convert import convert_

        assert prior is not None
        self._prior, self._sample = prior, sample
        convert_(model, prior)

    def set_(self, model: PreTrainedModel, setting: Setting) -> Settings:
        """Solve for the tau_alpha and tau_sigma that the setting leaves open, and set the model to them."""
        from nvreg.models.convert import current_settings, set_settings_

        assert isinstance(setting, NVSetting)
        settings = self._calibrated(model, setting) if setting.is_calibrated else _settings(setting)
        set_settings_(model, settings)
        return current_settings(model) if "noise_share" in settings.to_dict() else settings

    def detach_(self, model: PreTrainedModel) -> None:
        """Revert the conversion."""
        from nvreg.models.convert import revert_

        revert_(model)

    def strength(self, setting: Setting, record: Record) -> float:
        """Return the mean discarded share (docs/method.md, section 6)."""
        return record.strength

    def save(self, model: PreTrainedModel, path: Path, like: WeightFiles) -> None:
        """Save a converted model, which `nvreg.from_pretrained` loads as it is."""
        from nvreg.checkpoint import save_pretrained

        save_pretrained(model, path, like=like)

    def _calibrated(self, model: PreTrainedModel, setting: NVSetting) -> Settings:
        from nvreg.estimation.calibration import calibrate

        return calibrate(model, self._prior, self._sample, **setting.to_dict())


class NVGaussian(NV):
    """NV regularisation with the standard Gaussian prior, whatever the experiment's is (section 3)."""

    name = "nv-gaussian"

    def attach_(self, model: PreTrainedModel, prior: Prior | None, sample: Sequence[Batch]) -> None:
        """Convert a model (see `Method.attach_`)."""
        from nvreg.prior.artefact import Prior

        super().attach_(model, Prior.gaussian(model), sample)


class NVHeads(NV):
    """NV regularisation in the space of what heads compare and mix (section 9)."""

    name = "nv-heads"
    space = "heads"


class NVNoInterpolation(NV):
    """NV regularisation without M0, M1 and the ``log s`` terms of the logits (section 4)."""

    name = "nv-no-interpolation"
    is_saved = False

    def attach_(self, model: PreTrainedModel, prior: Prior | None, sample: Sequence[Batch]) -> None:
        """Convert a model (see `Method.attach_`)."""
        from nvreg.models.convert import convert_

        assert prior is not None
        self._prior, self._sample = prior, sample
        convert_(model, prior, interpolates=False)


class NVHeadsNoInterpolation(NVNoInterpolation):
    """NV regularisation in head space without G0, G1 and the ``log b`` terms of the logits (section 9)."""

    name = "nv-heads-no-interpolation"
    space = "heads"


def _settings(setting: NVSetting) -> Settings:
    return Settings.from_dict(setting.to_dict())
