"""Outputs of an encoder, kept for the settings that leave the encoder as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedModel


class EncoderStates:
    """Outputs of an encoder by batch, up to a number of bytes.

    The first batches are kept. What does not fit beside them is run again each time: every setting meets the
    batches in the same order, so that to make room would be to lose each batch just before it comes again.

    Args:
        budget_bytes: most bytes of the tensors kept, on the model's device.

    Attributes:
        kept_bytes: how many bytes are taken.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.kept_bytes = 0
        self._budget = budget_bytes
        self._key: str | None = None
        self._kept: dict[bytes, Tensor] = {}

    def use(self, key: str) -> None:
        """Say which setting the encoder is at; what was kept at another is dropped."""
        if key != self._key:
            self._key, self.kept_bytes = key, 0
            self._kept.clear()

    def of(self, model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the encoder's last hidden states of a batch, shape (batch, tokens, width).

        Args:
            model: an encoder-decoder model, at the setting of the last `use`.
            inputs: ``input_ids`` and ``attention_mask``, as the encoder takes them.
        """
        name = _digest(inputs)
        if name in self._kept:
            return self._kept[name]
        states: Tensor = model.get_encoder()(**inputs).last_hidden_state
        size = states.element_size() * states.numel()
        if self.kept_bytes + size <= self._budget:
            self._kept[name] = states
            self.kept_bytes += size
        return states


def _digest(inputs: Mapping[str, Tensor]) -> bytes:
    digest = hashlib.sha256()
    for name, tensor in sorted(inputs.items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + tensor.cpu().numpy().tobytes())
    return digest.digest()
