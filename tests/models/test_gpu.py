"""Converted models on a GPU: what they run there, on fake tensors, and their numbers where there is one."""

from contextlib import ExitStack

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import EncoderDecoderCache, StaticCache

from nvreg.attention.fused import QueryMap
from nvreg.attention.settings import Settings
from nvreg.models.conversion import conversion_of
from nvreg.models.heads import HeadState
from nvreg.models.inputs import InputState
from nvreg.models.module import NVForward
from tests.fake_gpu import NothingReachesTheHost, on_fake_gpu, pretend_gpu
from tests.models.architectures import random_ids
from tests.models.running import converted, of, of_every_layout, of_every_layout_but_quickly

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
        before, guard.watching = guard.watching, True
        try:
            return own(module, state, *args, **kwargs)
        finally:
            guard.watching = before

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

        move.guard = guard
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


ROOM = 12
"""How many tokens a static cache holds."""


def decoder(model, ids):
    """Read a prompt; return what decodes a token with a static cache, which knows its place on the GPU."""
    config = model.config.get_text_config(decoder=True)
    cache = StaticCache(config=config, max_cache_len=ROOM)
    if not model.config.is_encoder_decoder:
        model(input_ids=ids, past_key_values=cache)
        return lambda token: model(input_ids=token, past_key_values=cache).logits
    read = StaticCache(config=config, max_cache_len=ids.shape[1])
    options = {
        "encoder_outputs": model.get_encoder()(input_ids=ids),
        "past_key_values": EncoderDecoderCache(cache, read),
        "decoder_attention_mask": torch.ones_like(ids[:, :1]).expand(-1, ROOM),  # or BART asks for the place
    }
    model(decoder_input_ids=ids, **options)
    return lambda token: model(decoder_input_ids=token, **options).logits


@pytest.mark.parametrize("tau_sigma", [pytest.param(0.0, marks=pytest.mark.slow), 0.4])
@of("llama", "qwen3", slow=("gpt2", "t5", "bart", "t5 heads", "olmo2"))
def test_decoding_with_a_static_cache_never_waits_for_a_gpu(architecture, fake_gpu, tau_sigma):
    dtype = torch.bfloat16
    model = converted(architecture.build(dtype=dtype), Settings(tau_alpha=1.0, tau_sigma=tau_sigma))
    ids = random_ids(2, 5)
    decoder(model, ids)(ids[:, :1])
    (ids,) = fake_gpu(model, dtype, (ids,))
    step, token = decoder(model, ids), ids[:, :1]
    fake_gpu.guard.watching = fake_gpu.guard.capturing = True  # between sites too
    for _ in range(2):
        logits = step(token)
        token = logits.argmax(-1)
    assert (logits.shape[:2], logits.device.type) == ((2, 1), "cuda")


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
    tolerance = {torch.float32: 1e-3, torch.bfloat16: 0.2, torch.float16: 0.03}[dtype]
    for logits, other in zip(run(architecture, model, there), expected, strict=True):
        assert (logits.double().cpu() - other).norm() < tolerance * other.norm()


def captured(step, token):
    """Capture a step as a graph of the GPU; return what runs it, and where it leaves the logits."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = step(token)
    return graph.replay, logits


@pytest.mark.gpu
@pytest.mark.parametrize("tau_sigma", [0.0, 0.4])
@of("llama", "qwen3", "gpt2", "t5", "bart", "t5 heads", "olmo2")
def test_a_graph_of_a_decoding_step_is_the_model_in_float64(architecture, tau_sigma):
    model = converted(architecture.build(), Settings(tau_alpha=1.0, tau_sigma=tau_sigma))
    ids = random_ids(2, 8)
    read = {"input_ids": ids}
    if architecture.is_encoder_decoder:
        read = {"input_ids": ids[:, :5], "decoder_input_ids": ids}
    expected = model(**read).logits
    model.to("cuda", torch.float32)
    there = ids.cuda()
    step, token = decoder(model, there[:, :5]), there[:, 5:6].clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is made at the first step is not part of the graph
        step(token)
    torch.cuda.current_stream().wait_stream(side)
    run, logits = captured(step, token)
    for place in (6, 7):
        token.copy_(there[:, place : place + 1])
        run()
        tolerance = 2e-3 * float(expected.abs().max())
        assert_close(logits[:, 0].double().cpu(), expected[:, place], rtol=0, atol=tolerance)
