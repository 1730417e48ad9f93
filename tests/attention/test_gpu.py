"""What GPUs run is attention: kernels played by the CPU, asked for shapes, and run where there is one."""

import functools
from contextlib import ExitStack

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.nn.attention import flex_attention as flex_module

from nvreg import compat
from nvreg.attention import gpu, plain
from nvreg.attention.kernel import backend
from nvreg.attention.plain import Inputs
from tests.attention.test_kernel import defined
from tests.fake_gpu import NothingReachesTheHost, on_fake_gpu, pretend_gpu

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
QUICK = [torch.float32, torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)]
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.03, torch.float16: 0.005}

ADDED = {
    "nothing": {},
    "causal": {"is_causal": True},
    "padding": {"mask": "padding"},
    "map": {"mask": "map"},
    "map by head": {"mask": "additive"},
    "bias": {"bias": 1},
    "bias by key head": {"bias": 2, "is_causal": True},
    "bias and padding": {"bias": 1, "mask": "padding"},
    "bias and map by head": {"bias": 2, "mask": "additive"},
    "columns": {"bias": 1, "columns": 1, "is_causal": True},
    "columns by key head": {"bias": 1, "columns": 2, "mask": "map"},
    "cap": {"softcap": 0.7, "bias": 1, "is_causal": True},
}
"""What may be added to plain attention, by name."""


def drawn(name, dtype, *, queries=150, keys=150, batch=2, groups=3, width=20, values=24):
    """Return inputs that have something added, as a model lays them out."""
    generator = torch.Generator().manual_seed(len(name))

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    wanted = ADDED[name]
    if wanted.get("is_causal"):
        keys = queries
    key_heads, heads = 2, 2 * groups
    query = normal(batch, queries, heads, width).transpose(1, 2).to(dtype)
    cached = normal(batch, key_heads, keys, width + 2).to(dtype)  # behind a key stand the bits of its bias
    inputs = Inputs(query, cached[..., :width], normal(batch, key_heads, keys, values).to(dtype), 0.3)
    mask = None
    if wanted.get("mask") == "padding":
        mask = (torch.arange(keys) < torch.tensor([keys, keys - 11])[:, None, None, None]).expand(
            batch, 1, queries, keys
        )
    elif wanted.get("mask") == "map":
        mask = normal(batch, 1, queries, keys) < 0.5
        mask[..., 0] = True
    elif wanted.get("mask") == "additive":
        mask = normal(1, queries, keys, heads).permute(0, 3, 1, 2).to(dtype)  # as T5's positions lie
    bias = (
        300 + normal(batch, wanted["bias"] if wanted["bias"] == 1 else key_heads, 1, keys)
        if "bias" in wanted
        else None
    )
    columns = None
    if "columns" in wanted:
        columns = normal(batch, 1 if wanted["columns"] == 1 else key_heads, keys, 6).to(dtype)
    return inputs._replace(
        columns=columns,
        bias=bias,
        mask=mask,
        is_causal=wanted.get("is_causal", False),
        softcap=wanted.get("softcap"),
    )


def definition(inputs):
    """Return what is to come of inputs, computed in float64."""
    wide = [
        each.double() if isinstance(each, torch.Tensor) and each.is_floating_point() else each
        for each in inputs
    ]
    query, key, value, scale, columns, bias, mask, is_causal, softcap = wide
    return defined(query, key, value, scale, columns, bias, mask, is_causal, softcap)


def assert_defined(attended, inputs):
    dtype = inputs.query.dtype
    output, lse, means = definition(inputs)
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    assert attended.lse.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(attended.output.double().cpu(), output.cpu(), **tolerance)
    # A bias near 300 that lost a unit of it would show here.
    torch.testing.assert_close(attended.lse.double().cpu(), lse.cpu(), rtol=1e-6, atol=tolerance["atol"])
    assert (attended.columns is None) == (means is None)
    if means is not None:
        torch.testing.assert_close(attended.columns.double().cpu(), means.cpu(), **tolerance)


def check_layout(*tensors):
    """Check what kernels ask of tensors: rows that begin at multiples of 16 bytes, or are one."""
    for tensor in tensors:
        assert tensor.stride(-1) == 1
        steps = [step for step, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]
        assert all(step % 8 == 0 for step in steps[:-1] if step != 1)
        assert tensor.storage_offset() % 8 == 0


