"""When a projection makes something else of its input, and that nobody asks it for nothing."""

import copy
import gc
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.testing import assert_close

import nvreg
from nvreg import compat
from nvreg.errors import NvregWarning
from nvreg.models.projections import revision
from tests.fake_gpu import NothingReachesTheHost, on_fake_gpu
from tests.models.architectures import ARCHITECTURES, random_settings
from tests.models.running import EXACT, converted

pytestmark = pytest.mark.usefixtures("no_gradients")
LLAMA = next(each for each in ARCHITECTURES if each.name == "llama")


@pytest.fixture
def peft():
    return pytest.importorskip("peft", reason="needs peft")


@pytest.fixture
def lora(peft):
    """A model with two random adapters, of which the first is active."""

    def config():
        return peft.LoraConfig(r=2, target_modules=["k_proj", "v_proj"], init_lora_weights=False)

    torch.manual_seed(0)
    adapted = peft.get_peft_model(LLAMA.build(), config(), "one").eval()
    adapted.add_adapter("two", config())
    return adapted.double()


def key_projection(adapted):
    return adapted.base_model.model.model.layers[0].self_attn.k_proj


class Doubled(nn.Linear):
    """A projection of a kind that nvreg does not know."""

    factor = 2.0

    def forward(self, x):
        return self.factor * super().forward(x)


def rows_asked(model):
    """Rows that the projections run for, in one forward of three rows of one token."""
    rows = []
    hooks = [
        getattr(module, "base_layer", module).register_forward_hook(
            lambda _, args, __: rows.append(args[0].shape)
        )
        for name, module in model.named_modules()
        if name.endswith(("k_proj", "v_proj"))
    ]
    model(torch.ones(3, 1, dtype=torch.long))
    for hook in hooks:
        hook.remove()
    return rows


def quantised():
    torchao = pytest.importorskip("torchao.quantization", reason="needs torchao")
    model = LLAMA.build(dtype=torch.float32)
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    return model


@pytest.mark.parametrize("kind", ["lora", "quantised"])
def test_a_forward_asks_no_projection_what_it_makes_of_a_vector(kind, request):
    if kind == "lora":
        model = request.getfixturevalue("lora")
        converted(model.base_model.model)
    else:
        model = converted(quantised())
    model(torch.ones(3, 1, dtype=torch.long))
    rows = rows_asked(model)
    assert rows == [(3, 1, 16)] * len(rows)
    assert rows


def test_what_peft_changes_is_noticed(lora):
    projection = key_projection(lora)
    changes = [
        lambda: lora.set_adapter("two"),
        lambda: projection.set_scale("two", 2.0),
        lambda: projection.unscale_layer(),
        lambda: lora.merge_adapter(),
        lambda: lora.unmerge_adapter(),
        lambda: lora.base_model.disable_adapter_layers(),
        lambda: lora.base_model.enable_adapter_layers(),
        lambda: projection.lora_B["two"].weight.mul_(2),
        lambda: projection.base_layer.weight.mul_(2),
        lambda: lora.base_model.set_adapter(["one", "two"]),
    ]
    seen = [revision(projection, 16)]
    for change in changes:
        assert revision(projection, 16) == seen[-1]
        change()
        assert revision(projection, 16) != seen[-1]
        seen.append(revision(projection, 16))


def test_an_adapter_of_the_same_name_and_shape_is_another_one(lora, peft):
    model = converted(lora.base_model.model)
    inputs = LLAMA.inputs(model)
    before = model(**inputs).logits
    for seed in range(5):
        lora.delete_adapter("one")
        gc.collect()
        torch.manual_seed(seed)
        config = peft.LoraConfig(r=2, target_modules=["k_proj", "v_proj"], init_lora_weights=False)
        lora.add_adapter("one", config)
        lora.double().set_adapter("one")
        logits = model(**inputs).logits
        merged = nvreg.revert_(copy.deepcopy(lora).merge_and_unload())
        assert_close(logits, converted(merged, random_settings(merged))(**inputs).logits, **EXACT)
        assert not torch.allclose(logits, before)
        before = logits


def test_a_write_through_data_is_noticed_by_a_setting(lora):
    model = converted(lora.base_model.model)
    inputs, settings = LLAMA.inputs(model), random_settings(model)
    model(**inputs)
    for name, weight in lora.named_parameters():
        if "lora_B" in name:
            weight.data.mul_(-1)
    nvreg.set_settings_(model, settings)
    merged = nvreg.revert_(copy.deepcopy(lora).merge_and_unload())
    assert_close(model(**inputs).logits, converted(merged, settings)(**inputs).logits, **EXACT)


def test_quantised_weights_that_are_written_to_are_noticed():
    linear = quantised().model.layers[0].self_attn.k_proj
    before = revision(linear, 16)
    assert revision(linear, 16) == before
    linear.weight.copy_(linear.weight)
    assert revision(linear, 16) != before
    before = revision(linear, 16)
    linear.weight = nn.Parameter(linear.weight.dequantize())
    assert revision(linear, 16) != before


def test_a_projection_of_another_kind_is_known_by_what_it_holds():
    linear = Doubled(16, 8)
    changes = [
        lambda: setattr(linear, "factor", 3.0),
        lambda: linear.weight.mul_(2),
        lambda: setattr(linear, "options", {"scales": [torch.ones(1)]}),
        lambda: linear.options["scales"][0].mul_(2),
        lambda: linear.options["scales"].append(1),
        lambda: setattr(linear, "inner", nn.Linear(1, 1)),
        lambda: linear.inner.weight.mul_(2),
    ]
    seen = revision(linear, 16)
    for change in changes:
        assert revision(linear, 16) == seen
        change()
        assert revision(linear, 16) != seen
        seen = revision(linear, 16)


@pytest.mark.parametrize("held", ["an object", "a hook"])
def test_one_that_holds_more_than_data_is_asked(held):
    linear, state = Doubled(16, 8), SimpleNamespace(factor=2.0)
    if held == "a hook":
        linear.register_forward_hook(lambda module, args, output: state.factor * output)
    else:
        linear.factor = state
        linear.forward = lambda x: linear.factor.factor * nn.Linear.forward(linear, x)
    before = revision(linear, 16)
    assert revision(linear, 16) == before
    state.factor = 3.0
    assert revision(linear, 16) != before


def test_a_gpu_is_waited_for_only_where_a_projection_is_asked(monkeypatch):
    monkeypatch.setattr(compat, "version", lambda tensor: 0)  # of fake tensors, which have no memory
    linear, hooked = Doubled(16, 8), Doubled(16, 8)
    hooked.register_forward_hook(lambda *_: None)
    with ExitStack() as modes:
        weight, bias = on_fake_gpu(modes, (linear.weight, linear.bias))
        for each in (linear, hooked):
            each.weight, each.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
        modes.enter_context(NothingReachesTheHost())
        assert revision(linear, 16) == revision(linear, 16)
        with (
            pytest.warns(NvregWarning, match="got Doubled: at every forward"),
            pytest.raises(DataDependentOutputException),
        ):
            revision(hooked, 16)
