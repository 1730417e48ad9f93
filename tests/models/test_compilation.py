"""Converted models under torch.compile and torch.export."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.testing import assert_close

import nvreg
from nvreg.attention.settings import Settings
from tests.models.architectures import random_ids, random_settings
from tests.models.running import EXACT, FLOAT32, converted, generate, of, of_every_layout_but_quickly

pytestmark = pytest.mark.usefixtures("no_gradients")


@of_every_layout_but_quickly("distilbert")
def test_a_compiled_model_is_the_same_and_follows_settings(architecture, model, compiled):
    inputs = architecture.inputs(model)
    model_compiled = compiled(model)
    for settings in (random_settings(model), Settings(tau_alpha=2.0), Settings()):
        nvreg.set_settings_(model, settings)
        assert_close(model_compiled(**inputs).logits, model(**inputs).logits, **EXACT)


@pytest.mark.parametrize("change", [pytest.param("dtype", marks=pytest.mark.slow), "weights"])
@of("distilbert")
def test_a_compiled_model_follows_its_weights(architecture, model, compiled, change):
    inputs = architecture.inputs(model)
    model_compiled = compiled(model, whole=False)
    model_compiled(**inputs)
    other = architecture.build(seed=1)
    if change == "dtype":
        model.float()
        expected = converted(architecture.build(dtype=torch.float32))
    else:
        model.load_state_dict(other.state_dict())
        expected = converted(other)
    for _ in range(2):
        assert_close(model_compiled(**inputs).logits, expected(**inputs).logits)


@pytest.mark.slow
@of("bart", "gpt2", "llama")
def test_generated_code_is_the_same(architecture):
    torch._dynamo.reset()
    model = converted(architecture.build(dtype=torch.float32))
    inputs = architecture.inputs(model)
    logits = torch.compile(model, fullgraph=True)(**inputs).logits
    assert_close(logits, model(**inputs).logits, **FLOAT32)


@pytest.mark.parametrize("tau_sigma", [pytest.param(0.0, marks=pytest.mark.slow), 0.4])
@of("llama", slow=("gpt2", "bart", "t5", "qwen3"))
def test_decoding_with_a_static_cache_is_compiled_once(architecture, tau_sigma):
    model = converted(architecture.build(), Settings(tau_alpha=1.0, tau_sigma=tau_sigma))
    inputs, length = architecture.inputs(model), {"max_new_tokens": 6, "min_new_tokens": 6}
    expected = generate(model, inputs, **length)
    torch._dynamo.reset()
    counter = CompileCounter()
    model.forward = torch.compile(model.forward, backend=counter, fullgraph=True, dynamic=False)
    assert generate(model, inputs, cache_implementation="static", **length) == expected
    assert counter.frame_count == 2  # the prompt, and every other token


@of_every_layout_but_quickly("distilbert", "gpt2")
def test_an_exported_program_is_the_same_for_any_batch(architecture, model):
    without_cache = {"use_cache": False} if architecture.can_generate else {}
    inputs = architecture.inputs(model)
    sizes = {name: {0: torch.export.Dim("batch", min=2, max=8)} for name in inputs}
    program = torch.export.export(
        model,
        (),
        {**inputs, **without_cache},
        dynamic_shapes={**sizes, **dict.fromkeys(without_cache)},
        strict=False,
    )
    other = architecture.inputs(model, batch=5)
    if architecture.is_encoder_decoder:
        other["decoder_input_ids"] = random_ids(5, 5)
    assert_close(program.module()(**other, **without_cache).logits, model(**other).logits, **EXACT)
