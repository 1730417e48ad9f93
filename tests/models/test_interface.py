"""What Transformers' attention interface is told holds for NV attention: which implementation runs."""

import pytest

import nvreg
from tests.models.architectures import random_prior
from tests.models.running import converted, of

pytestmark = pytest.mark.usefixtures("no_gradients")

ANOTHER = r"expected attn_implementation 'sdpa' or 'eager', got 'flex_attention'; "


@of("llama")
def test_another_implementation_is_refused(architecture, plain):
    plain.config._attn_implementation = "flex_attention"
    with pytest.raises(nvreg.UserError, match=ANOTHER):
        nvreg.convert_(plain, random_prior(plain))


@of("bert to gpt2")
def test_another_implementation_in_one_half_is_refused(architecture, plain):
    plain.decoder.config._attn_implementation = "flex_attention"
    with pytest.raises(nvreg.UserError, match=ANOTHER):
        nvreg.convert_(plain, random_prior(plain))


@of("bart", "t5", "umt5", "bert", "distilbert", "opt", "llama", "gpt_neox")
def test_another_implementation_after_conversion_is_refused_when_it_runs(architecture, plain):
    model = converted(plain, nvreg.Settings(tau_alpha=0.5))
    inputs = architecture.inputs(model)
    model(**inputs)
    model.set_attn_implementation("flex_attention")
    with pytest.raises(nvreg.UserError, match=ANOTHER):
        model(**inputs)
