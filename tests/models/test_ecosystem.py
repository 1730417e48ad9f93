"""Converted models with low-rank adapters, and quantised."""

import copy
import functools

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import nvreg
from nvreg.attention.settings import Settings
from nvreg.models.convert import is_converted
from nvreg.models.registry import adapter_for
from tests.models.architectures import random_prior, random_settings
from tests.models.running import (
    EXACT,
    FLOAT32,
    converted,
    generate,
    of,
    of_every_layout,
    run_definition_,
)

pytestmark = pytest.mark.usefixtures("no_gradients")


# --- low-rank adapters ----------------------------------------------------------------------------


@pytest.fixture
def peft():
    return pytest.importorskip("peft", reason="needs peft")


def key_value_modules(model):
    """Names of what projects keys and values, in DeepSeek what expands both."""
    try:
        return list(adapter_for(model.config).key_value_modules)
    except nvreg.UserError:
        own = {"deepseek_v3": ["kv_b_proj"]}
        return own.get(model.config.model_type, ["k_proj", "v_proj"])


@pytest.fixture
def adapt(peft, architecture):
    """Add a random adapter to what projects keys and values, in place."""

    def add(model):
        config = peft.LoraConfig(
            r=2,
            lora_alpha=6,
            target_modules=key_value_modules(model),
            fan_in_fan_out=architecture.model_type == "gpt2",
            init_lora_weights=False,
        )
        torch.manual_seed(0)
        return peft.get_peft_model(model, config).eval()

    return add


def defined(adapted, inputs):
    """What the definition makes of an adapted model's effective weights."""
    model = copy.deepcopy(adapted).merge_and_unload()
    nvreg.revert_(model)
    return run_definition_(model, random_prior(model), random_settings(model))(**inputs).logits


@of_every_layout
def test_an_adapter_added_before_conversion(architecture, plain, adapt):
    inputs = architecture.inputs(plain)
    pretrained = copy.deepcopy(plain)
    adapted = adapt(plain)
    expected = defined(adapted, inputs)
    for either in (copy.deepcopy(adapted), plain):
        assert_close(converted(either)(**inputs).logits, expected, **EXACT)
    assert not torch.allclose(expected, converted(pretrained)(**inputs).logits, atol=1e-2)


@of_every_layout
def test_an_adapter_added_after_conversion_comes_changes_and_goes(architecture, model, adapt):
    inputs = architecture.inputs(model)
    pretrained = model(**inputs).logits
    adapted = adapt(model)
    expected = defined(adapted, inputs)
    assert_close(model(**inputs).logits, expected, **EXACT)
    if architecture.can_generate:
        assert generate(model, inputs) == generate(model, inputs, use_cache=False)
    with adapted.disable_adapter():
        assert_close(model(**inputs).logits, pretrained, **EXACT)
    assert_close(model(**inputs).logits, expected, **EXACT)
    adapted.merge_adapter()
    assert_close(model(**inputs).logits, expected, **EXACT)
    adapted.unmerge_adapter()
    for module in adapted.modules():
        if getattr(module, "scaling", None) == {"default": 3.0}:
            module.set_scale("default", 0.5)
    assert_close(model(**inputs).logits, defined(adapted, inputs), **EXACT)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.mul_(-1)
    assert_close(model(**inputs).logits, defined(adapted, inputs), **EXACT)


@of_every_layout
def test_an_adapter_merged_for_good(architecture, model, adapt):
    inputs = architecture.inputs(model)
    model(**inputs)
    adapted = adapt(model)
    expected = defined(adapted, inputs)
    adapted.merge_and_unload()
    assert_close(model(**inputs).logits, expected, **EXACT)


@pytest.mark.slow
@of("bert", "gpt2")
def test_a_compiled_model_follows_its_adapters(architecture, model, adapt, compiled):
    inputs = architecture.inputs(model)
    model_compiled = compiled(model, whole=False)
    pretrained = model_compiled(**inputs).logits
    adapted = adapt(model)
    expected = defined(adapted, inputs)
    assert_close(model_compiled(**inputs).logits, expected, **EXACT)
    with adapted.disable_adapter():
        assert_close(model_compiled(**inputs).logits, pretrained, **EXACT)
    adapted.merge_and_unload()
    assert_close(model_compiled(**inputs).logits, expected, **EXACT)


@of("bert")
def test_what_an_adapter_would_spoil_is_refused(architecture, model, adapt, tmp_path):
    inputs = architecture.inputs(model)
    adapted = adapt(model)
    with pytest.raises(RuntimeError, match="merge adapters"):
        torch.export.export(model, (), inputs, strict=False)
    for either in (model, adapted):
        with pytest.raises(nvreg.UserError, match=r"without adapters, .* merge"):
            nvreg.save_pretrained(either, tmp_path)
    adapted.merge_and_unload()
    nvreg.save_pretrained(model, tmp_path)
    loaded = nvreg.from_pretrained(tmp_path, dtype=torch.float64)
    assert_close(loaded(**inputs).logits, model(**inputs).logits, **EXACT)


