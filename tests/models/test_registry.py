"""What is refused is refused in one line that says why."""

import pytest
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel
from transformers.models.llama.modeling_llama import LlamaAttention

import nvreg
from nvreg.models.convert import current_settings
from nvreg.models.registry import (
    REFUSED,
    adapter_for,
    adapters_by_class,
    layouts,
    refused_options,
    supported_model_types,
)
from tests.models.architectures import ARCHITECTURES
from tests.models.running import of


@pytest.mark.parametrize("model_type", REFUSED)
def test_what_the_method_does_not_express_is_refused_with_the_reason(model_type):
    with pytest.raises(
        nvreg.UserError, match=f"got '{model_type}', which cannot be converted: .* "
    ) as refusal:
        adapter_for(AutoConfig.for_model(model_type))
    assert REFUSED[model_type] in str(refusal.value)


def test_what_is_not_known_is_refused_with_what_is():
    with pytest.raises(nvreg.UserError, match=r"converts \(.*bert, .*t5, .*\), got 'xlnet'"):
        adapter_for(AutoConfig.for_model("xlnet"))


def test_a_model_that_its_file_calls_otherwise_is_what_its_config_is(tmp_path):
    config = GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=10, bos_token_id=1, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    written = tmp_path / "config.json"
    written.write_text(written.read_text().replace('"model_type": "gpt2"', '"model_type": "gpt-sw3"'))
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.config.model_type == "gpt-sw3"
    settings = nvreg.Settings(tau_sigma=0.2)
    nvreg.convert_(model, nvreg.Prior.gaussian(model), settings)
    nvreg.save_pretrained(model, tmp_path / "saved")  # the file now says gpt2
    assert current_settings(nvreg.from_pretrained(tmp_path / "saved")) == current_settings(model)


def test_both_halves_of_an_encoder_decoder_model_must_be_known():
    halves = {"encoder": {"model_type": "bert"}, "decoder": {"model_type": "xlnet"}}
    with pytest.raises(nvreg.UserError, match="got 'xlnet'"):
        adapters_by_class(AutoConfig.for_model("encoder-decoder", **halves))


@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_cross_attention_without_its_encoder_is_refused(model_type):
    config = AutoConfig.for_model(
        model_type,
        is_decoder=True,
        add_cross_attention=True,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(nvreg.UserError, match=r"expected the encoder with the decoder, got .*LMHeadModel"):
        nvreg.sites(model)


def test_layers_are_counted_from_0_within_their_role(architecture, plain):
    by_role = {}
    for site in nvreg.sites(plain):
        by_role.setdefault(site.role, []).append(site.layer)
    assert all(layers == list(range(len(layers))) for layers in by_role.values())


class OwnAttention(LlamaAttention):
    """As research code changes it."""


class Namesake(nn.Module):
    """As remote code writes it anew."""


Namesake.__name__ = Namesake.__qualname__ = "LlamaAttention"


@pytest.mark.parametrize(
    ("replaced", "attention", "message"),
    [
        ([1], OwnAttention, r"own attention at 'layers.1.self_attn', got OwnAttention of .*test_registry, "),
        ([0, 1, 2], OwnAttention, "own attention at 'layers.0.self_attn', got OwnAttention"),
        ([2], Namesake, r"own attention at 'layers.2.self_attn', got LlamaAttention of .*test_registry, "),
        (
            [0],
            nn.Identity,
            "decoder attention of Transformers' own in every layer of 'layers', found none in layer 0; ",
        ),
        (
            [1, 2],
            nn.Identity,
            "decoder attention of Transformers' own in every layer of 'layers', found none in layer 1, 2; ",
        ),
        ([0, 1, 2], nn.Identity, r"own attention \(LlamaAttention\) in the model, got LlamaForCausalLM"),
    ],
    ids=["one subclass", "subclasses", "namesake", "first missing", "last missing", "all missing"],
)
@of("llama")
def test_attention_that_is_not_transformers_own_is_refused_not_skipped(plain, replaced, attention, message):
    for layer in replaced:
        plain.model.layers[layer].self_attn.__class__ = attention
    with pytest.raises(nvreg.UserError, match=message):
        nvreg.sites(plain)


@pytest.mark.parametrize(
    ("model_type", "option", "value"),
    [
        ("olmo", "clip_qkv", 8.0),
        ("olmo", "clip_qkv", 0.0),
        ("phi", "qk_layernorm", True),
        ("stablelm", "qk_layernorm", True),
        ("cohere", "use_qk_norm", True),
        ("glm4_moe", "use_qk_norm", True),
        ("mvp", "use_prompt", True),
    ],
)
def test_an_option_that_the_method_does_not_express_is_refused_by_name(model_type, option, value):
    assert adapter_for(AutoConfig.for_model(model_type))
    with pytest.raises(nvreg.UserError, match=rf"this {model_type} cannot be converted: .* \({option}\)"):
        adapter_for(AutoConfig.for_model(model_type, **{option: value}))


def test_every_supported_model_type_is_of_a_layout_and_keeps_the_contract():
    listed = [model_type for model_types in layouts().values() for model_type in model_types]
    assert sorted(listed) == supported_model_types()
    assert set(listed) <= {architecture.model_type for architecture in ARCHITECTURES}


def test_every_option_that_is_refused_is_listed():
    assert {
        ("olmo", "clip_qkv"),
        ("phi", "qk_layernorm"),
        ("stablelm", "qk_layernorm"),
        ("cohere", "use_qk_norm"),
        ("glm4_moe", "use_qk_norm"),
        ("mvp", "use_prompt"),
    } <= set(refused_options())
