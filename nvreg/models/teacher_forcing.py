"""Teacher-forced batches: how they are padded, which tokens are real, and a run for what attention reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from nvreg.compat import device_of_hook
from nvreg.errors import UserError
from nvreg.models import IGNORED
from nvreg.models.cache import without_cache

# --- padding --------------------------------------------------------------------------------------


def is_token(config: PreTrainedConfig, token: int | None, *, decoder: bool = False) -> bool:
    """Whether a model has a vector for a token.

    Args:
        config: the model's.
        token: its number.
        decoder: ask the decoder of a model whose halves have a vocabulary each.
    """
    whole: Any = config
    if config.model_type == "encoder-decoder":
        whole = whole.decoder if decoder else whole.encoder
    return token is not None and 0 <= token < whole.get_text_config().vocab_size


def padding_token(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return what a model's inputs are padded with: the tokenizer's own, or another that the model has.

    Padding is masked, so that any token serves. One that was added to the tokenizer alone would not: the
    model has no vector for it.
    """
    for token in (tokenizer.pad_token_id, getattr(config, "pad_token_id", None)):
        if token is not None and is_token(config, token):
            return token
    return 0


def check_vocabulary(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a model has a vector for every token of a vocabulary, those added to it left out.

    Raises:
        UserError: if it has not, as the tokenizer is another model's.
    """
    if not is_token(config, tokenizer.vocab_size - 1):
        known: Any = config.encoder if config.model_type == "encoder-decoder" else config
        place = f" in {tokenizer.name_or_path}" if tokenizer.name_or_path else ""  # none: made in memory
        raise UserError(
            f"expected a tokenizer of at most the model's {known.get_text_config().vocab_size} tokens "
            f"(vocab_size), got one of {tokenizer.vocab_size}{place}; put the model's tokenizer back"
        )


def decoder_inputs(model: PreTrainedModel, labels: Tensor) -> Tensor:
    """Return what a decoder reads to predict its labels, [rows, positions], shifted as the model does it."""
    pad = model.config.pad_token_id
    if not is_token(model.config, pad, decoder=True):
        pad = 0
    labels = labels.masked_fill(labels == IGNORED, pad)
    shift: Callable[[Tensor], Tensor] | None = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if shift is not None:
        return shift(labels)
    start = torch.full_like(labels[:, :1], model.config.decoder_start_token_id)
    return torch.cat([start, labels[:, :-1]], dim=1)


# --- which tokens are real ------------------------------------------------------------------------


def key_masks(model: PreTrainedModel, batch: Mapping[str, Any]) -> dict[str, Tensor | None]:
    """Return, by role, which keys are not padding: bool, shape (batch, keys) (docs/method.md, section 7).

    Keys of cross-attention are the encoder's tokens. A decoder's are the label positions that are not
    padding: those it really reads. None stands for all keys of an encoder that reads no tokens: how many it
    makes of sound, say, is known when it has run.
    """
    inputs = tokens_given(model, batch)
    if not model.config.is_encoder_decoder:
        return {"encoder": inputs, "decoder": inputs}
    return {"encoder": inputs, "cross": inputs, "decoder": _decoder_tokens(batch)}


def query_masks(model: PreTrainedModel, batch: Mapping[str, Any]) -> dict[str, Tensor | None]:
    """Return, by role, which queries are not padding: bool, shape (batch, queries), or None for all."""
    masks = key_masks(model, batch)
    return {**masks, "cross": masks["decoder"]} if "cross" in masks else masks


def tokens_given(model: nn.Module, batch: Mapping[str, Any]) -> Tensor | None:
    """Return which tokens a model or its encoder reads are not padding, as `key_masks` does."""
    if getattr(model, "main_input_name", "input_ids") != "input_ids" and "input_ids" not in batch:
        return None  # a mask may be one of what the tokens are made of
    return _given(batch, "")


def _given(batch: Mapping[str, Any], prefix: str) -> Tensor | None:
    mask, ids, vectors = (
        batch.get(prefix + name) for name in ("attention_mask", "input_ids", "inputs_embeds")
    )
    if mask is not None:
        return mask.bool()
    tokens = ids if vectors is None else vectors[..., 0]
    return None if tokens is None else torch.ones_like(tokens, dtype=torch.bool)


def _decoder_tokens(batch: Mapping[str, Any]) -> Tensor | None:
    if "labels" in batch and "decoder_attention_mask" not in batch:
        return batch["labels"] != IGNORED
    return _given(batch, "decoder_")


class RealTokens(NamedTuple):
    """The tokens of a batch that are not padding, as a device picks them without being asked.

    Attributes:
        places: their numbers among all tokens, row after row; None: all tokens are.
        shape: how many rows there are, and tokens in each, padding too.
        longest: how many real ones the row has that has the most.
    """

    places: Tensor | None = None
    shape: tuple[int, ...] = ()
    longest: int = 0

    @classmethod
    def marked(cls, mask: Tensor | None, device: torch.device) -> RealTokens:
        """Return those that a mask marks, for a device; where the mask is on the CPU, nobody waits.

        Args:
            mask: bool, shape (batch, tokens), or None for all.
            device: where most of what they are picked from is.
        """
        if mask is None:
            return cls()
        places = to_device(mask.flatten().nonzero()[:, 0], device)
        return cls(places, tuple(mask.shape), int(mask.sum(-1).max()))

    def of(self, tensor: Tensor) -> Tensor:
        """Return what a tensor (batch, tokens, ...) holds of them, shape (real tokens, ...).

        Raises:
            IndexError: if it has other rows and tokens than the mask.
        """
        if self.places is None:
            return tensor.flatten(0, 1)
        if tensor.shape[:2] != self.shape:
            raise IndexError(f"expected rows and tokens {self.shape}, got {tuple(tensor.shape[:2])}")
        return tensor.flatten(0, 1).index_select(0, self.places.to(tensor.device))


def real_tokens(model: PreTrainedModel, masks: Mapping[str, Tensor | None]) -> dict[str, RealTokens]:
    """Return the tokens that masks mark by role, of `key_masks` or `query_masks`, for a model's device."""
    device = device_of(model)
    return {role: RealTokens.marked(mask, device) for role, mask in masks.items()}


def device_of(model: PreTrainedModel) -> torch.device:
    """Return the device that a model reads its inputs on, whose weights accelerate may have offloaded."""
    if model.device.type != "meta":
        return model.device
    devices = map(device_of_hook, model.modules())
    return torch.device(next((device for device in devices if device is not None), model.device))


def on_device(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a batch on the device that a model reads its inputs on.

    A GPU gets it while it computes what it was given before: nobody waits for either.
    """
    device = device_of(model)
    return {name: to_device(tensor, device) for name, tensor in batch.items()}


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device, without waiting for it."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def in_float64(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, on the CPU where its device has no such numbers."""
    return (tensor if tensor.device.type in ("cpu", "cuda") else tensor.cpu()).double()


def numbers_in(scalars: Sequence[Tensor]) -> list[float]:
    """Return the numbers in some scalars, for which a device is waited for once, not once for each."""
    wide = [in_float64(each) for each in scalars]
    return torch.stack([each.to(wide[0].device) for each in wide]).tolist() if wide else []


# --- a run ----------------------------------------------------------------------------------------


def run_body(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> None:
    """Run a model without what its attention does not need: a loss, a cache, logits of all positions.

    Args:
        model: whose hooks and observers see the run.
        batch: as `estimate_prior` takes them, on the model's device.
    """
    inputs = dict(batch)
    labels = inputs.pop("labels", None)
    is_fed = "decoder_input_ids" in inputs or not model.config.is_encoder_decoder
    if labels is not None and labels.ndim > 1 and not is_fed:
        inputs["decoder_input_ids"] = decoder_inputs(model, labels)
        inputs.setdefault("decoder_attention_mask", (labels != IGNORED).long())
    with ExitStack() as stack:
        if head := model.get_output_embeddings():
            hook = head.register_forward_pre_hook(lambda _, hidden: (hidden[0][:, :1],))
            stack.callback(hook.remove)
        model(**inputs, **without_cache(model))
