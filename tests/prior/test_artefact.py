import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import nvreg
from tests.estimation.test_estimate import batches
from tests.models.architectures import ARCHITECTURES

BART, MARIAN = (next(each for each in ARCHITECTURES if each.name == name) for name in ("bart", "marian"))


@pytest.fixture
def model():
    return MARIAN.build(dtype=torch.float32)


@pytest.fixture
def prior(model):
    return nvreg.estimate_prior(model, batches())


def test_what_is_saved_is_loaded(prior, tmp_path):
    prior.save(tmp_path / "prior.safetensors")
    again = nvreg.Prior.load(tmp_path / "prior.safetensors")
    assert (again.kind, again.model, again.data) == (prior.kind, prior.model, prior.data)
    assert again.fingerprint == prior.fingerprint
    for name, moments in prior.items():
        assert torch.equal(again[name].mean, moments.mean)
        assert torch.equal(again[name].variance, moments.variance)
        assert again[name].log_alpha_mean == moments.log_alpha_mean
        assert again[name].log_alpha_std == moments.log_alpha_std
        assert again[name].tokens == moments.tokens
    assert list(tmp_path.iterdir()) == [tmp_path / "prior.safetensors"]


def test_the_fingerprint_notices_any_change(prior):
    moments = dict(prior)
    name = next(iter(moments))
    old = moments[name]
    moments[name] = nvreg.Moments(old.mean, old.variance, old.log_alpha_mean + 1e-9, old.log_alpha_std)
    assert nvreg.Prior(moments).fingerprint != prior.fingerprint


def test_a_prior_of_other_weights_is_refused(prior):
    with pytest.raises(nvreg.UserError, match=r"expected a prior of this model .*got one of marian"):
        nvreg.convert_(MARIAN.build(seed=1, dtype=torch.float32), prior)


def test_a_prior_of_another_architecture_is_refused(prior):
    with pytest.raises(nvreg.UserError, match=r"bart .*got one of marian"):
        nvreg.convert_(BART.build(), prior)


def test_one_changed_weight_is_another_model(model, prior):
    prior.check(model)
    with torch.no_grad():
        model.base_model.decoder.layers[0].fc1.weight[0, 0] += 0.5
    with pytest.raises(nvreg.UserError, match="prior of this model"):
        prior.check(model)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_prior_serves_the_model_in_any_dtype(model, prior, dtype):
    prior.check(copy.deepcopy(model).to(dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_prior_of_a_half_precision_model_serves_the_full_one(model, dtype):
    nvreg.estimate_prior(copy.deepcopy(model).to(dtype), batches()).check(model)


def test_a_prior_serves_another_head_of_the_same_body(model, prior):
    prior.check(model.base_model)


def test_missing_sites_and_other_widths_are_refused(model):
    prior = nvreg.Prior.gaussian(model)
    some = dict(list(prior.items())[1:])
    with pytest.raises(nvreg.UserError, match=r"expected a prior for the site 'encoder.layers.0.self_attn'"):
        nvreg.convert_(model, nvreg.Prior(some))
    narrow = {name: nvreg.Moments.gaussian(3) for name in prior}
    with pytest.raises(nvreg.UserError, match=r"width 16 .*got 3"):
        nvreg.convert_(model, nvreg.Prior(narrow))


def test_files_that_are_no_prior_are_refused(tmp_path):
    with pytest.raises(nvreg.UserError, match="found no file"):
        nvreg.Prior.load(tmp_path / "none")
    (tmp_path / "text").write_text("hello, this is no prior")
    with pytest.raises(nvreg.UserError, match="another kind of file"):
        nvreg.Prior.load(tmp_path / "text")
    save_file({"weight": torch.zeros(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(nvreg.UserError, match="another kind of file"):
        nvreg.Prior.load(tmp_path / "weights.safetensors")
    save_file({"weight": torch.zeros(2)}, tmp_path / "deep.safetensors", metadata={"nvreg": "[" * 100_000})
    with pytest.raises(nvreg.UserError, match="another kind of file"):
        nvreg.Prior.load(tmp_path / "deep.safetensors")


@given(st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_flipped_bit_goes_unnoticed(prior, tmp_path, data):
    path = tmp_path / "prior.safetensors"
    prior.save(path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        again = nvreg.Prior.load(path)
    except nvreg.UserError:
        return
    # Blanks between the header's values may be others.
    assert (again.fingerprint, again.model, again.data, again.kind) == (
        prior.fingerprint, prior.model, prior.data, prior.kind)  # fmt: skip


def test_moments_that_are_not_finite_are_refused_with_the_file(prior, tmp_path):
    prior.save(path := tmp_path / "prior.safetensors")
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith(".mean"))
    tensors[name][0] = torch.nan
    with safe_open(path, framework="pt") as file:
        metadata = {"nvreg": file.metadata()["nvreg"]}  # as an earlier version wrote it, without a digest
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(nvreg.UserError, match=rf"{path}, got expected finite moments, got NaN"):
        nvreg.Prior.load(path)
