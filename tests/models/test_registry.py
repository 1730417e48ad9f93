"""What is refused is refused in one line that says why."""

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

import nvreg
from nvreg.models.registry import REFUSED, adapter_for, adapters_by_class


@pytest.mark.parametrize("model_type", REFUSED)
def test_what_the_method_does_not_express_is_refused_with_the_reason(model_type):
    with pytest.raises(nvreg.UserError, match=f"{model_type} cannot be converted: .* ") as refusal:
        adapter_for(AutoConfig.for_model(model_type))
    assert REFUSED[model_type] in str(refusal.value)


def test_what_is_not_known_is_refused_with_what_is():
    with pytest.raises(nvreg.UserError, match=r"converts \(.*bert, .*t5, .*\), got 'albert'"):
        adapter_for(AutoConfig.for_model("albert"))


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
