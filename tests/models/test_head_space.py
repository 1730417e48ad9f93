"""What is of head space alone: which modules are sites, what is refused, and what the prior says."""

import inspect
import warnings

import pytest
import torch
import transformers
from torch.testing import assert_close
from transformers import AutoConfig, AutoModelForCausalLM

import nvreg
from nvreg.attention.settings import Settings
from nvreg.errors import NvregWarning
from nvreg.models import IGNORED, dispatching
from nvreg.models.convert import current_settings, is_converted
from nvreg.models.dispatching import left_alone, scale_of
from nvreg.models.heads import _warn_beyond, attention_forward
from nvreg.models.registry import site_modules
from nvreg.models.teacher_forcing import key_masks
from scripts.tiny_models import tiny_model
from tests.models.architectures import IN_HEAD_SPACE, random_ids, random_prior
from tests.models.head_definition import attends_with_, mean_value
from tests.models.running import converted, generate, of, padded

pytestmark = pytest.mark.usefixtures("no_gradients")

_TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
_REFUSED = {  # model type to class, config, and whose softmax
    "bloom": ("BloomForCausalLM", {"hidden_size": 16, "n_layer": 2, "n_head": 4}, "BloomAttention"),
    "mpt": ("MptForCausalLM", {"d_model": 16, "n_layers": 2, "n_heads": 4}, "MptAttention"),
    "mpnet": ("MPNetForMaskedLM", _TINY, "MPNetSelfAttention"),
    "deberta-v2": ("DebertaV2ForMaskedLM", _TINY, "DisentangledSelfAttention"),
    "longformer": ("LongformerForMaskedLM", _TINY, "LongformerSelfAttention"),
    "gpt_neo": (
        "GPTNeoForCausalLM",
        {"hidden_size": 16, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
        "GPTNeoSelfAttention",
    ),
    "xglm": ("XGLMForCausalLM", {"d_model": 16, "num_layers": 2, "attention_heads": 4}, "XGLMAttention"),
    "big_bird": ("BigBirdForMaskedLM", _TINY, "BigBirdBlockSparseAttention"),
    "falcon": ("FalconForCausalLM", _TINY, "FalconAttention"),
}


@pytest.mark.parametrize("model_type", _REFUSED)
def test_attention_that_does_not_go_through_the_interface_is_refused_by_name(model_type):
    name, config, attention = _REFUSED[model_type]
    model = getattr(transformers, name)(AutoConfig.for_model(model_type, vocab_size=40, **config))
    for ask in (lambda: nvreg.sites(model, space="heads"), lambda: nvreg.convert_(model, no_prior())):
        with pytest.raises(nvreg.UserError, match=f"^this {model_type} cannot .* head space: .*{attention}"):
            ask()
    assert not is_converted(model)


def no_prior():
    one = torch.ones(1, 1)
    return nvreg.Prior({"x": nvreg.HeadMoments(one, one, one, torch.ones(1, 1, 1), one[0], 1.0)})


def test_options_that_the_attention_function_does_not_take_are_refused_by_name():
    config = tiny_model("minimax_m3_vl_text", "causal").config
    config.layer_types = ["minimax_m3_sparse"] * config.num_hidden_layers
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(
        nvreg.UserError, match=r"function of MiniMaxM3VLAttention at .* is given block_indices"
    ):
        nvreg.sites(model, "heads")


def test_what_the_attention_function_takes_is_what_is_said():
    taken = {
        name
        for name, each in inspect.signature(attention_forward).parameters.items()
        if each.kind is not each.VAR_KEYWORD
    }
    assert taken == {"module", *dispatching._TAKEN}
    assert not dispatching._TAKEN & dispatching._PASSED_OVER


@of("qwen3")
def test_one_attention_of_another_kind_refuses_the_whole_model(architecture, plain):
    class Own(torch.nn.Module):
        def forward(self, hidden_states, **_):
            return torch.softmax(hidden_states, -1), None

    plain.model.layers[1].self_attn = Own()
    with pytest.raises(nvreg.UserError, match=r"the softmax of Own at 'layers.1.self_attn'"):
        nvreg.sites(plain, space="heads")


@of("qwen3_next")
def test_layers_without_softmax_attention_are_left_alone_and_named(architecture, plain):
    assert [site.name for site in nvreg.sites(plain, space="heads")] == [
        "layers.1.self_attn",
        "layers.3.self_attn",
    ]
    assert left_alone(plain, site_modules(plain)) == {
        "layers.0": "Qwen3NextDecoderLayer",
        "layers.2": "Qwen3NextDecoderLayer",
    }
    before = [type(module) for module in plain.modules() if "GatedDelta" in type(module).__name__]
    model = converted(plain)
    assert [type(module) for module in model.modules() if "GatedDelta" in type(module).__name__] == before


def test_towers_and_attention_to_them_are_left_alone_and_named():
    model = tiny_model("mllama", "causal")
    sites = nvreg.sites(model, space="heads")
    assert [site.name for site in sites] == ["model.layers.0.self_attn", "model.layers.2.self_attn"]
    assert left_alone(model, sites) == {
        f"model.layers.{layer}": "MllamaCrossAttentionDecoderLayer" for layer in (1, 3)
    }
    model = tiny_model("gemma3", "causal")
    sites = nvreg.sites(model, space="heads")
    assert {site.name.partition(".")[0] for site in sites} == {"language_model"}
    assert left_alone(model, sites) == {"vision_tower": "SiglipVisionModel"}
    nvreg.convert_(
        model,
        nvreg.estimate_prior(model, [{"input_ids": random_ids(2, 5)}], space="heads"),
        Settings(tau_alpha=0.0),
    )
    assert left_alone(model, sites) == {"vision_tower": "SiglipVisionModel"}


def test_several_calls_in_one_module_are_refused_by_name():
    with pytest.raises(
        nvreg.UserError, match=r"function of DiffLlamaAttention at .* several times, each with values of its"
    ):
        nvreg.sites(tiny_model("diffllama", "causal"), space="heads")


def test_attention_to_two_texts_at_once_is_refused_by_name():
    with pytest.raises(
        nvreg.UserError, match=r"softmax of T5Gemma2MergedAttention at .* over two texts at once"
    ):
        nvreg.sites(tiny_model("t5gemma2", "sequence-to-sequence"), space="heads")


@of("bert to bert", "bart", "t5", "llama", "gpt2", "distilbert", "gpt_neox", "opt", "phi3 longrope")
def test_sites_are_those_of_input_space_where_a_model_has_both(architecture, plain):
    ours = [site._replace(width=0) for site in nvreg.sites(plain)]
    if architecture.name == "bert to bert":  # whose cross-attention is a module of its own class
        assert sorted(ours) == sorted(nvreg.sites(plain, space="heads"))
    else:
        assert ours == nvreg.sites(plain, space="heads")


@pytest.mark.parametrize("architecture", IN_HEAD_SPACE, ids=str)
def test_the_scale_that_the_code_says_is_the_one_that_is_given(architecture):
    model, given = architecture.build(), {}
    modules = site_modules(model, "heads")

    def run(site, query, key, value, added, scale, **_):
        given[site] = scale, scale_of(modules[site], key.shape[3])
        return mean_value(query, value), None

    attends_with_(model, run)(**architecture.inputs(model))
    assert given.keys() == modules.keys()
    assert all(scale == said for scale, said in given.values())


# --- the prior ------------------------------------------------------------------------------------


@of(
    "qwen3",
    "gemma2",
    "gpt_oss",
    "deepseek_v3",
    "modernbert heads",
    "t5 heads",
    "bart heads",
    "bert heads",
    "whisper heads",
)
def test_the_prior_is_that_of_the_keys_and_values_that_are_given(architecture, plain):
    batch, _ = padded(architecture, "right")
    if batch.pop("decoder_input_ids", None) is not None:
        batch["labels"] = random_ids(3, 5, seed=1)
        batch["labels"][1, 3:] = IGNORED
    prior = nvreg.estimate_prior(plain, [batch], space="heads")
    assert prior.space == "heads"
    assert not is_converted(plain)
    given, other = {}, architecture.build()

    def run(site, query, key, value, added, scale, softcap, s_aux):
        given[site] = key, value, scale
        key, value = (each.repeat_interleave(query.shape[1] // key.shape[1], 1) for each in (key, value))
        logits = scale * query @ key.mT
        if softcap is not None:
            logits = softcap * (logits / softcap).tanh()
        logits = logits + added
        if s_aux is not None:
            logits = torch.cat([logits, s_aux.view(1, -1, 1, 1).expand(*logits.shape[:3], 1)], -1)
        return logits.softmax(-1)[..., : key.shape[2]] @ value, None

    attends_with_(other, run)(**batch)
    masks = key_masks(plain, batch)
    assert list(prior) == [site.name for site in given]
    for site, (key, value, scale) in given.items():
        mask = masks[site.role]
        if mask is None:  # of sound
            mask = torch.ones(3, key.shape[2], dtype=torch.bool)
        k, v = (each.transpose(1, 2)[mask] for each in (key, value))
        moments = prior[site.name]
        log_alpha = scale / 2 * k.square().sum(-1)
        assert_close(moments.key_mean, k.mean(0))
        assert_close(moments.value_mean, v.mean(0))
        assert_close(moments.key_variance, k.var(0))
        for head in range(k.shape[1]):
            both = torch.cat([v[:, head], k[:, head]], -1).T
            assert_close(moments.covariance[head], both.cov()[: v.shape[2], v.shape[2] :])
        assert_close(moments.log_alpha_mean, log_alpha.mean(0))
        assert moments.log_alpha_std == pytest.approx(log_alpha.var(0).mean().sqrt().item())
        assert moments.tokens == mask.sum()
        assert moments.longest == mask.sum(-1).max()


@of("qwen3")
def test_a_prior_is_kept_with_its_longest_text(architecture, plain, tmp_path):
    batch, _ = padded(architecture, "right")
    prior = nvreg.estimate_prior(plain, [batch], space="heads")
    prior.save(tmp_path / "prior.safetensors")
    again = nvreg.Prior.load(tmp_path / "prior.safetensors")
    assert (again.space, again.longest, again.fingerprint) == ("heads", 7, prior.fingerprint)
    assert again.model == prior.model
    assert [moments.tokens for moments in again.values()] == [13] * 3
    again.check(plain)


@of("qwen3")
def test_texts_beyond_the_longest_of_the_prior_are_warned_of(architecture, plain):
    _warn_beyond.cache_clear()
    prior = nvreg.estimate_prior(plain, [architecture.inputs(plain)], space="heads")
    model = nvreg.convert_(plain, prior, Settings(tau_alpha=0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(**architecture.inputs(plain))
    with pytest.warns(NvregWarning, match="longer than the 7 tokens that the prior was estimated on"):
        model(random_ids(1, 8))


@pytest.mark.parametrize("cache", [None, "static"])
@of("qwen3")
def test_texts_that_generation_makes_longer_than_the_prior_s_are_warned_of(architecture, plain, cache):
    _warn_beyond.cache_clear()
    prior = nvreg.estimate_prior(plain, [architecture.inputs(plain)], space="heads")
    model = nvreg.convert_(plain, prior, Settings(tau_alpha=0.5))
    inputs, options = (
        {"input_ids": random_ids(2, 5)},
        {"cache_implementation": cache, "disable_compile": True},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", NvregWarning)
        generate(model, inputs, min_new_tokens=3, max_new_tokens=3, **options)  # the last is not read
    with pytest.warns(NvregWarning, match="longer than the 7 tokens that the prior was estimated on"):
        generate(model, inputs, min_new_tokens=4, max_new_tokens=4, **options)


@of("bert")
def test_texts_beyond_the_longest_of_the_prior_are_nothing_to_a_model_that_rotates_no_keys(
    architecture, plain
):
    _warn_beyond.cache_clear()
    plain.config.properties = ["europe", "rotaryless"]
    prior = nvreg.estimate_prior(plain, [architecture.inputs(plain)], space="heads")
    model = nvreg.convert_(plain, prior, Settings(tau_alpha=0.5))
    assert prior.longest < 12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(random_ids(1, 12))


@of("llama")
def test_a_prior_of_the_other_space_is_a_mistake_that_says_so(architecture, plain):
    inputs = nvreg.Prior.gaussian(plain)
    heads = nvreg.estimate_prior(plain, [architecture.inputs(plain)], space="heads")
    with pytest.raises(ValueError, match="expected moments of one space, got both"):
        nvreg.Prior({"a": next(iter(inputs.values())), "b": next(iter(heads.values()))})
    nvreg.convert_(plain, heads)
    with pytest.raises(ValueError, match=r"sites in 'inputs' space, got one that is converted in 'heads'"):
        nvreg.sites(plain, space="inputs")
    with pytest.raises(ValueError, match="converted with this prior"):
        nvreg.calibrate(plain, inputs, [architecture.inputs(plain)], prior_weight=0.1)


@of("qwen3")
def test_what_input_space_refuses_says_that_head_space_has_it(architecture, plain):
    hint = r"normalised after projection; convert it in head space .--space heads, method nv-heads"
    for ask in (lambda: nvreg.sites(plain), lambda: nvreg.estimate_prior(plain, [])):
        with pytest.raises(nvreg.UserError, match=hint):
            ask()


@of("qwen3")
def test_a_prior_of_other_widths_is_a_mistake(architecture, plain):
    prior = random_prior(plain)
    other = {
        name: nvreg.HeadMoments(
            each.key_mean[:, 1:],
            each.value_mean,
            each.key_variance[:, 1:],
            each.covariance[..., 1:],
            each.log_alpha_mean,
            each.log_alpha_std,
        )
        for name, each in prior.items()
    }
    model = nvreg.convert_(plain, nvreg.Prior(other), Settings(tau_alpha=0.5))
    with pytest.raises(nvreg.UserError, match=r"prior of 2 key heads with keys of width 6 .* got 2, 5, 6; "):
        model(**architecture.inputs(model))


# --- noise share ----------------------------------------------------------------------------------


@of("llama", "bart", "t5", "qwen3", "bart heads", "t5 heads", "opt heads")
def test_a_noise_share_is_the_mean_share_of_noise(architecture, plain):
    prior = random_prior(plain)
    model = nvreg.convert_(plain, prior, Settings(tau_alpha=1.0, noise_share={"decoder": 0.03}))
    resolved = current_settings(model)
    for site, module in site_modules(model).items():
        tau_sigma = resolved.at(site.role, site.layer).tau_sigma
        if site.role != "decoder":
            assert tau_sigma == 0
            continue
        moments = prior[site.name]
        if prior.space == "heads":
            variance, scale = moments.key_variance, scale_of(module, moments.shape[1])
        else:
            variance, scale = moments.variance, module.nv.adapter.scale(module)
        spread = tau_sigma**2 * variance
        assert (spread / (spread + 1 / scale)).mean().item() == pytest.approx(0.03, rel=1e-6)
    inputs = architecture.inputs(model)
    logits = model(**inputs).logits
    assert torch.equal(nvreg.set_settings_(model, resolved)(**inputs).logits, logits)


def test_noise_share_and_tau_sigma_exclude_each_other():
    with pytest.raises(ValueError, match="expected noise_share or tau_sigma, got both"):
        Settings(tau_sigma=0.1, noise_share={"decoder": 0.1})
    assert str(Settings(noise_share=0.01)) == "noise_share 0.01"