def played_flash(query, key, value, *, is_causal, scale):
    check_layout(query, key, value)
    assert query.dtype in plain.HALF
    assert query.shape[-1] == key.shape[-1] == value.shape[-1]
    assert query.shape[-1] % 8 == 0
    output, lse, _ = defined(
        *(each.double() for each in (query, key, value)), scale, None, None, None, is_causal
    )
    return output.to(query.dtype), lse.float()


def played_efficient(query, key, value, *, bias, is_causal, scale):
    check_layout(query, key, value, *([] if bias is None else [bias]))
    assert query.shape[1] == key.shape[1] == value.shape[1]
    assert query.shape[-1] % 8 == value.shape[-1] % 8 == 0
    if bias is not None:
        assert bias.dtype == query.dtype
        assert bias.shape == (*query.shape[:3], key.shape[2])
        assert bias.isfinite().all()
    logits = scale * query.double() @ key.double().mT
    logits = logits if bias is None else logits + bias
    if is_causal:
        logits = logits.masked_fill(torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    lse = logits.logsumexp(-1).float()
    missing = -lse.shape[-1] % 32
    output = logits.softmax(-1) @ value.double()
    return output.to(query.dtype), torch.nn.functional.pad(lse, (0, missing), value=torch.inf)


@pytest.fixture
def played(monkeypatch):
    """The CPU plays the kernels of a GPU, and says of layouts and dtypes what they would."""
    monkeypatch.setattr(compat, "flash_attention_on_gpu", played_flash)
    monkeypatch.setattr(compat, "efficient_attention", played_efficient)
    monkeypatch.setattr(gpu, "_compiled", lambda function: function)
    monkeypatch.setattr(flex_module, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)


@pytest.mark.parametrize("dtype", QUICK, ids=str)
@pytest.mark.parametrize("name", ADDED)
def test_every_kernel_that_takes_inputs_is_the_definition(played, name, dtype):
    inputs = drawn(name, dtype, queries=40, keys=40)
    kernels = [gpu.attend_efficiently, gpu.attend_by_flex][name == "cap" :]
    if name in ("nothing", "causal") and dtype in plain.HALF:
        kernels.append(gpu.attend_by_flash)
    for kernel in kernels:
        assert_defined(kernel(inputs), inputs)


def test_float16_holds_biases_that_are_larger_than_its_numbers(played):
    inputs = drawn("bias", torch.float16, queries=40, keys=40)
    inputs = inputs._replace(bias=100 * inputs.bias)
    assert (inputs.bias / inputs.scale).min() > torch.finfo(torch.float16).max
    assert_defined(gpu.attend_efficiently(inputs), inputs)


@pytest.mark.parametrize("length", [1, 128, 129, 300])
def test_blocks_of_a_causal_mask_hold_what_it_shows(length):
    ours = gpu._causal_blocks(length, torch.device("cpu"))
    found = flex_module.create_block_mask(gpu._is_past, None, None, length, length, device="cpu")
    assert torch.equal(ours.to_dense(), found.to_dense())
    for row, count in enumerate(ours.full_kv_num_blocks.flatten().tolist()):
        whole = ours.full_kv_indices[0, 0, row, :count].tolist()
        assert all(128 * block + 127 <= 128 * row for block in whole)  # their last key, and its first query


# --- which kernel serves what, on fake tensors that say they are on a GPU ---------------------------

WAIT = {
    "item": lambda tensor: tensor.sum().item(),
    "tolist": torch.Tensor.tolist,
    "cpu": torch.Tensor.cpu,
    "copy_": lambda tensor: torch.empty(tensor.shape).copy_(tensor),
    "where": lambda tensor: torch.where(tensor > 0),
    "[mask] =": lambda tensor: tensor.__setitem__(tensor > 0, 0.0),
}


@pytest.mark.parametrize("name", WAIT)
def test_whatever_waits_for_a_gpu_fails(name):
    with ExitStack() as modes:
        (tensor,) = on_fake_gpu(modes, (torch.ones(3, 3),))
        modes.enter_context(NothingReachesTheHost())
        said = "from the GPU|how many|_local_scalar_dense|nonzero|tolist"
        with pytest.raises((AssertionError, RuntimeError), match=said):
            WAIT[name](tensor)


@pytest.fixture
def pretended_gpu(monkeypatch):
    pretend_gpu(monkeypatch)


SERVED = {
    torch.float32: {name: gpu.attend_efficiently for name in ADDED} | {"cap": plain.attend_blockwise},
    torch.bfloat16: {
        **dict.fromkeys(ADDED, gpu.attend_by_flex),
        **dict.fromkeys(("nothing", "causal"), gpu.attend_by_flash),
        **dict.fromkeys(("padding", "map", "map by head"), gpu.attend_efficiently),
        **dict.fromkeys(("bias", "bias by key head", "bias and padding"), gpu.attend_by_flex),
        **dict.fromkeys(
            ("bias and map by head", "columns", "columns by key head", "cap"), gpu.attend_by_flex
        ),
    },
    torch.float64: dict.fromkeys(ADDED, plain.attend_blockwise),
}
SERVED[torch.float16] = SERVED[torch.bfloat16]


@pytest.mark.parametrize("queries", [150, 1])
@pytest.mark.parametrize("dtype", [*QUICK, pytest.param(torch.float64, marks=pytest.mark.slow)], ids=str)
def test_each_kernel_serves_its_inputs_without_waiting_for_the_gpu(pretended_gpu, dtype, queries):
    for name in ADDED:
        real = drawn(name, dtype, queries=queries)
        with ExitStack() as modes:
            inputs = on_fake_gpu(modes, real)
            modes.enter_context(NothingReachesTheHost())
            chosen = backend(inputs)
            attended = chosen(inputs)
        expected = SERVED[dtype][name] if queries > 1 else plain.attend_plainly
        if queries == 1 and dtype in plain.HALF and name in ("nothing", "causal"):
            expected = gpu.attend_by_flash
        assert chosen is expected, name
        batch, heads, _, _ = real.query.shape
        assert attended.output.shape == (batch, heads, queries, real.value.shape[-1])
        assert attended.lse.shape == (batch, heads, queries)
        assert attended.lse.dtype == torch.promote_types(dtype, torch.float32)
        assert attended.output.dtype in (dtype, torch.float32)
        if real.columns is not None:
            assert attended.columns.shape == (batch, heads, queries, real.columns.shape[-1])
        assert {each.device.type for each in attended if each is not None} == {"cuda"}


def test_older_and_other_gpus_compute_plainly_or_by_the_kernel_that_they_have(pretended_gpu, monkeypatch):
    inputs = drawn("causal", torch.bfloat16)
    biased = drawn("bias", torch.bfloat16)
    monkeypatch.setattr(compat, "has_triton", lambda: False)
    assert gpu.gpu_backend(biased) is gpu.attend_efficiently
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: False)
        assert gpu.gpu_backend(inputs) is gpu.attend_efficiently
    monkeypatch.setattr(compat, "cuda_generation", lambda device: 7)
    assert gpu.gpu_backend(inputs) is None  # they have no bfloat16
    assert gpu.gpu_backend(drawn("causal", torch.float16)) is gpu.attend_efficiently
    monkeypatch.setattr(compat, "cuda_generation", lambda device: 0)
    assert gpu.gpu_backend(inputs) is None  # AMD's