@of("bert")
def test_rows_of_a_batch_with_adapters_of_their_own_are_refused(architecture, model, adapt):
    adapted = adapt(model)
    inputs = architecture.inputs(model)
    with pytest.raises(ValueError, match="adapter_names"):
        adapted(**inputs, adapter_names=["default", "__base__", "default"])


@of("llama")
def test_a_prefix_has_no_biases(architecture, model, peft):
    inputs = architecture.inputs(model)
    config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    tuned = peft.get_peft_model(model, config).double().eval()
    with pytest.raises(nvreg.UserError, match=r"prefix tuning.*tau_sigma=0 and tau_mu=1"):
        tuned(**inputs)
    nvreg.set_settings_(model, Settings(tau_alpha=1e4))
    logits = tuned(**inputs).logits
    nvreg.revert_(model)
    assert_close(logits, tuned(**inputs).logits, **EXACT)


@of("bert")
def test_a_prior_is_that_of_the_adapted_model(architecture, plain, adapt):
    inputs = architecture.inputs(plain)
    pretrained = nvreg.estimate_prior(plain, [inputs])
    adapted = adapt(plain)
    with pytest.raises(nvreg.UserError, match="prior of this model"):
        nvreg.convert_(plain, pretrained)
    prior, settings = nvreg.estimate_prior(plain, [inputs]), Settings(tau_alpha=1.0, tau_sigma=0.3)
    merged = copy.deepcopy(adapted).merge_and_unload()
    expected = run_definition_(merged, prior, settings)(**inputs).logits
    assert_close(nvreg.convert_(plain, prior, settings)(**inputs).logits, expected, **EXACT)


# --- quantisation ---------------------------------------------------------------------------------


@pytest.fixture
def quantise():
    quantization = pytest.importorskip("torchao.quantization", reason="needs torchao")
    return lambda model: quantization.quantize_(model, quantization.Int8WeightOnlyConfig())


def dequantised(model):
    for module in model.modules():
        if isinstance(module, nn.Linear) and hasattr(module.weight, "dequantize"):
            module.weight = nn.Parameter(module.weight.dequantize())
    return model


@pytest.mark.parametrize("is_converted_first", [False, True], ids=["then converted", "after conversion"])
@of_every_layout
def test_a_quantised_model(architecture, quantise, is_converted_first):
    model = architecture.build(dtype=torch.float32)
    exact = copy.deepcopy(model)
    quantise(exact)
    dequantised(exact)
    prior, settings, inputs = random_prior(model), random_settings(model), architecture.inputs(model)
    if is_converted_first:
        nvreg.convert_(model, prior, settings)(**inputs)
        quantise(model)
    else:
        quantise(model)
        nvreg.convert_(model, prior, settings)
    expected = run_definition_(exact, prior, settings)(**inputs).logits
    assert_close(model(**inputs).logits, expected, **FLOAT32)


