"""Training the head on a frozen body."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from nvreg.errors import UserError
from nvreg.finetune.options import Options
from nvreg.finetune.regularisers.regulariser import Regulariser
from nvreg.identity import body_parameters


class HeadOnly(Regulariser[Options]):
    """Freezes the body; a pooler counts as head."""

    def __init__(self, model: PreTrainedModel, options: Options, seed: int) -> None:
        super().__init__(model, options, seed)
        self._frozen = [tensor for tensor in body_parameters(model).values() if tensor.requires_grad]
        for tensor in self._frozen:
            tensor.requires_grad_(False)
        self._trained = sum(tensor.numel() for tensor in model.parameters() if tensor.requires_grad)
        if not self._trained:
            self.detach_()
            raise UserError(
                "head-only: expected a model with parameters outside its body, got "
                f"{type(model).__name__}, of which the output layer is the embedding"
            )

    def detach_(self) -> None:
        """Let the body be trained again."""
        for tensor in self._frozen:
            tensor.requires_grad_(True)

    def describe(self) -> dict[str, Any]:
        """Return the number of parameters that were trained."""
        return {"trained_parameters": self._trained}
