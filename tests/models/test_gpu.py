"""Converted models on a GPU: what they run there, on fake tensors, and their numbers where there is one."""

from contextlib import ExitStack

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from nvreg.attention.fused import QueryMap
from nvreg.attention.settings import Settings
from nvreg.models.conversion import conversion_of
from nvreg.models.heads import HeadState
from nvreg.models.inputs import InputState
from nvreg.models.module import NVForward
from tests.fake_gpu import NothingReachesTheHost, on_fake_gpu, pretend_gpu
from tests.models.running import converted, of_every_layout, of_every_layout_but_quickly

pytestmark = pytest.mark.usefixtures("no_gradients")

SETTINGS = [Settings(tau_alpha=1.0), Settings(tau_alpha=1.0, tau_sigma=0.4, tau_mu=0.8)]


@pytest.fixture
def fake_gpu(monkeypatch):
    """Return how to move a converted model that has run, and inputs, to a GPU that is none."""
    pretend_gpu(monkeypatch)
    guard = NothingReachesTheHost()
    guard.watching = False  # outside of sites
    own = NVForward._forward_at

    def watched(module, state, *args, **kwargs):
        guard.watching = True
        try:
            return own(module, state, *args, **kwargs)
        finally:
            guard.watching = False

    monkeypatch.setattr(NVForward, "_forward_at", watched)
    with ExitStack() as modes:

        def move(model, dtype, inputs):
            monkeypatch.setattr(InputState, "refresh", lambda *_: None)  # all is prepared, of numbers
            monkeypatch.setattr(HeadState, "_make", lambda *_: None)
            places = [
                place
                for module in model.modules()
                for place in (module._parameters, module._buffers, vars(module))
            ]
            tensors = [
                (place, name, tensor)
                for place in places
                for name, tensor in place.items()
                if isinstance(tensor, torch.Tensor)
            ]
            states = list(conversion_of(model).states.values())
            prepared = [in_dtype(state._prepared, dtype) for state in states]
            distinct = {id(tensor): tensor for _, _, tensor in tensors}
            there, prepared, inputs = on_fake_gpu(modes, (distinct, prepared, inputs))
            for place, name, tensor in tensors:
                moved = there[id(tensor)]
                place[name] = nn.Parameter(moved, False) if isinstance(tensor, nn.Parameter) else moved
            for state, each in zip(states, prepared, strict=True):
                state._prepared = each
            modes.enter_context(guard)
            return inputs

        yield move


def in_dtype(prepared, dtype):
    """Return what is prepared for a site as it is on a GPU, where maps of queries have the model's dtype."""
    if isinstance(prepared, QueryMap):
        return QueryMap.of_dtype(prepared.weight.to(dtype), prepared.offset, dtype)
    if isinstance(prepared, tuple):
        return type(prepared)(*(in_dtype(each, dtype) for each in prepared))
    return prepared


def run(architecture, model, inputs):
    """Return the logits of inputs, and of one more token."""
    if not architecture.can_generate:
        return [model(**inputs).logits]
    first = model(**inputs, use_cache=True)
    ids = "decoder_input_ids" if architecture.is_encoder_decoder else "input_ids"
    rest = {ids: torch.ones_like(inputs[ids].narrow(1, 0, 1))}
    if architecture.is_encoder_decoder:
        rest["encoder_outputs"] = (first.encoder_last_hidden_state,)
    return [first.logits, model(**rest, past_key_values=first.past_key_values, use_cache=True).logits]


@pytest.mark.parametrize(
    "settings", [pytest.param(SETTINGS[0], marks=pytest.mark.slow), SETTINGS[1]], ids=str
)
@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, pytest.param(torch.float32, marks=pytest.mark.slow)], ids=str
)
@of_every_layout_but_quickly("llama", "qwen3")
def test_no_site_waits_for_a_gpu(architecture, fake_gpu, dtype, settings):
    if architecture.model_type == "deepseek_v3":
        pytest.skip("its own code calls what needs a build of PyTorch for GPUs")
    model = converted(architecture.build(dtype=dtype), settings)
    inputs = architecture.inputs(model)
    expected = run(architecture, model, inputs)
    inputs = fake_gpu(model, dtype, inputs)
    for logits, other in zip(run(architecture, model, inputs), expected, strict=True):
        assert (logits.shape, logits.dtype) == (other.shape, other.dtype)
        assert logits.device.type == "cuda"


@pytest.mark.gpu
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@of_every_layout
def test_a_model_on_a_gpu_is_the_one_in_float64(architecture, dtype, settings):
    model = converted(architecture.build(), settings)
    inputs = architecture.inputs(model)
    expected = run(architecture, model, inputs)
    there = {name: each.cuda() for name, each in inputs.items()}
    model.to("cuda", dtype)
    there = {name: each.to(dtype) if each.is_floating_point() else each for name, each in there.items()}
    tolerance = {torch.float32: 2e-3, torch.bfloat16: 0.15, torch.float16: 0.03}[dtype]
    for logits, other in zip(run(architecture, model, there), expected, strict=True):
        scale = float(other.abs().max())
        assert_close(logits.double().cpu(), other, rtol=0, atol=tolerance * scale)