@of("llama")
def test_quantised_weights_are_not_saved(architecture, tmp_path):
    class Int8Tensor(torch.Tensor):
        """As torchao keeps its weights: a subclass, which makes no nn.Parameter."""

    model = converted(architecture.build())
    weight = model.model.layers[0].mlp.up_proj.weight
    model.model.layers[0].mlp.up_proj.weight = nn.Parameter(weight.as_subclass(Int8Tensor))
    with pytest.raises(nvreg.UserError, match=r"plain weights, got Int8Tensor for .*up_proj"):
        nvreg.save_pretrained(model, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


class Packed(nn.Module):
    """A projection that holds integers alone."""

    in_features, out_features = 16, 8

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randint(-8, 8, (8, 16), generator=torch.Generator().manual_seed(0))
        self.register_buffer("weight", weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (self.weight.to(x) / 16).T


@of("llama")
def test_a_projection_of_integers(architecture):
    model = architecture.build(dtype=torch.float32)
    exact = copy.deepcopy(model)
    for layer, other in zip(model.model.layers, exact.model.layers, strict=True):
        layer.self_attn.k_proj = Packed()
        other.self_attn.k_proj = nn.Linear(16, 8, bias=False)
        other.self_attn.k_proj.weight.copy_(layer.self_attn.k_proj.weight / 16)
    inputs = architecture.inputs(model)
    assert_close(converted(model)(**inputs).logits, converted(exact)(**inputs).logits, **FLOAT32)


@of("llama")
def test_a_prior_of_a_quantised_model(architecture, quantise):
    model = architecture.build(dtype=torch.float32)
    quantise(model)
    exact = dequantised(copy.deepcopy(model))
    inputs, settings = architecture.inputs(model), Settings(tau_alpha=1.0, tau_sigma=0.3)
    prior = nvreg.estimate_prior(model, [inputs])
    nvreg.convert_(model, prior, settings)
    expected = run_definition_(exact, prior, settings)(**inputs).logits
    assert_close(model(**inputs).logits, expected, **FLOAT32)
    assert generate(model, inputs) == generate(model, inputs, use_cache=False)


# --- dispatch to devices --------------------------------------------------------------------------


@pytest.fixture
def hooks():
    return pytest.importorskip("accelerate.hooks", reason="needs accelerate")


@pytest.fixture
def dispatch(hooks):
    """Wrap every module's forward in a hook, as accelerate's dispatch_model does."""

    def add(model):
        for module in model.modules():
            hooks.add_hook_to_module(module, hooks.AlignDevicesHook("cpu", io_same_device=True))

    return add


@of_every_layout
def test_a_model_dispatched_before_conversion(architecture, plain, dispatch, hooks):
    inputs, pretrained = architecture.inputs(plain), copy.deepcopy(plain)
    expected = converted(copy.deepcopy(plain))(**inputs).logits
    dispatch(plain)
    model = converted(plain)
    for each in (model, copy.deepcopy(model)):
        assert torch.equal(each(**inputs).logits, expected)
        nvreg.revert_(each)
        assert torch.equal(each(**inputs).logits, pretrained(**inputs).logits)
    hooks.remove_hook_from_module(model, recurse=True)  # which leaves the forward that it kept on the module
    assert torch.equal(converted(model)(**inputs).logits, expected)


@of_every_layout
def test_a_model_dispatched_after_conversion(architecture, plain, dispatch, hooks):
    inputs, pretrained = architecture.inputs(plain), copy.deepcopy(plain)
    model = converted(plain)
    expected = model(**inputs).logits
    dispatch(model)
    assert torch.equal(model(**inputs).logits, expected)
    hooks.remove_hook_from_module(model, recurse=True)
    assert torch.equal(model(**inputs).logits, expected)
    dispatch(model)
    nvreg.revert_(model)
    assert torch.equal(model(**inputs).logits, pretrained(**inputs).logits)
    hooks.remove_hook_from_module(model, recurse=True)
    assert torch.equal(model(**inputs).logits, pretrained(**inputs).logits)


@of("llama")
def test_another_forward_on_the_module_is_refused(architecture, plain):
    attention = plain.model.layers[1].self_attn
    attention.forward = functools.partial(type(attention).forward, attention)
    with pytest.raises(
        nvreg.UserError, match=r"at 'layers.1.self_attn' to run the forward of LlamaAttention"
    ):
        converted(plain)
    assert not is_converted(plain)


@of("llama")
def test_offloaded_weights_are_refused(architecture, plain):
    accelerate = pytest.importorskip("accelerate", reason="needs accelerate")
    prior = random_prior(plain)
    offloaded = accelerate.cpu_offload(plain, execution_device=torch.device("cpu"))
    with pytest.raises(
        nvreg.UserError, match="in memory, got some on the meta device, as accelerate offloads"
    ):
        nvreg.convert_(offloaded, prior, Settings(tau_alpha=0.5))


@pytest.mark.parametrize("where", ["memory", "disk"])
@of("qwen3", "gpt2 heads")
def test_an_offloaded_model_is_converted_in_head_space(architecture, tmp_path, where):
    accelerate = pytest.importorskip("accelerate", reason="needs accelerate")
    plain, offloaded = (architecture.build(dtype=torch.float32) for _ in range(2))
    inputs, cpu = architecture.inputs(plain), torch.device("cpu")
    if where == "memory":
        accelerate.cpu_offload(offloaded, execution_device=cpu)
    else:
        accelerate.disk_offload(offloaded, str(tmp_path), execution_device=cpu)
    assert offloaded.device.type == "meta"
    results = []
    for model in (plain, offloaded):
        prior = nvreg.estimate_prior(model, [inputs], space="heads")
        settings = nvreg.calibrate(model, prior, [inputs], prior_weight=0.1, tau_sigma=0.3)
        nvreg.convert_(model, prior, settings)
        results.append((prior.fingerprint, prior.model, settings, model(**inputs).logits))
        nvreg.revert_(model)
    assert results[0][:3] == results[1][:3]
    assert torch.equal(results[0][3], results[1][3])
    assert torch.equal(plain(**inputs).logits, offloaded(**inputs).logits)
