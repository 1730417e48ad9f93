"""Whatever happens to a cache happens to the bias of each key; the prior is never in it."""

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch.testing import assert_close
from transformers import EncoderDecoderCache, QuantizedCache, StaticCache, cache_utils
from transformers.cache_utils import DynamicCache, QuantizedLayer

import nvreg
from nvreg.attention.settings import Settings
from tests.models.architectures import EOS, VOCABULARY, random_ids, random_prior, random_settings, sites_of
from tests.models.running import EXACT, generate, of, padded, run_definition_

IN_BOTH_SPACES = True

pytestmark = pytest.mark.usefixtures("no_gradients", "generating")


def growing(architecture, inputs):
    """Split inputs into those that a cache grows by, with their name, and the rest."""
    name = "decoder_input_ids" if architecture.is_encoder_decoder else "input_ids"
    rest = dict(inputs)
    return name, rest.pop(name), rest


def steps(model, cache, name, ids, rest):
    """Return the logits of ``ids`` fed two at once, two more, and then one by one."""
    logits = []
    for part in ids.split([2, 2, *[1] * (ids.shape[1] - 4)], dim=1):
        outputs = model(**rest, **{name: part}, past_key_values=cache, use_cache=True)
        cache = outputs.past_key_values
        logits.append(outputs.logits)
    return torch.cat(logits, dim=1)


def exactness(architecture):
    return {"rtol": 1e-4, "atol": 1e-4} if architecture.mixes_in_float32 else EXACT


def test_cached_steps_equal_one_full_forward(architecture, model):
    inputs = architecture.inputs(model)
    name, ids, rest = growing(architecture, inputs)
    assert_close(steps(model, None, name, ids, rest), model(**inputs).logits, **exactness(architecture))


def test_steps_in_a_static_cache_equal_one_full_forward(architecture, model):
    if not architecture.has_static_cache:
        pytest.skip(f"{architecture} has no static cache")
    inputs = architecture.inputs(model)
    name, ids, rest = growing(architecture, inputs)
    cache = StaticCache(config=model.config, max_cache_len=12)
    if architecture.is_encoder_decoder:
        source = StaticCache(config=model.config, max_cache_len=rest["input_ids"].shape[1])
        cache = EncoderDecoderCache(cache, source)
    assert_close(steps(model, cache, name, ids, rest), model(**inputs).logits, **exactness(architecture))


@pytest.mark.parametrize(
    ("operate", "rows", "dropped"),
    [
        (lambda cache: cache.crop(-2), [0, 1, 2], 2),
        (lambda cache: cache.reorder_cache(torch.tensor([2, 0, 0])), [2, 0, 0], 0),
        (lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1, 2, 2], 0),
        (lambda cache: cache.batch_select_indices(torch.tensor([2, 0])), [2, 0], 0),
    ],
    ids=["crop", "reorder", "repeat", "select"],
)
def test_keys_are_cropped_and_reordered_with_their_bias(architecture, model, operate, rows, dropped):
    if architecture.model_type == "qwen3_next":
        pytest.skip("the state of linear attention can be neither cropped nor repeated")
    name, ids, rest = growing(architecture, architecture.inputs(model))
    cache = model(**rest, **{name: ids[:, :2]}, use_cache=True).past_key_values
    cache.activate_past_recording()
    model(**rest, **{name: ids[:, 2:]}, past_key_values=cache, use_cache=True)
    assert cache.get_seq_length() == ids.shape[1]
    operate(cache)
    rest = {other: tensor[rows] for other, tensor in rest.items()}
    new = random_ids(len(rows), 3, seed=2)
    whole = torch.cat([ids[rows, : ids.shape[1] - dropped], new], dim=1)
    continued = model(**rest, **{name: new}, past_key_values=cache, use_cache=True).logits
    assert_close(continued, model(**rest, **{name: whole}).logits[:, -3:], **exactness(architecture))


class Rounded(QuantizedLayer):
    """Keeps keys and values to three places."""

    def _quantize(self, tensor, axis):
        return tensor.round(decimals=3)

    def _dequantize(self, tensor):
        return tensor


