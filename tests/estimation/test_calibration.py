"""Calibrated settings: the wanted weight of the prior at every site, however the sample comes."""

import math
import threading
from contextlib import ExitStack
from contextvars import ContextVar

import pytest
import torch

import nvreg
from nvreg.attention.settings import Settings
from nvreg.estimation.calibration import _Sample
from nvreg.methods import METHODS
from nvreg.models import convert, registry
from nvreg.models.conversion import conversion_of
from nvreg.models.convert import current_settings, is_converted
from nvreg.models.loading import load_model, load_tokenizer
from nvreg.models.teacher_forcing import query_masks, real_tokens
from nvreg.tasks.sampling import batches_of_file
from tests.fake_gpu import NothingReachesTheHost, on_fake_gpu
from tests.models.architectures import PAD, random_ids, random_prior
from tests.models.running import of, real

KINDS = ("marian", "t5", "bert", "gpt2", "llama yarn", "bert to bert")
EXACT = {"rel": 1e-6}


def sample(architecture, sizes=((3, 7), (2, 4))):
    """Batches with padding on the right, of a causal model too: what is padded there is no query."""
    batches = []
    for seed, (rows, length) in enumerate(sizes):
        ids = random_ids(rows, length, seed=seed)
        mask = torch.ones_like(ids)
        mask[0, -2:] = 0
        batch = {"input_ids": ids.masked_fill(mask == 0, PAD), "attention_mask": mask}
        if architecture.model_type == "whisper":
            batch = architecture.inputs(architecture.build(), batch=rows)
            del batch["decoder_input_ids"]
        if architecture.is_encoder_decoder:
            batch["labels"] = random_ids(rows, length - 1, seed=100 + seed)
            batch["labels"][1, -1] = -100
        batches.append(batch)
    return batches


def one_by_one(batches):
    """The same examples, each in a batch of its own, without padding."""
    for batch in batches:
        for row in range(len(batch["input_ids"])):
            kept = batch["attention_mask"][row].bool()
            single = {name: batch[name][row][kept][None] for name in ("input_ids", "attention_mask")}
            if "labels" in batch:
                labels = batch["labels"][row]
                single["labels"] = labels[labels != -100][None]
            yield single


def weights(model, batches):
    """The mean weight of the prior at each site, over real queries and heads."""
    seen = {site: [] for site in nvreg.sites(model)}
    masks = {}

    def observe(site, prior_weight, token_share):
        if prior_weight is not None:
            seen[site].append(real(prior_weight.transpose(1, 2), masks[site.role]))

    with torch.no_grad(), conversion_of(model).observed(observe):
        for batch in batches:
            masks.update(query_masks(model, batch))
            model(**batch)
    return {site: torch.cat(each).double().mean().item() if each else 0.0 for site, each in seen.items()}


def assert_same(settings, others):
    for role, values in settings.to_dict()["tau_alpha"].items():
        assert values == pytest.approx(others.to_dict()["tau_alpha"][role], rel=1e-4), role


# --- what is achieved -----------------------------------------------------------------------------


@of(*KINDS, "whisper", "whisper heads", "albert", "albert heads", "hrm_text")
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_sample_has_the_weights_that_were_asked_for(architecture, attention):
    model = architecture.build(attention=attention)
    prior, batches = random_prior(model), sample(architecture)
    settings = nvreg.calibrate(model, prior, batches, prior_weight=0.05, tau_sigma=0.3, tau_mu=0.9)
    assert settings.to_dict()["tau_sigma"] == 0.3
    assert settings.to_dict()["tau_mu"] == 0.9
    nvreg.convert_(model, prior, settings)
    assert weights(model, batches) == pytest.approx(dict.fromkeys(nvreg.sites(model), 0.05), **EXACT)


@of("marian", "qwen3", "gemma2", "gpt_oss", "t5 heads")
def test_with_a_noise_share_the_tau_sigma_that_it_stands_for_is_returned(architecture):
    model, shares = architecture.build(), {"prior_weight": 0.05, "noise_share": {"decoder": 0.02}}
    prior, batches = random_prior(model), sample(architecture)
    settings = nvreg.calibrate(model, prior, batches, **shares)
    assert "noise_share" not in settings.to_dict()
    nvreg.convert_(model, prior, Settings(noise_share=shares["noise_share"]))
    assert settings.to_dict()["tau_sigma"] == current_settings(model).to_dict()["tau_sigma"]
    nvreg.set_settings_(model, settings)
    assert weights(model, batches) == pytest.approx(dict.fromkeys(nvreg.sites(model), 0.05), **EXACT)


