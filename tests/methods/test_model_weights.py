"""Noise, low rank and the mean with the pretrained checkpoint, on the weights themselves."""

import pytest
import torch
from torch.testing import assert_close

import nvreg
from nvreg.methods import METHODS
from nvreg.models.weights import attention_weights
from tests.models.architectures import ARCHITECTURES, random_prior
from tests.models.running import each_of, of

of_every_form = of("marian", "bert", "albert", "gpt2", "gpt_neox", "phi3 sliding", "gpt_bigcode")


def attached(name, model, **options):
    method = METHODS[name](**options)
    method.attach_(model, random_prior(model), [])
    return method


def matrices(model):
    return {
        (site.name, kind): weight.clone()
        for site, weights in attention_weights(model).items()
        for kind, weight in weights._asdict().items()
    }


def others(model):
    """All parameters but those of attention."""
    ours = {
        weight.untyped_storage().data_ptr() for each in attention_weights(model).values() for weight in each
    }
    return [weight for weight in model.parameters() if weight.untyped_storage().data_ptr() not in ours]


@pytest.mark.parametrize("architecture", each_of(ARCHITECTURES))
def test_the_views_are_the_weights_of_keys_and_values(architecture):
    from nvreg.models.registry import attention_modules

    model = architecture.build()
    modules = attention_modules(model)
    for site, weights in attention_weights(model).items():
        adapter, module = modules[site]
        for factor in (1.0, 3.0):
            weights.key.mul_(factor)
            key, value = adapter.projections(module)
            for view, projection in ((weights.key, key), (weights.value, value)):
                assert view.numel() == projection.weight.numel()
                assert_close(view.flatten(1).norm(), projection.weight.norm())
                ours, theirs = (
                    torch.linalg.svdvals(each) for each in (view.flatten(1), projection.weight.flatten(0, 1))
                )
                assert_close(ours, theirs)


# --- noise ----------------------------------------------------------------------------------------


@of_every_form
def test_noise_has_the_norm_that_is_asked_for_and_keys_and_values_alone_have_it(architecture):
    model, plain = architecture.build(), architecture.build()
    method = attached("weight-noise", model)
    method.set_(model, method.setting_type(scale=0.25, seed=3))
    before, after = matrices(plain), matrices(model)
    for (site, kind), weight in before.items():
        change = (after[site, kind] - weight).norm() / weight.norm()
        assert change.item() == pytest.approx(0 if kind == "output" else 0.25, rel=1e-5)
    assert all(map(torch.equal, others(model), others(plain)))


@of("marian")
def test_a_seed_is_a_direction_and_the_scale_how_far(architecture):
    model, original = architecture.build(), matrices(architecture.build())
    method = attached("weight-noise", model)

    def noise(**values):
        method.set_(model, method.setting_type(**values))
        return torch.cat([(each - original[name]).flatten() for name, each in matrices(model).items()])

    one = noise(scale=0.1, seed=1)
    assert_close(noise(scale=0.2, seed=1), 2 * one)
    assert torch.equal(noise(scale=0.1, seed=1), one)
    assert torch.corrcoef(torch.stack([noise(scale=0.1, seed=2), one]))[0, 1].abs() < 0.1
    cross = noise(scale={"cross": 0.1}, seed=1)
    assert 0 < (cross != 0).sum() < (one != 0).sum()
    assert torch.equal(cross[cross != 0], one[cross != 0])


def test_a_seed_is_a_whole_number_for_the_whole_model():
    setting = METHODS["weight-noise"].setting_type
    with pytest.raises(ValueError, match="whole number"):
        setting(scale=0.1, seed=0.5)
    with pytest.raises(ValueError, match="one number for the whole model"):
        setting(scale=0.1, seed={"encoder": 1})


# --- low rank -------------------------------------------------------------------------------------


