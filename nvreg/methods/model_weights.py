"""Controls that change the model's weights: noise, low rank, and the mean with the pretrained checkpoint."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from nvreg.config import Section
from nvreg.config.sections import ModelPath
from nvreg.errors import UserError
from nvreg.methods.method import Batch, Method
from nvreg.parameters import Parameter, Setting

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from nvreg.diagnostics import Record
    from nvreg.prior.artefact import Prior


class WeightMethod(Method):
    """A method that writes to weights, and keeps the original ones beside them."""

    is_saved = True

    @abstractmethod
    def _views(self, model: PreTrainedModel) -> list[Tensor]:
        """Return what is written to."""

    @abstractmethod
    def _changed(self, index: int, original: Tensor, setting: Setting) -> Tensor | None:
        """Return what stands in place of a view's original, in float32 at least; None for itself."""

    def attach_(self, model: PreTrainedModel, prior: Prior | None, sample: Sequence[Batch]) -> None:
        """Keep the original weights (see `Method.attach_`)."""
        self._weights = [(view, view.detach().clone()) for view in self._views(model)]

    def set_(self, model: PreTrainedModel, setting: Setting) -> None:
        """Write all weights anew, from the original ones."""
        import torch

        from nvreg.models.registry import layers_by_role

        setting.check(layers_by_role(model))
        with torch.no_grad():
            for index, (view, original) in enumerate(self._weights):
                changed = self._changed(index, original, setting)
                view.copy_(original if changed is None else changed)

    def detach_(self, model: PreTrainedModel) -> None:
        """Write the original weights."""
        self.set_(model, self.setting_type.identity())
        del self._weights


class _AttentionWeights(WeightMethod):
    """A method that writes to some of each site's matrices, by role and layer."""

    matrices: ClassVar[tuple[str, ...]]

    def check(self, model: PreTrainedModel) -> None:
        """Check that the weights are numbers (see `Method.check`)."""
        self._views(model)

    def _views(self, model: PreTrainedModel) -> list[Tensor]:
        from nvreg.models.weights import attention_weights

        weights = attention_weights(model)
        self._sites = [site for site in weights for _ in self.matrices]
        return [getattr(each, matrix) for each in weights.values() for matrix in self.matrices]

    def _value(self, index: int, setting: Setting, parameter: str) -> float:
        site = self._sites[index]
        return setting.value(parameter, site.role, site.layer)


class WeightNoiseSetting(Setting):
    """``scale``: norm of the noise over the norm of the matrix; ``seed`` of the draw."""

    parameters: ClassVar = {
        "scale": Parameter(0.0, "a number from 0 to 1e15", lambda v: 0 <= v <= 1e15, logarithmic=True),
        "seed": Parameter(
            0,
            "a whole number from 0 to 1e15",
            lambda v: 0 <= v <= 1e15 and v.is_integer(),
            by_role=False,
            whole=True,
        ),
    }


class WeightNoise(_AttentionWeights):
    """Gaussian noise on key and value weights; a seed draws the same noise at every scale."""

    name = "weight-noise"
    setting_type = WeightNoiseSetting
    matched_to = "nv"
    matrices = ("key", "value")

    def _changed(self, index: int, original: Tensor, setting: Setting) -> Tensor | None:
        import numpy as np
        import torch

        scale = self._value(index, setting, "scale")
        if scale == 0:
            return None
        generator = np.random.default_rng((int(setting.value("seed")), index))
        noise = torch.from_numpy(generator.standard_normal(original.shape, np.float32)).to(original.device)
        wide = _wide(original)
        return wide + scale * wide.norm() / noise.norm() * noise

    def strength(self, setting: Setting, record: Record) -> float:
        """Return the mean scale over sites."""
        return record.over_sites(lambda site: setting.value("scale", site.role, site.layer))


class LowRankSetting(Setting):
    """``keep``: the fraction of singular values that stay, the largest ones."""

    parameters: ClassVar = {"keep": Parameter(1.0, "a number above 0, 1 at most", lambda v: 0 < v <= 1)}