@of("marian")
@pytest.mark.parametrize("weight", [1e-9, 1e-3, 0.5, 0.999999])
def test_extreme_weights_are_reached(architecture, weight):
    model = architecture.build()
    prior, batches = random_prior(model), sample(architecture)
    nvreg.convert_(model, prior, nvreg.calibrate(model, prior, batches, prior_weight=weight))
    assert weights(model, batches) == pytest.approx(dict.fromkeys(nvreg.sites(model), weight), rel=1e-5)


@of("marian")
def test_weights_by_role_and_layer_and_none_where_none_is_named(architecture):
    model = architecture.build()
    prior, batches = random_prior(model), sample(architecture)
    wanted = {"encoder": 0.1, "cross": [0.0, 0.02, 0.4]}
    settings = nvreg.calibrate(model, prior, batches, prior_weight=wanted)
    tau_alpha = settings.to_dict()["tau_alpha"]
    assert {role: len(values) for role, values in tau_alpha.items()} == {"encoder": 2, "cross": 3}
    assert tau_alpha["cross"][0] == "inf"
    nvreg.convert_(model, prior, settings)
    expected = {"encoder": [0.1, 0.1], "cross": [0.0, 0.02, 0.4], "decoder": [0.0, 0.0, 0.0]}
    for site, weight in weights(model, batches).items():
        assert weight == pytest.approx(expected[site.role][site.layer], **EXACT)


@of("marian", "bert", "llama")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_holds_in_the_models_own_dtype(architecture, dtype):
    model = architecture.build(dtype=dtype)
    prior, batches = random_prior(model), sample(architecture)
    nvreg.convert_(model, prior, nvreg.calibrate(model, prior, batches, prior_weight=0.1, tau_sigma=0.2))
    assert weights(model, batches) == pytest.approx(dict.fromkeys(nvreg.sites(model), 0.1), rel=1e-3)


@of("bert", "marian")
def test_each_site_is_solved_on_what_the_solved_ones_before_it_produce(architecture):
    model = architecture.build()
    prior, batches = random_prior(model), sample(architecture)
    settings = nvreg.calibrate(model, prior, batches, prior_weight=0.3)
    layers = {role: len(values) for role, values in settings.to_dict()["tau_alpha"].items()}
    for role, count in layers.items():
        last = {role: [0.0] * (count - 1) + [0.3]}
        alone = nvreg.calibrate(model, prior, batches, prior_weight=last)
        together, by_itself = (each.value("tau_alpha", role, count - 1) for each in (settings, alone))
        assert together != pytest.approx(by_itself, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data", "columns"),
    [
        ("minilm-sst2", "classification/sst2", ("text", None)),
        ("stories260k", "language-modelling/stories", ("text", None)),
        ("marian-tatoeba-en-de", "translation/tatoeba", ("en", "de")),
    ],
)
def test_other_text_of_the_domain_has_the_weights_within_a_fifth(shared, name, data, columns):
    path, text = shared / "models" / name, shared / "data" / data
    model, tokenizer = load_model(path, device="cpu"), load_tokenizer(path)

    def read(split, tokens):
        return batches_of_file(model, tokenizer, text / f"{split}.jsonl", *columns, tokens=tokens)

    prior = nvreg.estimate_prior(model, read("train", 20_000))
    seen, unseen = read("train", 4096), read("validation", 8192)
    nvreg.convert_(model, prior)
    for weight, tau_sigma in ((0.01, 0.0), (0.2, 0.3)):
        options = {"prior_weight": weight, "tau_sigma": tau_sigma}
        nvreg.set_settings_(model, nvreg.calibrate(model, prior, seen, **options))
        assert weights(model, seen) == pytest.approx(dict.fromkeys(nvreg.sites(model), weight), rel=1e-3)
        assert weights(model, unseen) == pytest.approx(dict.fromkeys(nvreg.sites(model), weight), rel=0.2)


# --- how the sample comes ---------------------------------------------------------------------------


@of(*KINDS)
def test_batches_and_padding_change_nothing(architecture):
    model = architecture.build()
    prior, batches = random_prior(model), sample(architecture)
    options = {"prior_weight": 0.05, "tau_sigma": 0.3}
    settings = nvreg.calibrate(model, prior, batches, **options)
    assert_same(settings, nvreg.calibrate(model, prior, one_by_one(batches), **options))
    assert_same(settings, nvreg.calibrate(model, prior, batches[::-1], **options))


@of("marian", "llama yarn")
@pytest.mark.parametrize("is_split", [False, True], ids=["one batch", "several batches"])
def test_under_autocast_the_sample_has_the_weights_that_were_asked_for(architecture, is_split):
    model = architecture.build(dtype=torch.float32)
    prior, batches = random_prior(model), sample(architecture, sizes=((3, 7),))
    if is_split:
        (batch,) = batches
        batches = [{name: tensor[row : row + 1] for name, tensor in batch.items()} for row in range(3)]
    with torch.autocast("cpu", torch.bfloat16):
        settings = nvreg.calibrate(model, prior, batches, prior_weight=0.05, tau_sigma=0.3)
        nvreg.convert_(model, prior, settings)
        assert weights(model, batches) == pytest.approx(dict.fromkeys(nvreg.sites(model), 0.05), **EXACT)
    assert weights(model, batches) != pytest.approx(dict.fromkeys(nvreg.sites(model), 0.05), **EXACT)


