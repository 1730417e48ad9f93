"""What is measured of every head, against attention maps, scipy and docs/method.md, section 6."""

import math
import weakref

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from torch.nn.functional import pad
from transformers import PreTrainedModel

import nvreg
from nvreg.attention.settings import SiteSettings
from nvreg.diagnostics import QUANTITIES, measure_heads, recording
from nvreg.models.conversion import conversion_of
from nvreg.models.convert import attach_, set_sites_
from nvreg.models.dispatching import scale_of
from nvreg.models.inputs import SinkState, SiteSink, SiteTemperature, TemperatureState
from nvreg.models.registry import site_modules
from nvreg.models.teacher_forcing import query_masks
from tests.estimation.test_estimate import batches
from tests.models.architectures import ARCHITECTURES, IN_HEAD_SPACE, random_prior
from tests.models.running import converted, real
from tests.models.test_measuring import MAPS, teacher_forced

pytestmark = pytest.mark.filterwarnings(
    "ignore:Version v4.12.0 introduces"
)  # EncoderDecoderModel, given labels
MEASURED_IN_HEAD_SPACE = ("qwen3", "gemma2", "deepseek_v3", "modernbert heads", "t5 heads", "bart heads")
MARIAN = next(each for each in ARCHITECTURES if each.name == "marian")


def maps_of(model, batch):
    """By site, the maps that the model returns, of real queries: shape (queries, heads, keys)."""
    for part in model.modules():
        if isinstance(part, PreTrainedModel):
            part.config._attn_implementation = "eager"
    with torch.no_grad():
        outputs = model(**batch, output_attentions=True)
    masks = query_masks(model, batch)
    found = {}
    for site in nvreg.sites(model):
        maps = next(outputs[name] for name in MAPS[site.role] if name in outputs)
        found[site] = real(maps[site.layer].transpose(1, 2), masks[site.role]).double()
    return found


def by_hand(model, batch):
    """The quantities by site, head and name."""
    modules, expected = site_modules(model), {}
    for site, weights in maps_of(model, batch).items():
        conversion, module = conversion_of(model), modules[site]
        state, moments = conversion.states[site], conversion.prior[site.name]
        setting = state.settings
        state.settings = SiteSettings()  # the sites before it are as they were, and so are its inputs
        pretrained = maps_of(model, batch)[site]
        state.settings = setting
        if setting.is_identity:
            weights = pad(weights, (1, 0))
        prior_weight = weights[..., 0]
        if isinstance(moments, nvreg.HeadMoments):
            variance, scale = moments.key_variance, scale_of(module, moments.key_mean.shape[1])
        else:
            variance, scale = moments.variance, state.adapter.scale(module)
        kept = 1 / scale / (setting.tau_sigma**2 * variance + 1 / scale)
        values = {
            "prior_weight": prior_weight,
            "discarded_share": 1 - setting.tau_mu * (1 - prior_weight) * kept.mean(),
            "entropy": torch.from_numpy(entropy(weights, axis=-1)),
            "divergence": torch.from_numpy(jensenshannon(weights, pad(pretrained, (1, 0)), axis=-1) ** 2),
        }
        for quantity, value in values.items():
            for head, mean in enumerate(value.nan_to_num().mean(0).tolist()):
                expected[site.role, site.layer, head, quantity] = mean
    return expected


def as_dict(measured):
    keys = ["role", "layer", "head", "quantity"]
    return {tuple(row[key] for key in keys): row["value"] for row in measured.to_dict("records")}


@pytest.mark.parametrize(
    "architecture",
    [*ARCHITECTURES, *(each for each in IN_HEAD_SPACE if each.name in MEASURED_IN_HEAD_SPACE)],
    ids=str,
)
def test_every_head_is_measured_in_every_architecture(architecture):
    model = converted(architecture.build(dtype=torch.float32))
    batch = {
        name: each.float() if each.is_floating_point() else each
        for name, each in teacher_forced(architecture).items()
    }
    measured = as_dict(measure_heads(model, [batch]))
    expected = by_hand(model, batch)
    assert measured == pytest.approx(expected, rel=1e-4, abs=5e-6)
    assert max(value for (*_, quantity), value in expected.items() if quantity == "divergence") > 0.01


@pytest.fixture
def model():
    return converted(MARIAN.build())