@of_every_form
def test_the_largest_singular_values_stay(architecture):
    model, plain = architecture.build(), architecture.build()
    method = attached("low-rank", model)
    method.set_(model, method.setting_type(keep=0.3))
    before, after = matrices(plain), matrices(model)
    for name, weight in before.items():
        values, kept = (torch.linalg.svdvals(each.flatten(1)) for each in (weight, after[name]))
        rank = -(-3 * len(values) // 10)
        assert_close(kept[:rank], values[:rank])
        assert_close(kept[rank:], torch.zeros_like(kept[rank:]))
        assert_close((after[name] - weight).norm(), values[rank:].norm())
    assert all(map(torch.equal, others(model), others(plain)))


# --- the pretrained checkpoint --------------------------------------------------------------------


@pytest.fixture
def pretrained(tmp_path):
    def save(architecture, **options):
        architecture.build(seed=1, dtype=torch.float32, **options).save_pretrained(tmp_path)
        return str(tmp_path)

    return save


@of("marian", "t5 v1.1", "bert", "gpt2")
def test_bodies_are_mixed_and_the_head_is_the_fine_tuned_one(architecture, pretrained):
    tuned, base = architecture.build(), architecture.build(seed=1)
    model = architecture.build()
    method = attached("wise-ft", model, pretrained=pretrained(architecture))
    method.set_(model, method.setting_type(mix=0.25))
    body = {id(weight) for name, weight in model.base_model.named_parameters() if "lm_head" not in name}
    mixed = 0
    for now, ours, theirs in zip(model.parameters(), tuned.parameters(), base.parameters(), strict=True):
        if id(now) in body:
            assert_close(now.detach(), 0.25 * ours.detach() + 0.75 * theirs.detach(), atol=1e-6, rtol=1e-6)
            mixed += 1
        else:
            assert torch.equal(now, ours)
    assert mixed > len(list(model.parameters())) / 2
    method.set_(model, method.setting_type(mix=0.0))
    assert not torch.equal(
        model(**architecture.inputs(model)).logits, tuned(**architecture.inputs(model)).logits
    )


@of("bert")
def test_a_checkpoint_of_another_head_will_do(architecture, tmp_path):
    from transformers import AutoModelForSequenceClassification

    base = architecture.build(seed=1, dtype=torch.float32)
    base.save_pretrained(tmp_path)
    tuned = AutoModelForSequenceClassification.from_config(base.config).eval()
    head = tuned.classifier.weight.clone()
    method = attached("wise-ft", tuned, pretrained=str(tmp_path))
    method.set_(tuned, method.setting_type(mix=0.0))
    assert torch.equal(
        tuned.bert.encoder.layer[0].output.dense.weight, base.bert.encoder.layer[0].output.dense.weight
    )
    assert torch.equal(tuned.classifier.weight, head)


@of("bert")
def test_another_model_than_the_pretrained_one_is_refused(architecture, tmp_path):
    from transformers import BertConfig, BertModel

    BertModel(BertConfig(**architecture.config | {"intermediate_size": 48}, vocab_size=40)).save_pretrained(
        tmp_path
    )
    with pytest.raises(nvreg.UserError, match=r"pretrained: expected the checkpoint.*got \(48"):
        attached("wise-ft", architecture.build(), pretrained=str(tmp_path))


@of("bert")
def test_the_fingerprint_is_that_of_the_checkpoint(architecture, tmp_path):
    fingerprints = set()
    for seed in (1, 2):
        architecture.build(seed=seed, dtype=torch.float32).save_pretrained(tmp_path / str(seed))
        fingerprints.add(METHODS["wise-ft"](pretrained=str(tmp_path / str(seed))).fingerprint)
    assert len(fingerprints) == 2
    assert METHODS["wise-ft"](pretrained=str(tmp_path / "1")).fingerprint in fingerprints


# --- refusals -------------------------------------------------------------------------------------


@of("llama")
@pytest.mark.parametrize("name", ["weight-noise", "low-rank"])
def test_adapters_are_refused(architecture, name):
    peft = pytest.importorskip("peft")
    model = architecture.build(dtype=torch.float32)
    peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["k_proj"], r=2), model)
    with pytest.raises(nvreg.UserError, match="merge_and_unload"):
        attached(name, model)
