"""Multi-view compressed representations (Liu et al., 2023): reconstructions in place of hidden states."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from nvreg.errors import UserError
from nvreg.finetune.regularisers.regulariser import Options, Regulariser

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

NAME = "mvcr"
"""Name of the module that holds the autoencoders while the model is trained."""

_FEED_FORWARD = (
    "output.dense",
    "ffn.lin2",
    "mlp.c_proj",
    "mlp.fc_out",
    "mlp.fc2",
    "mlp.down_proj",
    "mlp.dense_4h_to_h",
    "fc2",
    "layer.1.DenseReluDense.wo",
    "mlp",
    "block_sparse_moe",
)
"""Names of the last projection of a feed-forward block, or else of a mixture of experts, in a layer."""


class MVCROptions(Options):
    """The options of multi-view compressed representations."""

    widths: Annotated[list[PositiveInt], Field(min_length=1)] | None = None
    """Widths of the autoencoders; by default 1/6, 1/3 and 2/3 of the hidden size: 128, 256, 512 of 768."""

    layers: Annotated[list[NonNegativeInt], Field(min_length=1)] | None = None
    """Layers from 0, in the encoder where there is one; by default 1 and 11 of 12, or the same fractions."""

    position: Literal["feed-forward", "layer"] = "feed-forward"
    """Whether the states are the feed-forward output or that of the whole layer."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Dropout rate of the autoencoders' codes."""

    noise: NonNegativeFloat = 0.002
    """Standard deviation of the noise that is added to the states first."""

    reconstruction_rate: PositiveFloat = 50.0
    """Learning rate of the reconstruction loss, as a multiple of the model's."""

    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.04
    """Share of the training steps in which only the autoencoders learn."""


class MVCR(Regulariser[MVCROptions]):
    """Passes hidden states of some layers through autoencoders while the model is trained.

    The task's loss trains model and autoencoders by the Trainer's optimiser; the reconstruction loss trains
    the autoencoders alone, by an AdamW of their own at a multiple of the same learning rate.
    """

    options_class = MVCROptions

    def __init__(self, model: PreTrainedModel, options: MVCROptions, seed: int) -> None:
        import torch
        from torch import nn

        from nvreg.finetune.autoencoders import Views
        from nvreg.finetune.dropout import layers_kept

        super().__init__(model, options, seed)
        body: Any = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
        size = body.config.hidden_size
        self._widths = options.widths or [size // 6, size // 3, 2 * size // 3]
        if min(self._widths) < 2 or max(self._widths) >= size:
            raise UserError(
                f"regulariser.widths: expected widths from 2 to below the hidden size {size}, "
                f"got {self._widths}"
            )
        layers = next(module for module in body.modules() if isinstance(module, nn.ModuleList))
        self._layers = _chosen(options.layers, len(layers))
        self._views = [Views(size, self._widths, options.dropout, options.noise) for _ in self._layers]
        self._plain = [tensor for tensor in model.parameters() if tensor.requires_grad]
        self._mask: Tensor | None = None
        self._kept = ExitStack()
        self._kept.enter_context(layers_kept(model))  # a layer that is left out has no hidden states
        self._hooks = [model.register_forward_pre_hook(self._note_mask, with_kwargs=True)]
        for layer, views in zip(self._layers, self._views, strict=True):
            self._insert(layers[layer], views)
        model.add_module(NAME, nn.ModuleList(self._views).to(model.device))
        own = model.get_submodule(NAME).parameters()
        self._optimiser = torch.optim.AdamW(own, weight_decay=0.0)

    def detach_(self) -> None:
        """Remove the autoencoders."""
        self._kept.close()
        for hook in self._hooks:
            hook.remove()
        delattr(self.model, NAME)
        self._freeze(False)

    def describe(self) -> dict[str, Any]:
        """Return layers and widths, whether given or not."""
        return {"layers": self._layers, "widths": self._widths}

    def state(self) -> dict[str, Any]:
        """Return the state of the autoencoders' optimiser."""
        return self._optimiser.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with the autoencoders' optimiser."""
        self._optimiser.load_state_dict(state)

    def before_step(self, step: int, steps: int) -> None:
        """Train nothing but the autoencoders in the warm-up."""
        self._freeze(self._is_warm_up(step, steps))

    def after_update(self, learning_rate: float) -> None:
        """Train the autoencoders to reconstruct the hidden states of this step."""
        import torch

        for group in self._optimiser.param_groups:
            group["lr"] = self.options.reconstruction_rate * learning_rate
        self._optimiser.zero_grad()
        torch.stack([views.reconstruction_loss() for views in self._views]).sum().backward()
        self._optimiser.step()
        self._optimiser.zero_grad()

    def validates(self, step: int, steps: int) -> bool:
        """Let no epoch of the warm-up count as one without a better score."""
        return not self._is_warm_up(step, steps)

    def _is_warm_up(self, step: int, steps: int) -> bool:
        return step < self.options.warm_up * steps

    def _freeze(self, frozen: bool) -> None:
        for tensor in self._plain:
            tensor.requires_grad_(not frozen)

    def _note_mask(self, model: nn.Module, args: Any, inputs: dict[str, Tensor]) -> None:
        if model.training:
            given = inputs.get("attention_mask")
            self._mask = inputs["input_ids"].new_ones(inputs["input_ids"].shape) if given is None else given

    def _insert(self, layer: nn.Module, views: nn.Module) -> None:
        if self.options.position == "layer":
            self._hooks.append(layer.register_forward_hook(self._after_layer(views)))
            return
        projection = _feed_forward(layer)
        rate = self._rate_after(projection)
        self._hooks.append(projection.register_forward_hook(self._after_projection(views, rate)))

    def _rate_after(self, projection: nn.Module) -> float:
        """Return the model's own dropout rate after a projection."""
        from nvreg.finetune.dropout import get_rate, sites_fed_by

        fed = sites_fed_by(self.model, next(projection.parameters()))
        sites = [site for site in fed if "activation" not in site]  # which drops what the projection reads
        return get_rate(self.model, sites[-1]) if sites else 0.0

    def _after_layer(self, views: nn.Module) -> Any:
        def replace(layer: nn.Module, _: Any, output: Any) -> Any:
            if not layer.training:
                return output
            if isinstance(output, tuple):
                return (views(output[0], self._mask), *output[1:])
            return views(output, self._mask)

        return replace

    def _after_projection(self, views: nn.Module, rate: float) -> Any:
        from torch.nn import functional as F

        def replace(projection: nn.Module, _: Any, output: Tensor) -> Tensor | None:
            if not projection.training or self._mask is None:
                return None
            # The model's own dropout comes second, after the autoencoders.
            states = F.dropout(output, rate).view(*self._mask.shape, -1)
            replaced: Tensor = views(states, self._mask).view_as(output)
            return replaced

        return replace


def _chosen(given: list[int] | None, depth: int) -> list[int]:
    layers = given if given is not None else [round(layer * (depth - 1) / 11) for layer in (1, 11)]
    if beyond := [layer for layer in layers if layer >= depth]:
        raise UserError(f"regulariser.layers: expected layers from 0 to {depth - 1}, got {beyond[0]}")
    return sorted(set(layers))


def _feed_forward(layer: nn.Module) -> nn.Module:
    for name in _FEED_FORWARD:
        try:
            return layer.get_submodule(name)
        except AttributeError:
            continue
    raise UserError(
        f"regulariser.position: expected layer, as the feed-forward output of {type(layer).__name__} is not "
        "known, got feed-forward"
    )
