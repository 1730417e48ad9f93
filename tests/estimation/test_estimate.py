"""The empirical prior against moments taken directly from what every module reads."""

import pytest
import torch
from transformers import Speech2TextConfig, Speech2TextForConditionalGeneration

import nvreg
from tests.models.architectures import ARCHITECTURES, PAD, random_ids, random_prior

MARIAN = next(each for each in ARCHITECTURES if each.name == "marian")


@pytest.fixture
def model():
    return MARIAN.build(dtype=torch.float32)


def batches(sizes=((3, 6), (2, 4)), dtype=torch.long):
    for seed, (rows, length) in enumerate(sizes):
        ids = random_ids(rows, length, seed=seed)
        mask = torch.ones_like(ids)
        mask[0, -2:] = 0
        labels = random_ids(rows, length - 1, seed=100 + seed)
        labels[1, -1] = -100
        yield {"input_ids": ids.masked_fill(mask == 0, PAD), "attention_mask": mask, "labels": labels}


def read_by_hand(model, site):
    """All vectors that the site's key projection reads, where keys are not padding."""
    rows = []
    projection = model.base_model.get_submodule(site.name).k_proj
    hook = projection.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    for batch in batches():
        read = []
        with torch.no_grad():
            model(**batch)
        real = batch["labels"] != -100 if site.role == "decoder" else batch["attention_mask"].bool()
        rows.append(read[0][real])
    hook.remove()
    return torch.cat(rows).double()


def test_moments_are_those_of_the_tokens_that_are_not_padding(model):
    prior = nvreg.estimate_prior(model, batches())
    assert prior.kind == "empirical"
    assert list(prior) == [site.name for site in nvreg.sites(model)]
    for site in nvreg.sites(model):
        z = read_by_hand(model, site)
        scale = model.base_model.get_submodule(site.name).scaling
        log_alpha = scale / 2 * z.square().sum(-1)
        moments = prior[site.name]
        assert moments.tokens == len(z)
        torch.testing.assert_close(moments.mean, z.mean(0))
        torch.testing.assert_close(moments.variance, z.var(0))
        torch.testing.assert_close(moments.log_alpha_mean, log_alpha.mean().item())
        torch.testing.assert_close(moments.log_alpha_std, log_alpha.std().item())


def test_decoder_layers_share_the_prior_of_the_encoder_output(model):
    prior = nvreg.estimate_prior(model, batches())
    cross = [prior[site.name] for site in nvreg.sites(model) if site.role == "cross"]
    assert len(cross) == 3
    for moments in cross[1:]:
        assert torch.equal(moments.mean, cross[0].mean)
        assert moments.log_alpha_std == cross[0].log_alpha_std


def test_it_stops_after_the_batch_that_reaches_the_limit(model):
    assert max(m.tokens for m in nvreg.estimate_prior(model, batches(), max_tokens=3).values()) == 16
    assert max(m.tokens for m in nvreg.estimate_prior(model, batches(), max_tokens=17).values()) == 22


def test_the_model_is_left_as_it_was(model):
    model.train()
    before = {name: len(module._forward_pre_hooks) for name, module in model.named_modules()}
    nvreg.estimate_prior(model, batches())
    assert model.training
    assert {name: len(module._forward_pre_hooks) for name, module in model.named_modules()} == before


def test_a_converted_model_is_refused(model):
    nvreg.convert_(model, random_prior(model))
    with pytest.raises(ValueError, match="unconverted"):
        nvreg.estimate_prior(model, batches())


def test_too_little_text_is_refused(model):
    with pytest.raises(nvreg.UserError, match="at least two tokens"):
        nvreg.estimate_prior(model, [])


def test_the_data_are_named(model):
    one = nvreg.estimate_prior(model, batches()).data
    assert one == nvreg.estimate_prior(model, batches()).data
    assert one != nvreg.estimate_prior(model, batches(((3, 6), (2, 5)))).data
    assert nvreg.estimate_prior(model, batches(), data_fingerprint="wikitext").data == "wikitext"


def test_tokens_that_an_encoder_makes_of_sound_count_unless_the_model_hides_them():
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 16}
    sound = {"input_feat_per_channel": 8, "conv_channels": 16, "max_source_positions": 64}
    config = Speech2TextConfig(vocab_size=40, pad_token_id=1, **sizes, **heads, **sound)
    model = Speech2TextForConditionalGeneration(config).eval()
    mask = torch.ones(2, 16, dtype=torch.long)
    mask[1, 8:] = 0  # four frames become one token
    labels = random_ids(2, 5)
    labels[0, 3:] = -100
    batch = {"input_features": torch.randn(2, 16, 8), "attention_mask": mask, "labels": labels}
    prior = nvreg.estimate_prior(model, [batch], space="heads")
    tokens = {site.role: prior[site.name].tokens for site in nvreg.sites(model, "heads")}
    assert tokens == {"encoder": 6, "cross": 6, "decoder": 8}
    assert prior.longest == 5
    for each in nvreg.sites(model, "heads"):
        assert prior[each.name].longest == (5 if each.role == "decoder" else 4)


@pytest.mark.parametrize("space", ["inputs", "heads"])
def test_what_is_not_finite_gives_no_prior(model, space):
    with torch.no_grad():
        model.get_encoder().layers[1].fc1.weight[0] = torch.nan
    with pytest.raises(nvreg.UserError, match=r"layers.\d.encoder_attn: expected finite moments, got NaN"):
        nvreg.estimate_prior(model, batches(), space=space)