def test_code_is_compiled_for_more_shapes_than_pytorch_allows_by_itself(monkeypatch):
    counter = CompileCounter()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counter))
    compiled = gpu._compiled.__wrapped__(torch.Tensor.square)
    with torch._dynamo.config.patch(recompile_limit=2):
        for dimensions in range(1, 5):
            compiled(torch.ones((2,) * dimensions))
    assert counter.frame_count == 4


class CapturedError(Exception):
    """A graph was captured."""


def capture(graph, inputs):
    raise CapturedError


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        (gpu.attend_by_flash, "causal"),
        pytest.param(gpu.attend_efficiently, "map by head", marks=pytest.mark.slow),
        pytest.param(gpu.attend_by_flex, "bias by key head", marks=pytest.mark.slow),
    ],
)
def test_a_compiled_model_has_its_kernels_in_one_graph(pretended_gpu, kernel, name):
    inputs = drawn(name, torch.bfloat16, width=32, values=32)  # as wide as kernels take them

    def run(inputs):
        assert gpu.gpu_backend(inputs) is kernel
        return kernel(inputs)

    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="CapturedError"):
        torch.compile(run, backend=capture, fullgraph=True)(inputs)


# --- on a GPU ---------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("queries", [150, 1])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
@pytest.mark.parametrize("name", ADDED)
def test_a_gpu_computes_the_definition(name, dtype, queries):
    inputs = drawn(name, dtype, queries=queries)
    there = Inputs(*(each.cuda() if isinstance(each, torch.Tensor) else each for each in inputs))
    chosen = backend(there)
    assert_defined(chosen(there), inputs)
    if dtype in plain.HALF and chosen is gpu.attend_by_flex and name != "cap":
        assert_defined(gpu.attend_efficiently(there), inputs)  # what cards without Triton run
