"""What nvreg uses of other libraries that they do not promise to keep does what it is used for."""

import ast
import re
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from sacrebleu.metrics import BLEU, CHRF
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend
from torch.testing import assert_close
from transformers import DynamicCache, EncoderDecoderCache, LlamaConfig
from transformers.cache_utils import QuantoQuantizedLayer

from nvreg import compat

ROOT = Path(compat.__file__).parent


def test_versions_are_named():
    text = Path(compat.__file__).read_text()
    for name in ("torch", "transformers", "accelerate", "peft", "sacrebleu"):
        assert re.search(rf"^# --- {name} \d+\.\d+ -", text, re.MULTILINE), name


OWN = {"_asdict", "_replace", "_fields", "_sums", "_make"}
"""Members of named tuples, which are public, and of the same file's classes."""


ASKED_BY_NAME = {"getattr", "hasattr", "setattr", "delattr"}


def test_nothing_else_is_private_to_another_library():
    """Attributes that begin with an underscore are asked of ``self`` or of what the same file defines.

    So are those that are asked for by their name as text.
    """
    found = []
    for path in ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text())
        defined = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_own(node)}
        defined |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        found += [
            f"{path.relative_to(ROOT)}:{node.lineno} {name}"
            for node in ast.walk(tree)
            if (name := _asked_for(node)).startswith("_")
            and not name.endswith("__")
            and name not in OWN | defined
        ]
    assert {line.split(":")[0] for line in found} == {"compat.py"}, found


def _asked_for(node):
    """Return the name of the attribute that a piece of code asks for."""
    match node:
        case ast.Attribute() if not _is_own(node):
            return node.attr
        case ast.Call(func=ast.Name(id=function), args=[_, ast.Constant(value=str(name)), *_]):
            return name if function in ASKED_BY_NAME else ""
    return ""


def _is_own(node):
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


# --- torch ----------------------------------------------------------------------------------------


def test_kernels_of_a_gpu_return_the_log_sum_exp(monkeypatch):
    choices = iter((SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION))
    monkeypatch.setattr(torch, "_fused_sdp_choice", lambda *_, **__: next(choices).value)
    with FakeTensorMode():
        query, key, value = (
            torch.empty(2, heads, 5, width, device="cuda", dtype=torch.bfloat16)
            for heads, width in ((4, 8), (2, 8), (2, 8))
        )
        for _ in range(2):
            output, lse = compat.flash_attention_on_gpu(query, key, value, is_causal=True, scale=0.3)
            assert (output.shape, lse.shape, lse.dtype) == (query.shape, (2, 4, 5), torch.float32)
        assert next(choices, None) is None
        one = query.narrow(2, 0, 1)  # has no choice
        output, lse = compat.flash_attention_on_gpu(one, key, value, is_causal=False, scale=0.3)
        assert (output.shape, lse.shape) == (one.shape, (2, 4, 1))
        key, value = torch.empty(2, 4, 7, 8, device="cuda"), torch.empty(2, 4, 7, 16, device="cuda")
        bias = torch.empty(2, 1, 1, 7, device="cuda").expand(2, 4, 5, 7)
        output, lse = compat.efficient_attention(
            query.float(), key, value, bias=bias, is_causal=False, scale=0.3
        )
        assert (output.shape, lse.shape, lse.dtype) == ((2, 4, 5, 16), (2, 4, 32), torch.float32)


def test_the_generation_of_a_gpu_is_nvidias(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=9))
    assert compat.cuda_generation(torch.device("cuda")) == 9
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert compat.cuda_generation(torch.device("cuda")) == 0


def test_code_for_a_gpu_is_compiled_only_where_there_is_one():
    assert compat.has_triton() <= torch.cuda.is_available()


@pytest.mark.parametrize("is_causal", [False, True])
def test_the_flash_kernel_returns_the_log_sum_exp(is_causal):
    query, key, value = torch.randn(3, 2, 4, 5, 8, dtype=torch.float64).unbind(0)
    mask = None if is_causal else torch.randn(2, 1, 1, 5, dtype=torch.float64)
    output, lse = compat.flash_attention(query, key, value, mask=mask, is_causal=is_causal, scale=0.3)
    logits = 0.3 * query @ key.transpose(-1, -2)
    if is_causal:
        logits = logits.masked_fill(torch.ones(5, 5, dtype=torch.bool).triu(1), -torch.inf)
    else:
        logits = logits + mask
    assert_close(lse, logits.logsumexp(-1))
    assert_close(output, logits.softmax(-1) @ value)


@pytest.mark.parametrize("which", ["query", "key", "value"])
def test_the_flash_kernel_is_given_numbers_that_are_neighbours_in_memory(which):
    given = dict(zip(("query", "key", "value"), torch.randn(3, 2, 4, 5, 8, dtype=torch.float64), strict=True))
    expected, lse = compat.flash_attention(**given, mask=None, is_causal=False, scale=0.3)
    given[which] = given[which].mT.contiguous().mT  # as a convolution over the text leaves it
    found = compat.flash_attention(**given, mask=None, is_causal=False, scale=0.3)
    assert_close(found, (expected, lse))


def test_a_version_tells_of_writes_and_of_other_memory():
    tensor = torch.zeros(3)
    before = compat.version(tensor)
    assert compat.version(tensor) == before
    tensor.add_(1)
    assert compat.version(tensor) != before
    before = compat.version(tensor)
    tensor.data = torch.zeros(3)
    assert compat.version(tensor) != before
    with torch.inference_mode():
        assert compat.version(torch.zeros(3))[1] == 0


