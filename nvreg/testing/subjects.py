"""Tiny models with random weights that methods are tried on: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import Tensor
from transformers import AutoConfig, GenerationConfig

from nvreg.estimation.estimate import estimate_prior
from nvreg.methods.method import Batch
from nvreg.models.site import Space
from nvreg.prior.artefact import Prior

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PAD, BOS, EOS, VOCABULARY = 0, 1, 2, 40


class Subject:
    """A model that methods are tried on, and what it reads.

    Args:
        name: for messages.
        build: makes the model, with the same weights each time, in evaluation mode.
    """

    def __init__(self, name: str, build: Callable[[], PreTrainedModel]) -> None:
        self.name, self.build = name, build

    def __str__(self) -> str:
        return self.name

    @property
    def generates(self) -> bool:
        """Whether the model generates from what `inputs` returns."""
        return bool(self.build().can_generate())

    def inputs(self, model: PreTrainedModel) -> dict[str, Tensor]:
        """Return unpadded ids for the model's forward: three rows of seven tokens."""
        return self._with_decoder({"input_ids": _ids(3, 7)}, model)

    def padded(self) -> tuple[Batch, Sequence[Batch]]:
        """Return rows of 7, 4 and 2 tokens in a batch that is padded on the right, and each alone."""
        model, ids, lengths = self.build(), _ids(3, 7), (7, 4, 2)
        mask = (torch.arange(7) < torch.tensor(lengths)[:, None]).long()
        batch = self._with_decoder({"input_ids": ids.where(mask > 0, PAD), "attention_mask": mask}, model)
        alone = []
        for row, length in enumerate(lengths):
            single = {"input_ids": ids[row : row + 1, :length]}
            if "decoder_input_ids" in batch:
                single["decoder_input_ids"] = batch["decoder_input_ids"][row : row + 1]
            alone.append(single)
        return batch, alone

    def sample(self) -> Sequence[Batch]:
        """Return teacher-forced batches, as of in-domain training text."""
        batch, _ = self.padded()
        batch = dict(batch)
        if "decoder_input_ids" in batch:
            batch["labels"] = batch.pop("decoder_input_ids")
        return [batch]

    def prior(self, model: PreTrainedModel, space: Space) -> Prior:
        """Return a prior of an unconverted model, estimated on the sample."""
        return estimate_prior(model, self.sample(), space=space)

    def _with_decoder(self, batch: dict[str, Tensor], model: PreTrainedModel) -> dict[str, Tensor]:
        return batch | ({"decoder_input_ids": _ids(3, 5, 1)} if model.config.is_encoder_decoder else {})


def _tiny(model_type: str, model_class: str, **sizes: Any) -> Subject:
    """Return a model with random weights, width 16 and 4 heads in each of its layers, in float64."""

    def build() -> PreTrainedModel:
        special = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
        start: dict[str, Any] = {"decoder_start_token_id": BOS, "forced_eos_token_id": None}
        config = AutoConfig.for_model(model_type, vocab_size=VOCABULARY, **special, **start, **sizes)
        generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model: PreTrainedModel = getattr(transformers, model_class)(config).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                scale = 0.3 if parameter.ndim == 1 else 1.5 * parameter.shape[-1] ** -0.5
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        model.generation_config = GenerationConfig(**special, decoder_start_token_id=BOS)
        return model

    return Subject(model_type, build)


def _ids(rows: int, length: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(EOS + 1, VOCABULARY, (rows, length), generator=generator)


_BODY = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
}
SUBJECTS: Sequence[Subject] = (
    _tiny(
        "marian",
        "MarianMTModel",
        d_model=16,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        decoder_vocab_size=VOCABULARY,
        max_position_embeddings=64,
    ),
    _tiny("t5", "T5ForConditionalGeneration", d_model=16, d_kv=4, d_ff=24, num_layers=3, num_heads=4),
    _tiny("bert", "BertForMaskedLM", **_BODY),
    _tiny("gpt2", "GPT2LMHeadModel", n_embd=16, n_layer=4, n_head=4, n_positions=64),
    _tiny("llama", "LlamaForCausalLM", **_BODY, num_key_value_heads=2),
)
"""One tiny model of each form, with random weights."""