def test_a_bias_is_not_quantised_but_keys_without_are_in_input_space(architecture, model):
    name, ids, rest = growing(architecture, architecture.inputs(model))

    def cache():
        rounding = DynamicCache()
        rounding.layers = [Rounded() for _ in range(4)]
        return EncoderDecoderCache(rounding, DynamicCache()) if architecture.is_encoder_decoder else rounding

    with pytest.raises(nvreg.UserError, match=r"bit for bit, .* got a Rounded; "):
        steps(model, cache(), name, ids, rest)
    nvreg.set_settings_(model, Settings(tau_alpha=0.5))
    expected = steps(model, None, name, ids, rest)
    assert_close(steps(model, cache(), name, ids, rest), expected, rtol=0.05, atol=0.05)


@of("qwen3", slow=["gemma2", "deepseek_v3", "t5 heads", "bart heads", "gpt2 heads"])
def test_every_key_may_be_quantised_in_head_space_and_is_the_pretrained_one(architecture, model):
    name, ids, rest = growing(architecture, architecture.inputs(model))
    rounding = DynamicCache()
    rounding.layers = [Rounded() for _ in range(4)]
    if architecture.is_encoder_decoder:
        rounding = EncoderDecoderCache(rounding, DynamicCache())
    expected = steps(model, None, name, ids, rest)
    assert_close(steps(model, rounding, name, ids, rest), expected, rtol=0.05, atol=0.05)
    cache = model(**rest, **{name: ids[:, :-1]}, use_cache=True).past_key_values
    plain = architecture.build()
    assert cache.get_seq_length() == ids.shape[1] - 1
    first = getattr(cache, "self_attention_cache", cache).layers[0].keys
    untouched = plain(**rest, **{name: ids[:, :-1]}, use_cache=True).past_key_values
    assert torch.equal(first, getattr(untouched, "self_attention_cache", untouched).layers[0].keys)


CACHES = {
    "offloaded": lambda config: DynamicCache(config=config, offloading=True),
    "offloaded static": lambda config: StaticCache(config=config, max_cache_len=12, offloading=True),
    "fp8": lambda config: QuantizedCache("fp8", config),
}


class Stream:
    """In place of the stream on which a cache moves keys to a GPU and from it."""

    def wait_stream(self, stream):
        pass

    def __enter__(self):
        pass

    def __exit__(self, *error):
        pass


@pytest.mark.parametrize("kind", CACHES)
@of("qwen3", slow=["llama heads", "deepseek_v3", "gpt2 heads", "bart heads"])
def test_it_is_the_definition_whatever_the_cache_hands_back_in_head_space(
    architecture, plain, kind, monkeypatch
):
    if kind == "fp8" and not hasattr(cache_utils, "Fp8QuantizedLayer"):
        pytest.skip("this Transformers has no caches in 8 bits")
    monkeypatch.setattr(torch, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: Stream())
    name, ids, rest = growing(architecture, architecture.inputs(plain))
    prior, settings = random_prior(plain), random_settings(plain)
    defined = run_definition_(architecture.build(), prior, settings)
    model = nvreg.convert_(plain, prior, settings)

    def cache():
        made = CACHES[kind](model.config.get_text_config(decoder=True))
        return EncoderDecoderCache(made, DynamicCache()) if architecture.is_encoder_decoder else made

    logits, expected = (steps(each, cache(), name, ids, rest) for each in (model, defined))
    assert_close(logits, expected, **exactness(architecture))


@pytest.mark.parametrize("kind", ["offloaded", "offloaded static"])
@of("llama", slow=["bart", "gpt2", "opt", "gpt_neox"])
def test_an_offloaded_cache_is_as_good_as_another_in_input_space(architecture, model, kind, monkeypatch):
    monkeypatch.setattr(torch, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: Stream())
    name, ids, rest = growing(architecture, architecture.inputs(model))
    cache = CACHES[kind](model.config)
    if architecture.is_encoder_decoder:
        cache = EncoderDecoderCache(cache, DynamicCache())
    assert_close(steps(model, cache, name, ids, rest), model(**rest, **{name: ids}).logits, **EXACT)


@of("qwen3", slow=["gpt_oss", "gemma2", "deepseek_v3", "t5 heads", "bart heads", "gpt2 heads"])
def test_the_setting_of_the_last_layer_changes_under_a_cache_in_head_space(architecture, model):
    name, ids, rest = growing(architecture, architecture.inputs(model))
    earlier = [float("inf")] * max(site.layer for site in sites_of(model) if site.role == "decoder")
    cache = nvreg.set_settings_(model, Settings())(**rest, **{name: ids[:, :-1]}, use_cache=True)
    last = Settings(
        tau_alpha={"decoder": [*earlier, 0.5]},
        tau_sigma={"decoder": [*(0.0 for _ in earlier), 0.4]},
        tau_mu={"decoder": [*(1.0 for _ in earlier), 0.8]},
    )
    expected = nvreg.set_settings_(model, last)(**rest, **{name: ids}).logits[:, -1:]
    more = {name: ids[:, -1:], "past_key_values": cache.past_key_values}
    assert_close(model(**rest, **more, use_cache=True).logits, expected, **exactness(architecture))


