"""Prior weight and discarded share against the attention maps and the definition."""

from contextlib import ExitStack

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

import nvreg
from nvreg.diagnostics import Record, SiteMeans, recording
from nvreg.models.teacher_forcing import query_masks
from tests.estimation.test_estimate import batches
from tests.fake_gpu import NothingReachesTheHost, on_fake_gpu
from tests.models.architectures import ARCHITECTURES, random_prior, random_settings

MARIAN = next(each for each in ARCHITECTURES if each.name == "marian")


def measured(model):
    with recording(model) as record, torch.no_grad():
        for batch in batches():
            model(**batch)
    return record


def assert_same(shares, expected):
    assert shares.keys() == expected.keys()
    for site, share in shares.items():
        assert tuple(share) == pytest.approx(tuple(expected[site]))


@pytest.mark.parametrize("convert", [False, True])
def test_at_identity_nothing_is_discarded(convert):
    model = MARIAN.build()
    if convert:
        nvreg.convert_(model, random_prior(model))
    record = measured(model)
    assert (record.prior_weight, record.strength) == (0.0, 0.0)


def test_only_prior_and_query_remain_at_the_other_end():
    model = MARIAN.build()
    nvreg.convert_(model, random_prior(model), nvreg.Settings(tau_alpha=-1e6))
    record = measured(model)
    assert record.prior_weight == pytest.approx(1)
    assert record.strength == pytest.approx(1)


def test_they_are_the_means_over_real_queries_heads_and_sites():
    model = MARIAN.build(attention="eager")
    settings, prior = random_settings(model), random_prior(model)
    nvreg.convert_(model, prior, settings)
    record = measured(model)

    weights = {site: [] for site in nvreg.sites(model)}
    for batch in batches():
        with torch.no_grad():
            outputs = model(**batch, output_attentions=True)
        masks = query_masks(model, batch)
        by_role = {
            "encoder": outputs.encoder_attentions,
            "cross": outputs.cross_attentions,
            "decoder": outputs.decoder_attentions,
        }
        for site in weights:
            maps = by_role[site.role][site.layer]
            weights[site].append(maps[..., 0].transpose(1, 2)[masks[site.role]])
    prior_weights, shares = [], []
    for site, collected in weights.items():
        at = settings.at(site.role, site.layer)
        weight = torch.cat(collected).mean().item() if at.has_prior else 0.0
        scale = model.base_model.get_submodule(site.name).scaling
        kept = (1 / scale / (at.tau_sigma**2 * prior[site.name].variance + 1 / scale)).mean().item()
        prior_weights.append(weight)
        shares.append(1 - at.tau_mu * (1 - weight) * kept)
    assert record.prior_weight == pytest.approx(sum(prior_weights) / len(prior_weights))
    assert record.strength == pytest.approx(sum(shares) / len(shares))


def test_nothing_is_left_behind():
    model = MARIAN.build()
    nvreg.convert_(model, random_prior(model), nvreg.Settings(tau_alpha=0.0))
    measured(model)
    assert not model._forward_pre_hooks
    model.generate(input_ids=next(batches())["input_ids"], max_new_tokens=3)


@pytest.mark.parametrize("generates", [False, True])
def test_an_encoder_run_by_itself_counts_and_generation_does_not(generates):
    model = MARIAN.build()
    nvreg.convert_(model, random_prior(model), random_settings(model))
    whole = measured(model)
    with recording(model) as record, torch.no_grad():
        for batch in batches():
            inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
            states = model.get_encoder()(**inputs).last_hidden_state
            rest = {name: tensor for name, tensor in batch.items() if name != "input_ids"}
            model(encoder_outputs=(states,), **rest)
            if generates:
                mask = inputs["attention_mask"]
                model.generate(encoder_outputs=BaseModelOutput(states), attention_mask=mask, max_new_tokens=3)
    assert_same(record.means, whole.means)


def test_a_record_goes_on_and_takes_over_what_was_seen_before():
    model = MARIAN.build()
    nvreg.convert_(model, random_prior(model), random_settings(model))
    whole, record = measured(model), Record(model)
    for batch in batches():
        with recording(model, record), torch.no_grad():
            model(**batch)
    assert_same(record.means, whole.means)
    site = nvreg.sites(model)[0]
    record.reuse({site: SiteMeans(0.5, 0.75)})
    assert_same(record.means, {**whole.means, site: SiteMeans(0.5, 0.75)})


def test_a_device_is_read_once_a_batch(monkeypatch):
    model = MARIAN.build()
    nvreg.convert_(model, random_prior(model), random_settings(model))
    read = []
    own = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: read.append(tensor.numel()) or own(tensor))
    numbers = len(list(batches()))
    measured(model).means  # noqa: B018
    assert len([each for each in read if each > 1]) == numbers


def observed(inputs, layer):
    """A record of what sites on one device have seen, where the inputs are on another, or on the same."""
    model = MARIAN.build()
    record, sites = Record(model), list(nvreg.sites(model))
    mask, weight = torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 4, 5)
    with ExitStack() as modes:
        mask, weight = on_fake_gpu(modes, (mask, weight), inputs)
        weight = weight.to(layer) if layer != inputs else weight
        modes.enter_context(NothingReachesTheHost())
        record._masks = dict.fromkeys(("encoder", "cross", "decoder"), mask)
        for site in sites:
            record.observe(site, weight, 0.5)
            record.observe(site, None, 0.5)
    return record


@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_no_observer_waits_for_a_gpu(device):
    for _, queries, weight, _ in observed("cuda:0", device)._unread:
        assert queries.device.type == "cuda"
        assert not isinstance(weight, torch.Tensor) or weight.device == torch.device(device)


def test_where_a_device_has_no_float64_the_cpu_adds_up():
    weights = [each[2] for each in observed("mps", "mps")._unread]
    assert {each.device.type for each in weights if isinstance(each, torch.Tensor)} == {"cpu"}
