"""Quantisation, pruning and layers left out, on the weights and the layers themselves."""

import math

import pytest
import torch
from torch.testing import assert_close

import nvreg
from nvreg.experiment import load_experiment
from nvreg.methods import METHODS, compression
from nvreg.methods.section import space_of
from nvreg.models.weight_files import WeightFiles
from nvreg.models.weights import body_matrices
from nvreg.samplers import SAMPLERS
from nvreg.sweep.runner import run_sweep
from nvreg.sweep.workbench import open_workbench
from tests.models.architectures import ARCHITECTURES, IN_HEAD_SPACE, random_prior
from tests.models.running import each_of, of

of_every_form = of("marian", "bert", "gpt2", "t5 v1.1", "mixtral")
needs_torchao = pytest.mark.usefixtures("torchao")


@pytest.fixture
def torchao():
    return pytest.importorskip("torchao.quantization", reason="needs torchao")


def attached(name, model, **options):
    method = METHODS[name](**options)
    method.attach_(model, random_prior(model), [])
    return method


def changed(name, model, options=None, **values):
    """Return a model after a method set it to a setting."""
    method = attached(name, model, **(options or {}))
    method.set_(model, method.setting_type(**values))
    return model


def untouched(model):
    """Return all parameters but those that matrices of the body are views of."""
    ours = {view.untyped_storage().data_ptr() for view in body_matrices(model)}
    named = model.named_parameters()
    return {name: each for name, each in named if each.untyped_storage().data_ptr() not in ours}


@pytest.mark.parametrize("architecture", each_of(ARCHITECTURES))
def test_the_matrices_of_a_body_are_all_but_embeddings_heads_and_routers(architecture):
    model = architecture.build()
    known = ("embed", "wte", "wpe", "shared.", "relative_attention_bias", "lm_head", "classifier", "pooler")
    known += ("gate.weight", "router.weight", "predictions", "vocab_transform", "conv", "head.dense")
    left = [name for name, weight in untouched(model).items() if weight.ndim > 1]
    assert [name for name in left if not any(word in name for word in known)] == []
    assert len(body_matrices(model)) >= 3 * len(nvreg.sites(model))


@needs_torchao
@pytest.mark.parametrize("name", ["qwen3", "gpt_oss", "deepseek_v3", "qwen3_next"])
def test_models_that_head_space_alone_converts_are_compressed_too(name):
    architecture = next(each for each in IN_HEAD_SPACE if each.name == name)
    model, plain = (architecture.build(dtype=torch.float32) for _ in range(2))
    inputs = architecture.inputs(plain)
    expected = plain(**inputs).logits
    for method_name, values in (
        ("prune", {"share": 0.5}),
        ("quantise", {"bits": 4}),
        ("layer-skip", {"skipped": 1}),
    ):
        method = METHODS[method_name]()
        method.check(model)
        method.attach_(model, None, [])
        method.set_(model, method.setting_type(**values))
        assert not torch.allclose(model(**inputs).logits, expected, atol=1e-4)
        method.detach_(model)
        assert torch.equal(model(**inputs).logits, expected)


# --- quantisation ---------------------------------------------------------------------------------


