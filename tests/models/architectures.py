"""Every supported architecture as a tiny model with random weights and random biases."""

from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoConfig, GenerationConfig, PreTrainedModel

import nvreg
from nvreg.attention.settings import Settings

VOCABULARY = 40
PAD, BOS, EOS = 0, 1, 2


@dataclass(frozen=True)
class Architecture:
    """A model type, in one of the variants that matter."""

    name: str
    model_type: str
    model_class: str
    config: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    @property
    def is_encoder_decoder(self) -> bool:
        return self.model_class.endswith(("ConditionalGeneration", "MTModel"))

    def build(
        self, *, seed: int = 0, dtype: torch.dtype = torch.float64, attention: str = "sdpa"
    ) -> PreTrainedModel:
        """Return the model in evaluation mode, with every weight and bias random."""
        ids = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS, "decoder_start_token_id": BOS}
        config = AutoConfig.for_model(self.model_type, vocab_size=VOCABULARY, **ids, **self.config)
        config._attn_implementation = attention
        torch.manual_seed(seed)
        model = getattr(transformers, self.model_class)(config).double().eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in (model._keys_to_ignore_on_save or ()):
                    continue  # computed, not learned
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise * (0.3 if parameter.ndim == 1 else 1.5 * parameter.shape[-1] ** -0.5))
        model.generation_config = GenerationConfig(**ids)
        return model.to(dtype)

    def inputs(self, model: PreTrainedModel, *, batch: int = 3, length: int = 7) -> dict[str, Tensor]:
        """Return unpadded ids for the model's forward."""
        ids = random_ids(batch, length)
        return (
            {"input_ids": ids, "decoder_input_ids": random_ids(batch, 5, seed=1)}
            if self.is_encoder_decoder
            else {"input_ids": ids}
        )


def random_ids(batch: int, length: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(EOS + 1, VOCABULARY, (batch, length), generator=generator)


def random_prior(model: PreTrainedModel, *, seed: int = 0) -> nvreg.Prior:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return nvreg.Prior(
        {
            site.name: nvreg.Moments(
                0.5 * normal(site.width),
                normal(site.width).square() + 0.1,
                normal(1).item() + 3,
                normal(1).abs().item() + 0.2,
            )
            for site in nvreg.sites(model)
        }
    )


def random_settings(model: PreTrainedModel) -> Settings:
    """Return settings that differ by layer and use every branch: mixed means, no prior, identity."""
    layers: dict[str, int] = {}
    for site in nvreg.sites(model):
        layers[site.role] = max(site.layer + 1, layers.get(site.role, 0))

    def cycle(values: list[float], shift: int) -> dict[str, list[float]]:
        return {
            role: [values[(layer + shift + number) % len(values)] for layer in range(count)]
            for number, (role, count) in enumerate(layers.items())
        }

    return Settings(
        tau_alpha=cycle([0.5, -2.0, float("inf")], 0),
        tau_sigma=cycle([0.4, 0.2, 0.7, 0.0], 0),
        tau_mu=cycle([0.8, 1.0], 0),
    )


_BART = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 64,
    "forced_eos_token_id": None,
}

ARCHITECTURES = [
    Architecture("bart", "bart", "BartForConditionalGeneration", _BART),
    Architecture("mbart", "mbart", "MBartForConditionalGeneration", _BART),
    Architecture("marian", "marian", "MarianMTModel", {**_BART, "decoder_vocab_size": VOCABULARY}),
    Architecture("pegasus", "pegasus", "PegasusForConditionalGeneration", _BART),
    Architecture("blenderbot", "blenderbot", "BlenderbotForConditionalGeneration", _BART),
    Architecture("blenderbot-small", "blenderbot-small", "BlenderbotSmallForConditionalGeneration", _BART),
    Architecture("m2m_100", "m2m_100", "M2M100ForConditionalGeneration", _BART),
    Architecture("plbart", "plbart", "PLBartForConditionalGeneration", _BART),
]