NO_BIAS = Settings(tau_alpha=0.5)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(NO_BIAS, Settings(tau_sigma=0.3), id="sigma"),
        pytest.param(NO_BIAS, Settings(tau_mu=0.8), id="mu", marks=pytest.mark.slow),
        pytest.param(Settings(tau_sigma=0.3), NO_BIAS, id="no more", marks=pytest.mark.slow),
    ],
)
def test_a_cache_of_other_settings_is_refused_in_input_space(architecture, model, before, after):
    name, ids, rest = growing(architecture, architecture.inputs(model))
    nvreg.set_settings_(model, before)
    cache = model(**rest, **{name: ids}, use_cache=True).past_key_values
    nvreg.set_settings_(model, after)
    with pytest.raises(nvreg.UserError, match=r"filled under the present settings, .* empty cache"):
        model(**rest, **{name: ids}, past_key_values=cache, use_cache=True)


tokens = st.integers(EOS + 1, VOCABULARY - 1)


@examples(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prefix=st.lists(tokens, min_size=1, max_size=5),
    suffixes=st.lists(st.tuples(tokens, tokens), min_size=2, max_size=2),
)
def test_a_cached_bias_depends_on_no_later_token_in_input_space(architecture, plain, model, prefix, suffixes):
    nvreg.set_settings_(model, Settings(tau_alpha=0.5, tau_sigma=0.3, tau_mu=0.8))
    name, _, rest = growing(architecture, architecture.inputs(model))
    rest = {other: tensor[[0, 0]] for other, tensor in rest.items()}
    ids = torch.tensor([prefix + list(suffix) for suffix in suffixes])
    caches = [each(**rest, **{name: ids}, use_cache=True).past_key_values for each in (model, plain)]
    layers = [getattr(cache, "self_attention_cache", cache).layers for cache in caches]
    for layer, plain_layer in zip(*layers, strict=True):
        assert layer.keys.shape[-1] == plain_layer.keys.shape[-1] + 1
        first, second = layer.keys[:, :, :-2]
        assert_close(first, second, **EXACT)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="greedy"),
        pytest.param({"do_sample": True, "top_k": 0}, id="sampling", marks=pytest.mark.slow),
        pytest.param({"num_beams": 3, "num_return_sequences": 2}, id="beams"),
    ],
)
def test_generation_with_a_cache_equals_generation_without(architecture, model, options):
    inputs = architecture.inputs(model)
    ids = generate(model, inputs, **options)
    assert ids == generate(model, inputs, use_cache=False, **options)
    if architecture.has_static_cache:
        assert ids == generate(model, inputs, cache_implementation="static", disable_compile=True, **options)


def test_generation_goes_on_from_a_cache(architecture, model):
    if architecture.is_encoder_decoder:
        pytest.skip("generate() feeds the whole prefix of an encoder-decoder model again, cached or not")
    ids = random_ids(3, 7)
    first, more = ({"max_new_tokens": n, "min_new_tokens": n, "do_sample": False} for n in (2, 3))
    begun = model.generate(ids, **first, return_dict_in_generate=True)
    prefix = {"input_ids": begun.sequences, "attention_mask": torch.ones_like(begun.sequences)}
    again = model.generate(**prefix, **more, past_key_values=begun.past_key_values)
    assert again.tolist() == generate(model, {"input_ids": ids})


def test_a_left_padded_batch_equals_its_rows_alone(architecture, model):
    if architecture.is_encoder_decoder:
        pytest.skip("an encoder's absolute positions count padding on the left")
    batch, alone = padded(architecture, "left")
    positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    logits = model(**batch, position_ids=positions).logits
    for row, single in enumerate(alone):
        expected = model(**single).logits[0]
        assert_close(logits[row, -len(expected) :], expected, **exactness(architecture))


def test_a_padded_batch_generates_what_its_rows_generate_alone(architecture, model):
    batch, alone = padded(architecture, "right" if architecture.is_encoder_decoder else "left")
    together = generate(model, batch)
    for row, single in enumerate(alone):
        assert together[row][-5:] == generate(model, single)[0][-5:]
