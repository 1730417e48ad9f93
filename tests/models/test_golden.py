"""Agreement with the published implementation's numbers (tests/golden/README.md)."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import BartConfig, BartForConditionalGeneration, MarianConfig, MarianMTModel

import nvreg

FOLDER = Path(__file__).parents[1] / "golden"
NAMES = ("bart_d32_h4_l2", "marian_d32_h4_l2")
SETTINGS = ("mu_mix", "identity", "alpha_only", "sigma_only", "paper_readme", "strong")
PRIORS = ("empirical", "gaussian")
CLASSES = {"bart": (BartConfig, BartForConditionalGeneration), "marian": (MarianConfig, MarianMTModel)}
ROLES = {"encoder": "e", "cross": "c", "decoder": "d"}


class Golden:
    """One of the two reference models, with its numbers."""

    def __init__(self, name: str) -> None:
        self.description = json.loads((FOLDER / f"{name}.json").read_text())
        self.numbers = load_file(FOLDER / f"{name}.safetensors")
        self.weights = load_file(FOLDER / f"{name}.weights.safetensors")

    def model(self, attention: str = "sdpa") -> torch.nn.Module:
        config_class, model_class = CLASSES[self.description["kind"]]
        config = config_class(**self.description["config"])
        config._attn_implementation = attention
        model = model_class(config)
        missing, unexpected = model.load_state_dict(self.weights, strict=False)
        assert not unexpected
        assert all("embed_tokens" in name or "lm_head" in name for name in missing), missing
        model.tie_weights()
        return model.eval()

    def prior(self, model: torch.nn.Module) -> nvreg.Prior:
        def moments(site: nvreg.Site) -> nvreg.Moments:
            layer = 0 if site.role == "cross" else site.layer
            fields = ("mean", "var", "log_alpha_mean", "log_alpha_std")
            mean, var, *log_alpha = (self.numbers[f"prior.{site.role}.{field}"][layer] for field in fields)
            return nvreg.Moments(mean.flatten(), var.flatten(), *(value.item() for value in log_alpha))

        return nvreg.Prior({site.name: moments(site) for site in nvreg.sites(model)})

    def settings(self, name: str) -> nvreg.Settings:
        taus = self.description["taus"][name]
        return nvreg.Settings(
            tau_alpha={role: taus[f"alpha_{short}"] for role, short in ROLES.items()},
            tau_sigma={role: taus[f"sigma_{short}"] for role, short in ROLES.items()},
            tau_mu=taus.get("mu", 1),
        )

    def inputs(self) -> dict[str, torch.Tensor]:
        return {name: self.numbers[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}

    def generate(self, model: torch.nn.Module, num_beams: int) -> torch.Tensor:
        inputs = {name: self.numbers[name] for name in ("input_ids", "attention_mask")}
        length = {"min_new_tokens": 10, "max_new_tokens": 10}
        return model.generate(**inputs, **length, num_beams=num_beams, do_sample=False)


@pytest.fixture(params=NAMES)
def golden(request):
    return Golden(request.param)


def converted(golden: Golden, prior: str, setting: str, attention: str = "sdpa") -> torch.nn.Module:
    model = golden.model(attention)
    moments = golden.prior(model) if prior == "empirical" else nvreg.Prior.gaussian(model)
    return nvreg.convert_(model, moments, golden.settings(setting))


@torch.no_grad()
def test_the_pretrained_model_is_the_published_one(golden):
    model = golden.model()
    torch.testing.assert_close(
        model(**golden.inputs()).logits, golden.numbers["base.logits"], rtol=0, atol=2e-5
    )
    assert golden.generate(model, 3).tolist() == golden.numbers["base.beam3"].tolist()


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("setting", SETTINGS)
@torch.no_grad()
def test_logits_and_generated_ids(golden, prior, setting):
    model = converted(golden, prior, setting)
    outputs = model(**golden.inputs())
    expected = golden.numbers
    case = f"{setting}.{prior}"
    torch.testing.assert_close(outputs.logits, expected[f"{case}.logits"], rtol=0, atol=2e-5)
    if (encoder := expected.get(f"{case}.encoder_last_hidden_state")) is not None:
        real = golden.numbers["attention_mask"].bool()
        torch.testing.assert_close(outputs.encoder_last_hidden_state[real], encoder[real], rtol=0, atol=2e-5)
    assert golden.generate(model, 1).tolist() == expected[f"{case}.greedy"].tolist()
    assert golden.generate(model, 3).tolist() == expected[f"{case}.beam3"].tolist()


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("setting", SETTINGS)
@torch.no_grad()
def test_attention_maps(golden, prior, setting):
    model = converted(golden, prior, setting, attention="eager")
    outputs = model(**golden.inputs(), output_attentions=True)
    torch.testing.assert_close(outputs.logits, golden.numbers[f"{setting}.{prior}.logits"], rtol=0, atol=2e-5)
    maps = {
        "encoder": outputs.encoder_attentions,
        "decoder": outputs.decoder_attentions,
        "cross": outputs.cross_attentions,
    }
    for role, attentions in maps.items():
        expected = golden.numbers[f"{setting}.{prior}.attn.{role}.1"]
        torch.testing.assert_close(attentions[1], expected, rtol=0, atol=1e-5)
