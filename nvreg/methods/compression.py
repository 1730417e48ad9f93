"""Controls that people apply anyway, to save memory or time: quantisation, pruning, layers left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PositiveInt

from nvreg.config import Section
from nvreg.errors import UserError
from nvreg.methods.method import Batch, Method
from nvreg.methods.model_weights import WeightMethod
from nvreg.parameters import Parameter, Setting

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.hooks import RemovableHandle
    from transformers import PreTrainedModel

    from nvreg.diagnostics import Record
    from nvreg.models.site import Site
    from nvreg.prior.artefact import Prior


class _Body(WeightMethod):
    """A method that writes to all matrices of the body: embeddings, norms, heads and routers stay."""

    space = None

    def check(self, model: PreTrainedModel) -> None:
        """Check that the weights are numbers (see `Method.check`)."""
        self._views(model)

    def _views(self, model: PreTrainedModel) -> list[Tensor]:
        from nvreg.models.weights import body_matrices

        return body_matrices(model)


class QuantiseSetting(Setting):
    """``bits`` of a weight."""

    parameters: ClassVar = {
        "bits": Parameter(
            16.0,
            "a whole number from 2 to 8, or 16, which leaves the weights as they are",
            lambda v: v in (*range(2, 9), 16),
            by_role=False,
            whole=True,
        )
    }


class QuantiseOptions(Section):
    """How quantise rounds."""

    group_size: PositiveInt | None = 128
    """Weights of a row that share a scale, or their greatest common divisor; null is the whole row."""


class Quantise(_Body):
    """Weights are rounded as torchao's weight-only quantisation does: a symmetric scale for each group.

    The model computes what a quantised checkpoint computes, in its own dtype and as much memory as before.

    Args:
        group_size: how many weights of a row share a scale: the greatest common divisor of this number and
            the length of the row, so never more; None for the whole row.
    """

    name = "quantise"
    setting_type = QuantiseSetting
    options = QuantiseOptions

    def __init__(self, group_size: int | None = 128) -> None:
        self._group_size = group_size

    @cached_property
    def fingerprint(self) -> str:
        """The method with the size of groups and the version of torchao.

        Raises:
            UserError: if torchao is not installed.
        """
        try:
            installed = ".".join(version("torchao").split(".")[:2])
        except PackageNotFoundError:
            raise UserError(
                "expected torchao, which method quantise rounds with, got none; "
                "pip install 'nvreg[quantise]' has it"
            ) from None
        return f"{self.name} group_size={self._group_size} torchao={installed}"

    def check(self, model: PreTrainedModel) -> None:
        """Check that the weights are numbers, and that torchao is there (see `Method.check`)."""
        super().check(model)
        _ = self.fingerprint

    def _changed(self, index: int, original: Tensor, setting: Setting) -> Tensor | None:
        import torch
        from torch import nn
        from torchao.quantization import IntxWeightOnlyConfig, PerGroup, quantize_

        bits = int(setting.value("bits"))
        if bits == 16:
            return None
        rows = (
            original.float() if original.dtype == torch.float64 else original
        )  # which torchao does not read
        row = rows.shape[-1]
        linear = nn.Linear(row, rows.numel() // row, bias=False, device="meta")
        linear.weight = nn.Parameter(rows.reshape(-1, row), requires_grad=False)
        layer = nn.Sequential(linear)
        group = PerGroup(math.gcd(self._group_size or row, row))
        quantize_(layer, IntxWeightOnlyConfig(getattr(torch, f"int{bits}"), group))
        return linear.weight.dequantize().view(original.shape)

    def strength(self, setting: Setting, record: Record) -> float:
        """Return the share of 16 bits that is left out."""
        return 1 - setting.value("bits") / 16


class PruneSetting(Setting):
    """``share`` of the weights that are set to zero."""

    parameters: ClassVar = {
        "share": Parameter(0.0, "a number from 0 to 1", lambda v: 0 <= v <= 1, by_role=False)
    }


class PruneOptions(Section):
    """Among which weights prune looks for the smallest."""

    scope: Literal["matrix", "model"] = "matrix"
    """The smallest of every matrix, or of all matrices together."""


class Prune(_Body):
    """The smallest weights are set to zero (magnitude pruning: Han et al., 2015, arXiv 1506.02626).

    Args:
        scope: ``matrix``, the smallest of every matrix by itself; ``model``, the smallest of all, which takes
            most from the matrices whose weights are small throughout.
    """

    name = "prune"
    setting_type = PruneSetting
    options = PruneOptions

    def __init__(self, scope: str = "matrix") -> None:
        self._scope = scope

    @property
    def fingerprint(self) -> str:
        """The method with its scope."""
        return f"{self.name} scope={self._scope}"

    def set_(self, model: PreTrainedModel, setting: Setting) -> None:
        """Write all weights anew, from the original ones."""
        import torch

        self._threshold: Tensor | None = None
        if self._scope == "model":
            everything = torch.cat([original.flatten() for _, original in self._weights])
            self._threshold = _smallest(everything, setting.value("share"))
        super().set_(model, setting)

    def _changed(self, index: int, original: Tensor, setting: Setting) -> Tensor | None:
        share = setting.value("share")
        if share == 0:
            return None
        threshold = _smallest(original, share) if self._threshold is None else self._threshold
        return original.where(original.abs() > threshold, 0)

    def strength(self, setting: Setting, record: Record) -> float:
        """Return the share."""
        return setting.value("share")


def _smallest(weights: Tensor, share: float) -> Tensor:
    """Return the size that a share of the weights does not exceed; below every size where that is none."""
    import torch

    sizes = weights.abs().flatten().to(torch.promote_types(weights.dtype, torch.float32))
    count = round(share * len(sizes))
    return sizes.kthvalue(count).values if count else sizes.new_tensor(-1.0)


class LayerSkipSetting(Setting):
    """How many layers are ``skipped``, of the encoder, the decoder, or of both each."""

    parameters: ClassVar = {
        "skipped": Parameter(
            0.0,
            "a whole number from 0 to 1e15",
            lambda v: 0 <= v <= 1e15 and v.is_integer(),
            whole=True,
            by_layer=False,
        )
    }

    def check(self, layers: Mapping[str, int]) -> None:
        """Check the setting against the number of layers of each role of a model.

        Raises:
            ValueError: if it names a role without layers of its own, or leaves out more than there are.
        """
        super().check(layers)
        written = self._values["skipped"]
        if isinstance(written, Mapping) and "cross" in written:
            raise ValueError(
                "skipped: expected encoder or decoder, got cross, which is in the decoder's layers"
            )
        for role, count in layers.items():
            if (skipped := self.value("skipped", role)) > count:
                raise ValueError(f"skipped: expected at most the {count} layers of {role}, got {skipped:g}")


class LayerSkipOptions(Section):
    """Which layers layer-skip leaves out."""

    place: Literal["middle", "top"] = "middle"
    """Those in the middle of the stack, or the last ones."""


class LayerSkip(Method):
    """Whole layers are left out: what goes into one comes out of it (Sajjad et al., 2023, arXiv 2004.03844).

    A layer that is left out runs all the same and its result is dropped, so that its cache, and what later
    layers take from it (T5's position biases), are there; no time is saved.

    Args:
        place: ``middle`` or ``top``.
    """

    name = "layer-skip"
    space = None
    setting_type = LayerSkipSetting
    options = LayerSkipOptions

    def __init__(self, place: str = "middle") -> None:
        self._place = place

    @property
    def fingerprint(self) -> str:
        """The method with the place."""
        return f"{self.name} place={self._place}"

    def attach_(self, model: PreTrainedModel, prior: Prior | None, sample: Sequence[Batch]) -> None:
        """Find the layers (see `Method.attach_`)."""
        from nvreg.models.registry import layers_by_role

        self._layers = layers_by_role(model)
        self._hooks: list[RemovableHandle] = []

    def set_(self, model: PreTrainedModel, setting: Setting) -> None:
        """Have some layers return what they are given."""
        from nvreg.models.registry import layer_modules

        setting.check(self._layers)
        self._remove_hooks()
        self._hooks = [
            module.register_forward_hook(_return_input, with_kwargs=True)
            for site, module in layer_modules(model).items()
            if site.role != "cross" and self._is_skipped(site, setting)
        ]

    def detach_(self, model: PreTrainedModel) -> None:
        """Have all layers return what they compute."""
        self._remove_hooks()

    def strength(self, setting: Setting, record: Record) -> float:
        """Return the share of attention sites that is left out."""
        return record.over_sites(lambda site: float(self._is_skipped(site, setting)))

    def _is_skipped(self, site: Site, setting: Setting) -> bool:
        role = "decoder" if site.role == "cross" else site.role
        count, skipped = self._layers[role], int(setting.value("skipped", role))
        first = count - skipped if self._place == "top" else (count - skipped) // 2
        return first <= site.layer < first + skipped

    def _remove_hooks(self) -> None:
        while self._hooks:
            self._hooks.pop().remove()


def _return_input(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Any:
    """Return a layer's output with the hidden states that it was given in place of its own."""
    given = args[0] if args else kwargs["hidden_states"]
    return (given, *output[1:]) if isinstance(output, tuple) else given