@of("marian", "bert", "llama", "t5 v1.1")
@pytest.mark.parametrize("bits", [8, 4])
def test_outputs_are_those_of_a_model_that_torchao_quantised(architecture, bits, torchao):
    model, theirs = (architecture.build(dtype=torch.float32) for _ in range(2))
    plain = model(**architecture.inputs(model)).logits
    matrices = {view.untyped_storage().data_ptr() for view in body_matrices(theirs)}
    torchao.quantize_(
        theirs,
        torchao.IntxWeightOnlyConfig(getattr(torch, f"int{bits}"), torchao.PerGroup(8)),
        filter_fn=lambda module, _: (
            isinstance(module, torch.nn.Linear) and module.weight.untyped_storage().data_ptr() in matrices
        ),
    )
    expected = theirs(**architecture.inputs(theirs)).logits
    changed("quantise", model, {"group_size": 8}, bits=bits)
    assert_close(model(**architecture.inputs(model)).logits, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(expected, plain, rtol=1e-3, atol=1e-3)


@needs_torchao
@of_every_form
@pytest.mark.parametrize("group_size", [8, 128, None])
def test_a_group_of_a_row_has_as_many_values_as_its_bits_have(architecture, group_size):
    model, plain = (architecture.build(dtype=torch.float32) for _ in range(2))
    changed("quantise", model, {"group_size": group_size}, bits=3)
    for view, original in zip(body_matrices(model), body_matrices(plain), strict=True):
        group = math.gcd(group_size or view.shape[-1], view.shape[-1])
        now, before = (each.reshape(-1, group) for each in (view, original))
        assert 4 < max(len(row.unique()) for row in now) <= 8 or group <= 4
        assert ((now - before).abs().amax(1) <= before.abs().amax(1) / 3.4).all()
    assert all(map(torch.equal, untouched(model).values(), untouched(plain).values()))


@of("bert")
def test_without_torchao_one_line_says_so(architecture, monkeypatch):
    def missing(name):
        raise compression.PackageNotFoundError(name)

    monkeypatch.setattr(compression, "version", missing)
    with pytest.raises(nvreg.UserError, match=r"^expected torchao, .*pip install 'nvreg\[quantise\]'"):
        METHODS["quantise"]().check(architecture.build())


@needs_torchao
def test_the_key_of_a_trial_has_the_size_of_groups_and_where_the_smallest_are_sought():
    fingerprints = [METHODS["quantise"](group_size=size).fingerprint for size in (32, 128, None)]
    fingerprints += [METHODS["prune"](scope=scope).fingerprint for scope in ("matrix", "model")]
    fingerprints += [METHODS["layer-skip"](place=place).fingerprint for place in ("middle", "top")]
    assert len(set(fingerprints)) == 7


# --- pruning --------------------------------------------------------------------------------------


@of_every_form
@pytest.mark.parametrize("scope", ["matrix", "model"])
def test_a_share_of_the_weights_is_zero_and_it_is_the_smallest_ones(architecture, scope):
    model, plain = architecture.build(), architecture.build()
    changed("prune", model, {"scope": scope}, share=0.3)
    after, before = body_matrices(model), body_matrices(plain)
    if scope == "model":
        after, before = ([torch.cat([each.flatten() for each in views])] for views in (after, before))
    for now, original in zip(after, before, strict=True):
        pruned = now == 0
        assert pruned.sum() == round(0.3 * now.numel())
        assert original[pruned].abs().max() < original[~pruned].abs().min()
        assert torch.equal(now[~pruned], original[~pruned])
    assert all(map(torch.equal, untouched(model).values(), untouched(plain).values()))


@needs_torchao
@of("bert", "gpt2")
@pytest.mark.parametrize(("name", "values"), [("prune", {"share": 0.3}), ("quantise", {"bits": 4})])
def test_a_checkpoint_holds_what_they_do(architecture, name, values, tmp_path):
    model = architecture.build(dtype=torch.float32)
    method = attached(name, model)
    method.set_(model, method.setting_type(**values))
    assert method.is_saved
    method.save(model, tmp_path, WeightFiles())
    loaded = type(model).from_pretrained(tmp_path).eval()
    inputs = architecture.inputs(model)
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


@of("bert")
def test_all_weights_may_go_and_few_may_be_none(architecture):
    model, plain = architecture.build(), architecture.build()
    assert not any(view.any() for view in body_matrices(changed("prune", model, share=1.0)))
    kept = body_matrices(changed("prune", architecture.build(), share=1e-6))
    assert all(map(torch.equal, kept, body_matrices(plain)))


# --- layers ---------------------------------------------------------------------------------------


def stack_of(model, role):
    name = next(site.name for site in nvreg.sites(model) if site.role == role)
    path = name.split(".")
    return model.base_model.get_submodule(
        ".".join(path[: next(i for i, p in enumerate(path) if p.isdecimal())])
    )


@of(
    "marian",
    "pegasus",
    "bert",
    "distilbert",
    "gpt2",
    "opt",
    "llama",
    "t5",
    "gpt_neo",
    "gpt_neox",
    "phi3 sliding",
)
@pytest.mark.parametrize(("place", "skipped", "left"), [("top", 1, -1), ("middle", 1, None)])
def test_what_is_left_out_is_as_if_it_were_not_there(architecture, place, skipped, left):
    model, shorter = architecture.build(), architecture.build()
    changed("layer-skip", model, {"place": place}, skipped=skipped)
    for role in {site.role for site in nvreg.sites(shorter)} - {"cross"}:
        stack = stack_of(shorter, role)
        del stack[left if left is not None else (len(stack) - 1) // 2]
    inputs = architecture.inputs(model) | {"use_cache": False}
    assert torch.equal(model(**inputs).logits, shorter(**inputs).logits)


@of("marian", "bert")
def test_layers_are_named_by_the_stack_they_are_in(architecture):
    model = architecture.build()
    method = attached("layer-skip", model)
    if architecture.name == "marian":
        with pytest.raises(ValueError, match="skipped: expected encoder or decoder, got cross"):
            method.set_(model, method.setting_type(skipped={"cross": 1}))
    with pytest.raises(ValueError, match=r"skipped: expected at most the . layers of encoder, got 9"):
        method.set_(model, method.setting_type(skipped={"encoder": 9}))
    with pytest.raises(ValueError, match="expected one number for all layers of encoder"):
        method.setting_type(skipped={"encoder": [1, 0]})


# --- spaces of whole numbers, and refusals --------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "space", "values"),
    [
        ("quantise", {"bits": [2, 4]}, {2, 3, 4}),
        ("layer-skip", {"skipped": {"encoder": [0, 2]}}, {0, 1, 2}),
        ("weight-noise", {"scale": 0.1, "seed": [0, 1]}, {0, 1}),
    ],
)
@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_a_range_of_whole_numbers_has_no_others(name, space, values, sampler):
    method = METHODS[name]
    (parameter,) = space.keys() - {"scale"}
    dimensions = space_of(method)(space=space).dimensions
    listed = SAMPLERS[sampler](dimensions, method.setting_type, {"encoder": 2}, 0, 1).listed()
    drawn = {setting.value(parameter, "encoder") for setting, _ in zip(listed, range(60), strict=False)}
    assert drawn == values


@pytest.mark.parametrize("written", [{"each_layer": [0, 1]}, {"layers": [0, 1]}])
def test_values_by_layer_are_refused_where_a_parameter_has_none(written):
    with pytest.raises(ValueError, match=r"skipped.encoder: expected one dimension for all layers"):
        space_of(METHODS["layer-skip"])(space={"skipped": {"encoder": written}})


@of("llama")
@pytest.mark.parametrize("name", ["quantise", "prune"])
def test_adapters_and_quantised_weights_are_refused(architecture, name, torchao):
    peft = pytest.importorskip("peft")
    model = architecture.build(dtype=torch.float32)
    peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["k_proj"], r=2), model)
    quantised = architecture.build(dtype=torch.float32)
    torchao.quantize_(quantised, torchao.Int8WeightOnlyConfig())
    for each in (model, quantised):
        with pytest.raises(nvreg.UserError, match="expected plain weights to change, got quantised"):
            METHODS[name]().check(each)