def test_members_of_a_module():
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    tensors = compat.tensors_of(module)
    expected = [*module.parameters(), *module.buffers()]
    assert {id(tensor) for tensor in tensors} == {id(tensor) for tensor in expected}
    assert compat.child(module, "0") is module[0]
    assert compat.parameter(module[0], "weight") is module[0].weight
    assert compat.parameter(nn.Linear(2, 3, bias=False), "bias") is None


def test_hooks_of_a_module():
    module = nn.Linear(2, 3)
    for register in (module.register_forward_hook, module.register_forward_pre_hook):
        assert not compat.has_hooks(module)
        hook = register(lambda *_: None)
        assert compat.has_hooks(module)
        hook.remove()


def test_a_hook_is_removed_from_a_copy():
    module = nn.Linear(2, 2)
    hook = module.register_forward_pre_hook(lambda *_: None)
    other = deepcopy(module)
    compat.remove_pre_hook_(other, hook.id)
    assert not compat.has_hooks(other)
    assert compat.has_hooks(module)


# --- transformers ---------------------------------------------------------------------------------


def test_the_implementation_of_attention():
    config = LlamaConfig(attn_implementation="eager")
    assert compat.attention_implementation(config) == "eager"
    compat.set_attention_implementation_(config, "sdpa")
    assert compat.attention_implementation(config) == "sdpa"


def test_a_class_of_configs_that_names_an_implementation():
    config = LlamaConfig(attn_implementation="eager")
    seen = object.__new__(compat.naming_attention(LlamaConfig, "another"))
    vars(seen).update(vars(config))
    assert compat.attention_implementation(seen) == "another"
    assert isinstance(seen, LlamaConfig)
    assert compat.attention_implementation(config) == "eager"


def test_the_cache_of_an_encoders_keys():
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    assert not compat.is_cross_cached(cache, 0)
    compat.note_cross_cached_(cache, 0)
    assert compat.is_cross_cached(cache, 0)
    filled = DynamicCache()
    filled.update(torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 2, 3), 0)
    assert compat.is_cross_cached(EncoderDecoderCache(DynamicCache(), filled), 0)


def test_a_cache_that_rounds():
    cache = DynamicCache()
    cache.update(torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 2, 3), 0)
    assert not compat.quantises(cache.layers[0])
    assert compat.quantises(object.__new__(QuantoQuantizedLayer))


# --- others ---------------------------------------------------------------------------------------


def test_where_accelerate_keeps_a_forward():
    hooks = pytest.importorskip("accelerate.hooks", reason="needs accelerate")
    module = nn.Linear(2, 3)
    forward = module.forward
    hooks.add_hook_to_module(module, hooks.ModelHook())
    wrapped, kept = compat.KEPT_FORWARDS[::-1]
    assert vars(module)[kept] == forward
    assert vars(module)[wrapped] != forward
    hooks.remove_hook_from_module(module)
    assert kept not in vars(module)
    assert vars(module)[wrapped] == forward


def test_what_a_module_holds_is_without_hooks_of_accelerate():
    hooks = pytest.importorskip("accelerate.hooks", reason="needs accelerate")
    module = nn.Linear(2, 3)
    expected = {"in_features": 2, "out_features": 3}
    assert compat.held_by(module) == expected
    hooks.add_hook_to_module(module, hooks.AlignDevicesHook(execution_device="cpu"))
    assert compat.held_by(module) == expected
    hooks.remove_hook_from_module(module)
    assert compat.held_by(module) == expected
    module.forward = abs
    assert compat.held_by(module) == expected | {"forward": abs}


def test_the_device_of_a_hook_of_accelerate():
    hooks = pytest.importorskip("accelerate.hooks", reason="needs accelerate")
    module = nn.Linear(2, 3)
    assert compat.device_of_hook(module) is None
    hooks.add_hook_to_module(module, hooks.AlignDevicesHook(execution_device="cpu"))
    assert compat.device_of_hook(module) == "cpu"
    hooks.remove_hook_from_module(module)
    assert compat.device_of_hook(module) is None


def test_lora_is_known_by_its_place():
    peft = pytest.importorskip("peft", reason="needs peft")
    adapted = peft.get_peft_model(nn.Sequential(nn.Linear(2, 3)), peft.LoraConfig(target_modules=["0"]))
    layer = adapted.base_model.model[0]
    assert compat.is_lora(layer)
    assert not compat.is_lora(layer.base_layer)


@pytest.mark.parametrize("metric", [BLEU(), CHRF()], ids=["bleu", "chrf"])
def test_statistics_of_sentences_add_up_to_the_corpus(metric):
    predictions, references = ["the cat sat there", "a dog"], ["the cat sat here", "the dog"]
    rows = compat.corpus_statistics(metric, predictions, references)
    (one,), (other,) = (
        compat.corpus_statistics(metric, [prediction], [reference])
        for prediction, reference in zip(predictions, references, strict=True)
    )
    assert rows == [one, other]
    if isinstance(metric, BLEU):
        totals = [sum(column) for column in zip(*rows, strict=True)]
        score = metric.corpus_score(predictions, [references])
        assert totals == [score.sys_len, score.ref_len, *score.counts, *score.totals]