CONTEXT = ContextVar("CONTEXT", default="none")


@of("marian")
def test_a_batch_runs_in_the_state_of_whoever_asks(architecture):
    def state(*_):
        return (
            torch.is_autocast_enabled("cpu"),
            torch.get_autocast_dtype("cpu"),
            torch.is_autocast_cache_enabled(),
            torch.get_default_device(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            CONTEXT.get(),
        )

    model, seen = architecture.build(), []
    prior, batches = random_prior(model), sample(architecture)
    model.get_encoder().register_forward_pre_hook(lambda *_: seen.append(state()))
    token, threads = CONTEXT.set("some"), torch.get_num_threads()
    torch.set_num_threads(3)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.float16, cache_enabled=False), torch.device("meta"):
            expected = state()
            nvreg.calibrate(model, prior, batches, prior_weight=0.05)
    finally:
        CONTEXT.reset(token)
        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.float32)
    assert seen == [expected] * len(batches)


@of("marian")
def test_one_batch_runs_at_a_time(architecture):
    model = architecture.build()
    running, most = [0], [0]

    def enter(*_):
        running[0] += 1
        most[0] = max(most[0], running[0])

    def leave(*_):
        running[0] -= 1

    layer = model.model.encoder.layers[0].fc1
    hooks = [layer.register_forward_pre_hook(enter), layer.register_forward_hook(leave)]
    nvreg.calibrate(model, random_prior(model), one_by_one(sample(architecture)), prior_weight=0.1)
    for hook in hooks:
        hook.remove()
    assert most == [1]


@of("marian")
def test_every_module_runs_once_a_batch(architecture):
    model = architecture.build()
    calls = []
    for site in nvreg.sites(model):
        module = model.base_model.get_submodule(site.name)
        module.register_forward_pre_hook(lambda _, args, name=site.name: calls.append(name))
    batches = sample(architecture)
    nvreg.calibrate(model, random_prior(model), batches, prior_weight=0.1)
    assert sorted(calls) == sorted(site.name for site in nvreg.sites(model) for _ in batches)


@of("marian")
def test_no_site_waits_for_a_gpu(architecture):
    model = architecture.build()
    (batch,) = sample(architecture, sizes=((3, 7),))
    site, conversion = nvreg.sites(model)[0], conversion_of(nvreg.convert_(model, random_prior(model)))
    solved, odds = _Sample(model, conversion, [batch], {site: 0.1}), torch.ones(3, 4, 7)
    tokens = real_tokens(model, query_masks(model, batch))[site.role]
    with ExitStack() as modes:
        odds, places = on_fake_gpu(modes, (odds, tokens.places))
        solved._here.index, solved._here.tokens = 0, {site.role: tokens._replace(places=places)}
        modes.enter_context(NothingReachesTheHost())
        with solved._turn:
            assert solved._meet(site, odds).device.type == "cuda"


# --- the model afterwards ---------------------------------------------------------------------------


@of("marian")
def test_an_unconverted_model_is_left_as_it_was(architecture):
    model, plain = architecture.build().train(), architecture.build()
    nvreg.calibrate(model, random_prior(model), sample(architecture), prior_weight=0.1)
    assert not is_converted(model)
    assert model.training
    inputs = architecture.inputs(model)
    assert torch.equal(model.eval()(**inputs).logits, plain(**inputs).logits)


@of("marian")
def test_a_converted_model_keeps_its_settings(architecture):
    model, prior = architecture.build(), random_prior(architecture.build())
    batches = sample(architecture)
    expected = nvreg.calibrate(model, prior, batches, prior_weight=0.1)
    settings = Settings(tau_alpha={"cross": [1.0, 2.0, math.inf]}, tau_mu={"decoder": 0.9})
    nvreg.convert_(model, prior, settings)
    logits = model(**batches[0]).logits
    assert_same(expected, nvreg.calibrate(model, prior, batches, prior_weight=0.1))
    assert current_settings(model) == settings
    assert torch.equal(model(**batches[0]).logits, logits)