def test_means_are_over_all_queries_of_all_batches(model):
    first, second = batches()
    together = {}
    for name, filling in (("input_ids", 0), ("attention_mask", 0), ("labels", -100)):
        longer = pad(second[name], (0, first[name].shape[1] - second[name].shape[1]), value=filling)
        together[name] = torch.cat([first[name], longer])
    separate = as_dict(measure_heads(model, [first, second]))
    assert separate == pytest.approx(as_dict(measure_heads(model, [together])))


def test_means_over_heads_and_sites_are_what_a_sweep_records(model):
    with recording(model) as record, torch.no_grad():
        for batch in batches():
            model(**batch)
    measured = measure_heads(model, batches())
    by_site = measured.groupby(["role", "layer", "quantity"])["value"].mean().groupby("quantity").mean()
    assert by_site["prior_weight"] == pytest.approx(record.prior_weight)
    assert by_site["discarded_share"] == pytest.approx(record.strength)


@pytest.mark.parametrize("is_converted", [False, True])
def test_at_identity_there_is_entropy_alone(is_converted):
    model = MARIAN.build()
    if is_converted:
        nvreg.convert_(model, random_prior(model))
    means = measure_heads(model, batches()).groupby("quantity")["value"].agg(["min", "max"])
    for quantity in QUANTITIES:
        low, high = means.loc[quantity]
        assert low > 0 if quantity == "entropy" else (low, high) == (0, 0)


@pytest.mark.parametrize(
    ("form", "setting"),
    [(TemperatureState, SiteTemperature(0.5)), (SinkState, SiteSink(1.0))],
    ids=["temperature", "sink"],
)
def test_a_control_is_measured_too(form, setting):
    model = MARIAN.build()
    attach_(model, form)
    set_sites_(model, lambda site: setting)
    means = measure_heads(model, batches()).groupby("quantity")["value"].agg(["min", "max"])
    assert means.loc["divergence", "min"] > 0
    assert (means.loc["prior_weight", "min"] > 0) == (form is SinkState)
    assert (means.loc["prior_weight", "max"] > 0) == (form is SinkState)


def test_where_only_the_prior_is_seen_nothing_is_shared_with_the_pretrained_attention():
    model = converted(MARIAN.build(), nvreg.Settings(tau_alpha=-1e6))
    means = measure_heads(model, batches()).groupby("quantity")["value"].mean()
    assert means[list(QUANTITIES)].tolist() == pytest.approx([1, 1, 0, math.log(2)])


@pytest.mark.parametrize("name", ["marian", "umt5", "gpt_neo", "llama"])
def test_the_maps_of_one_site_are_gone_before_the_next_one_runs(name):
    architecture = next(each for each in ARCHITECTURES if each.name == name)
    model, seen = converted(architecture.build()), []

    def watch(_module, _args, output):
        assert [map() for map in seen] == [None] * len(seen)
        seen.append(weakref.ref(output[-1]))

    for module in site_modules(model).values():
        module.register_forward_hook(watch)
    measure_heads(model, [teacher_forced(architecture)])
    assert len(seen) == len(nvreg.sites(model))


def test_nothing_is_left_behind_even_after_an_error(model):
    with pytest.raises(IndexError):
        measure_heads(model, [*batches(), {"input_ids": torch.tensor([[10**6]]), "labels": torch.ones(1, 1)}])
    assert model.config._attn_implementation == "sdpa"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    model.generate(input_ids=next(batches())["input_ids"], max_new_tokens=3)


def test_each_half_of_an_encoder_decoder_keeps_its_attention():
    architecture = next(each for each in ARCHITECTURES if each.name == "bert to gpt2")
    model = converted(architecture.build())
    model.decoder.config._attn_implementation = "eager"
    measure_heads(model, [teacher_forced(architecture)])
    assert model.encoder.config._attn_implementation == "sdpa"
    assert model.decoder.config._attn_implementation == "eager"


def test_no_tokens_are_a_mistake(model):
    with pytest.raises(nvreg.UserError, match="at least one token"):
        measure_heads(model, [])


def test_every_run_of_a_layer_is_measured_by_itself():
    albert = next(each for each in IN_HEAD_SPACE if each.name == "albert heads")
    model = albert.build()
    tau_alpha = {"encoder": [float("inf")] * 8}
    tau_alpha["encoder"][5] = 0.5
    nvreg.convert_(model, random_prior(model), nvreg.Settings(tau_alpha=tau_alpha))
    means = measure_heads(model, [albert.inputs(model)]).groupby(["quantity", "layer"])["value"].mean()
    for quantity in ("prior_weight", "divergence"):
        assert [layer for layer, value in means[quantity].items() if value > 0] == [5]
    assert means["entropy"].nunique() == 8