class LowRank(_AttentionWeights):
    """Key, value and output projections of lower rank (LASER: Sharma et al., 2023, arXiv 2312.13558).

    Their singular vectors are kept from the first setting on, so that the others take milliseconds.
    """

    name = "low-rank"
    setting_type = LowRankSetting
    matrices = ("key", "value", "output")

    def attach_(self, model: PreTrainedModel, prior: Prior | None, sample: Sequence[Batch]) -> None:
        """Keep the original weights (see `Method.attach_`)."""
        super().attach_(model, prior, sample)
        self._decompositions: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def detach_(self, model: PreTrainedModel) -> None:
        """Write the original weights."""
        super().detach_(model)
        self._decompositions.clear()

    def _changed(self, index: int, original: Tensor, setting: Setting) -> Tensor | None:
        import torch

        keep = self._value(index, setting, "keep")
        if keep == 1:
            return None
        if index not in self._decompositions:
            self._decompositions[index] = torch.linalg.svd(_wide(original).flatten(1), full_matrices=False)
        left, values, right = self._decompositions[index]
        rank = math.ceil(keep * len(values))
        return ((left[:, :rank] * values[:rank]) @ right[:rank]).view(original.shape)

    def strength(self, setting: Setting, record: Record) -> float:
        """Return the mean over sites of the fraction that is left out."""
        return record.over_sites(lambda site: 1 - setting.value("keep", site.role, site.layer))


class WiseFTSetting(Setting):
    """``mix``: the share of the fine-tuned weights in the mean."""

    parameters: ClassVar = {
        "mix": Parameter(1.0, "a number from 0 to 1", lambda v: 0 <= v <= 1, by_role=False)
    }


class WiseFTOptions(Section):
    """What wise-ft needs."""

    pretrained: ModelPath
    """The checkpoint that the model was fine-tuned from, with any head: a directory or a name on the hub."""


class WiseFT(WeightMethod):
    """The mean of the fine-tuned body and the pretrained one (Wortsman et al., 2022, arXiv 2109.01903).

    The pretrained checkpoint is loaded once, for the fingerprint and for the first model it is attached to.

    Args:
        pretrained: directory or hub name of the checkpoint that the model was fine-tuned from; of any head.
    """

    name = "wise-ft"
    space = None
    setting_type = WiseFTSetting
    options = WiseFTOptions

    def __init__(self, pretrained: str) -> None:
        self._path = pretrained

    @cached_property
    def fingerprint(self) -> str:
        """The method with what is in the pretrained checkpoint."""
        from nvreg.digests import body_digest

        return f"{self.name} {body_digest(self._checkpoint)}"

    @cached_property
    def _checkpoint(self) -> PreTrainedModel:
        from nvreg.models.loading import load_model

        return load_model(self._path, device="cpu")

    def check(self, model: PreTrainedModel) -> None:
        """Check that both have the same weights but for their values (see `Method.check`)."""
        from nvreg.digests import body_parameters

        pretrained = self._checkpoint.base_model.state_dict()
        for name, parameter in body_parameters(model).items():
            got = tuple(pretrained[name].shape) if name in pretrained else "none"
            if got != tuple(parameter.shape):
                raise UserError(
                    f"pretrained: expected the checkpoint that the model was fine-tuned from, with {name} of "
                    f"shape {tuple(parameter.shape)}, got {got} in {self._path}"
                )

    def _views(self, model: PreTrainedModel) -> list[Tensor]:
        from nvreg.digests import body_parameters

        self.check(model)
        pretrained = self._checkpoint.base_model.state_dict()
        views = body_parameters(model)  # parameters themselves: NLLB-MoE's routers move theirs to float32
        self._pretrained = [pretrained[name].to(view.device) for name, view in views.items()]
        del self._checkpoint  # is loaded again for another model
        return list(views.values())

    def detach_(self, model: PreTrainedModel) -> None:
        """Write the fine-tuned weights."""
        super().detach_(model)
        del self._pretrained

    def _changed(self, index: int, original: Tensor, setting: Setting) -> Tensor | None:
        mix = setting.value("mix")
        if mix == 1:
            return None
        wide = _wide(original)
        return self._pretrained[index].to(wide).lerp(wide, mix)

    def strength(self, setting: Setting, record: Record) -> float:
        """Return the share of the pretrained weights."""
        return 1 - setting.value("mix")


def _wide(weight: Tensor) -> Tensor:
    import torch

    return weight.to(torch.promote_types(weight.dtype, torch.float32))