@of("marian")
@pytest.mark.parametrize("convert", [False, True])
def test_an_error_leaves_the_model_as_it_was_and_no_thread_behind(architecture, convert):
    model, prior = architecture.build(), random_prior(architecture.build())
    settings = Settings(tau_sigma={"encoder": 0.2})
    if convert:
        nvreg.convert_(model, prior, settings)
    batches = [
        *one_by_one(sample(architecture)),
        {"input_ids": torch.tensor([[10**6]]), "labels": torch.ones(1, 1).long()},
    ]
    threads = threading.active_count()
    with pytest.raises(IndexError):
        nvreg.calibrate(model, prior, batches, prior_weight=0.1)
    assert is_converted(model) == convert
    assert not convert or current_settings(model) == settings
    assert threading.active_count() == threads
    model(**architecture.inputs(model))


@of("marian")
def test_nothing_asked_for_costs_nothing(architecture):
    model = architecture.build()
    settings = nvreg.calibrate(model, random_prior(model), [], prior_weight=0.0, tau_sigma={"cross": 0.2})
    assert settings == Settings(tau_sigma={"cross": 0.2})


# --- refusals ---------------------------------------------------------------------------------------


@of("marian")
@pytest.mark.parametrize("weight", [1.0, -0.1, math.nan, {"encoder": [0.1]}, {"mouth": 0.1}])
def test_weights_that_cannot_be_are_refused(architecture, weight):
    model = architecture.build()
    with pytest.raises(ValueError, match="prior_weight"):
        nvreg.calibrate(model, random_prior(model), sample(architecture), prior_weight=weight)


@of("bert")
def test_a_role_that_the_model_has_not_is_refused(architecture):
    model = architecture.build()
    with pytest.raises(ValueError, match="roles of this model"):
        nvreg.calibrate(model, random_prior(model), sample(architecture), prior_weight={"cross": 0.1})


@of("marian")
def test_a_prior_whose_spread_is_zero_is_refused(architecture):
    model = architecture.build()
    prior = dict(random_prior(model))
    name = "decoder.layers.1.encoder_attn"
    width = prior[name].width
    prior[name] = nvreg.Moments(torch.zeros(width), torch.ones(width), 0.0, 0.0)
    with pytest.raises(nvreg.UserError, match=rf"{name}.*s_alpha = 0"):
        nvreg.calibrate(model, nvreg.Prior(prior), sample(architecture), prior_weight=0.1)
    settings = nvreg.calibrate(model, nvreg.Prior(prior), sample(architecture), prior_weight={"encoder": 0.1})
    assert list(settings.to_dict()["tau_alpha"]) == ["encoder"]


@of("marian")
def test_a_sample_without_tokens_is_refused(architecture):
    model = architecture.build()
    prior, batches = random_prior(model), sample(architecture)
    with pytest.raises(nvreg.UserError, match="no batches"):
        nvreg.calibrate(model, prior, [], prior_weight=0.1)
    for batch in batches:
        batch["labels"][:] = -100
    with pytest.raises(nvreg.UserError, match="tokens for the decoder"):
        nvreg.calibrate(model, prior, batches, prior_weight=0.1)
    nvreg.calibrate(model, prior, batches, prior_weight={"encoder": 0.1})


@of("marian")
def test_a_model_converted_with_another_prior_is_refused(architecture):
    model = architecture.build()
    nvreg.convert_(model, random_prior(model))
    nvreg.calibrate(model, random_prior(model), sample(architecture), prior_weight=0.1)  # an equal one is not
    with pytest.raises(ValueError, match="converted with this prior"):
        nvreg.calibrate(model, random_prior(model, seed=1), sample(architecture), prior_weight=0.1)


@of("marian")
def test_a_model_under_another_method_is_refused(architecture):
    model = architecture.build()
    METHODS["sink"]().attach_(model, random_prior(model), [])
    with pytest.raises(ValueError, match="converted with this prior"):
        nvreg.calibrate(model, random_prior(model), sample(architecture), prior_weight=0.1)


@of("marian", "qwen3")
def test_sites_are_looked_for_once(architecture, monkeypatch):
    model = architecture.build()
    prior, batches, searches = random_prior(model), sample(architecture), []
    for name in ("attention_modules", "dispatching_modules"):
        found = getattr(convert, name)
        counted = lambda model, found=found: searches.append(model) or found(model)  # noqa: E731
        for module in (convert, registry):
            monkeypatch.setattr(module, name, counted)
    nvreg.calibrate(model, prior, batches, prior_weight=0.1)
    assert len(searches) == 1


@of("marian")
def test_nothing_is_solved_for_on_what_is_not_finite(architecture):
    model = architecture.build(dtype=torch.float32)
    prior = random_prior(model)
    with torch.no_grad():
        model.get_encoder().layers[0].fc1.weight[0] = torch.nan
    with pytest.raises(nvreg.UserError, match=r"^encoder.layers.1.self_attn: expected finite log-odds"):
        nvreg.calibrate(model, prior, sample(architecture), prior_weight=0.1)