@pytest.mark.parametrize("sampler", ["grid", "tpe"])
@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            "{skipped: {values: [1, 5]}}",
            "sweep.space.skipped: expected at most the 2 layers of encoder, got 5",
        ),
        (
            "{skipped: {decoder: [1, 3]}}",
            "sweep.space.skipped: expected at most the 2 layers of decoder, got 3",
        ),
        ("{skipped: {cross: 1}}", "sweep.space.skipped: expected encoder or decoder, got cross"),
    ],
)
def test_layers_that_a_model_has_not_are_refused_before_it_measures(tiny_experiment, space, message, sampler):
    sweep = f"sweep={{sampler: {sampler}, trials: 2, method: layer-skip, space: {space}}}"
    with pytest.raises(nvreg.UserError, match=message):
        open_workbench(load_experiment(tiny_experiment, [sweep]))


def test_a_sweep_refuses_before_it_measures(tiny_experiment, tmp_path, monkeypatch):
    def refuse(self, model):
        raise nvreg.UserError("refused")

    monkeypatch.setattr(METHODS["prune"], "check", refuse)
    sweep = "{sampler: grid, method: prune, space: {share: {values: [0.5]}}}"
    experiment = load_experiment(tiny_experiment, [f"sweep={sweep}", f"output={tmp_path / 'out'}"])
    with pytest.raises(nvreg.UserError, match="refused"):
        run_sweep(experiment, quiet=True)
    assert not (tmp_path / "out").exists()
