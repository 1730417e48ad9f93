"""Generated text: its language, and what of a checkpoint's generation config is followed."""

import json

import pytest
import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import (
    MBart50Tokenizer,
    MBartConfig,
    MBartForConditionalGeneration,
    MBartTokenizer,
    NllbTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from nvreg.config import Evaluation, Reading
from nvreg.data import Examples
from nvreg.errors import UserError
from nvreg.experiment import load_experiment
from nvreg.models.loading import load_model, load_tokenizer
from nvreg.sweep.workbench import open_workbench
from nvreg.tasks import make_task
from nvreg.tasks.generation import set_languages, try_generation
from tests.tiny import tiny_marian

WORDS = ("<s>", "<pad>", "</s>", "<unk>", "▁a", "▁b")


def mbart():
    return MBartTokenizer(vocab=[(word, -1.0) for word in WORDS])


def mbart50():
    return MBart50Tokenizer(vocab=[(word, -1.0) for word in WORDS])


def nllb():
    return NllbTokenizer(vocab={word: index for index, word in enumerate(WORDS)}, merges=[])


@pytest.mark.parametrize(
    ("build", "source", "target", "option"),
    [
        (mbart50, "en_XX", "de_DE", "forced_bos_token_id"),
        (nllb, "eng_Latn", "deu_Latn", "forced_bos_token_id"),
        (mbart, "en_XX", "de_DE", "decoder_start_token_id"),
    ],
)
def test_languages_mark_both_texts_and_start_the_generation(build, source, target, option):
    tokenizer = build()
    options = set_languages(tokenizer, source, target)
    assert options == {option: tokenizer.convert_tokens_to_ids(target)}
    assert tokenizer.convert_tokens_to_ids(source) in tokenizer("a").input_ids
    assert tokenizer.convert_tokens_to_ids(target) in tokenizer(text_target="a").input_ids
    assert set_languages(tokenizer, None, None) == options


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("english", "de_DE", "data.source_language: expected a language of .* got 'english'"),
        ("en_XX", "german", "data.target_language: expected a language of .* got 'german'"),
        ("en_XX", None, "data.target_language, or --target-language: expected a language, as"),
    ],
)
def test_unknown_or_missing_language_is_refused(source, target, message):
    with pytest.raises(UserError, match=message):
        set_languages(mbart50(), source, target)


def test_tokenizer_of_one_pair_needs_no_language():
    assert set_languages(tiny_marian()[1], None, None) == {}


def test_generated_text_begins_with_the_target_language():
    tokenizer = mbart50()
    torch.manual_seed(0)
    config = MBartConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=32,
        decoder_start_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
    )
    model = MBartForConditionalGeneration(config).eval()
    generated = []
    original = model.generate
    model.generate = lambda **inputs: generated.append(original(**inputs)) or generated[-1]
    task = make_task(
        "translation",
        tokenizer,
        model.config,
        data=Reading(source_language="en_XX", target_language="de_DE"),
        evaluation=Evaluation(metrics=["bleu"], generation={"num_beams": 1, "max_new_tokens": 5}),
    )
    frame = task.score(model, task.encode(Examples([{"source": "a b", "target": "b"}])))
    assert generated[0][0, 1] == tokenizer.convert_tokens_to_ids("de_DE")
    assert "de_DE" not in frame["prediction"][0]


SOURCES = ("a cat sees", "the red dog likes a big tree", "a bird")


@pytest.fixture
def checkpoint(tmp_path):
    """Write a tiny translation model with more in its generation_config.json, and return its directory."""

    def write(**options):
        for part in tiny_marian():
            part.save_pretrained(tmp_path)
        path = tmp_path / "generation_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | options))
        return tmp_path

    return write


def generated(directory, beams=1, batch_tokens=2048):
    model, tokenizer = load_model(directory), load_tokenizer(directory)
    generation = {"num_beams": beams, "max_new_tokens": 6}
    evaluation = Evaluation(metrics=["bleu"], batch_tokens=batch_tokens, generation=generation)
    task = make_task("translation", tokenizer, model.config, data=Reading(), evaluation=evaluation)
    task.check_model(model)
    examples = Examples([{"source": source, "target": "ein Kater"} for source in SOURCES])
    return list(task.score(model, task.encode(examples))["prediction"])


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"num_return_sequences": 3, "num_beams": 4},
        {"num_return_sequences": 3, "do_sample": True},
        {"return_dict_in_generate": True, "output_scores": True},
        {"return_dict_in_generate": True, "output_logits": True, "output_hidden_states": True},
        {"output_attentions": True},
        {"max_time": 1e-9},
        {"prompt_lookup_num_tokens": 3},
        {"prefill_chunk_size": 2},
        {"low_memory": True},
        {"cache_implementation": "quantized"},
    ],
    ids=str,
)
def test_a_source_has_one_text_whatever_the_checkpoint_returns_beside_it(checkpoint, beams, options):
    expected = generated(checkpoint(), beams)
    assert generated(checkpoint(**options), beams) == expected


@pytest.mark.parametrize(
    ("beams", "options", "named"),
    [
        (1, {"penalty_alpha": 0.6, "top_k": 4}, "penalty_alpha"),
        (3, {"num_beam_groups": 3, "diversity_penalty": 0.5, "num_beams": 3}, "num_beam_groups"),
        (3, {"force_words_ids": [[5]], "num_beams": 3}, "force_words_ids"),
        (1, {"dola_layers": "high"}, "dola_layers"),
        (1, {"guidance_scale": 1.5}, "guidance_scale"),
        (1, {"token_healing": True}, "token_healing"),
        (1, {"stop_strings": 5}, "stop_strings"),
        (1, {"stop_strings": ["ein"]}, "stop_strings"),  # the tiny tokenizer has words, but no letters
    ],
)
def test_what_cannot_be_served_is_named(checkpoint, beams, options, named):
    with pytest.raises(UserError, match=rf"{named}.*generation_config.json"):
        generated(checkpoint(**options), beams)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_return_sequences": 3}, "num_return_sequences"),
        ({"num_return_sequences": 3, "num_beams": 2}, "num_return_sequences"),
        ({"early_stopping": "perhaps"}, "early_stopping"),
        ({"cache_implementation": "huge"}, "cache_implementation"),
        ({"watermarking_config": {"seeding_scheme": "none"}}, "watermarking_config"),
    ],
)
def test_what_transformers_refuses_to_load_is_named_and_not_the_weights(checkpoint, options, named):
    message = rf"expected options of generation .*{named}.*; change them in generation_config.json$"
    with pytest.raises(UserError, match=message):
        load_model(checkpoint(**options))


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"forced_bos_token_id": 999}, "forced_bos_token_id"),
        ({"bad_words_ids": [[999]]}, "bad_words_ids"),
        ({"decoder_start_token_id": 999}, "decoder_start_token_id"),
        ({"forced_eos_token_id": 999}, "forced_eos_token_id"),
        ({"repetition_penalty": "high", "no_repeat_ngram_size": 2}, "repetition_penalty"),
        ({"eos_token_id": "x", "encoder_repetition_penalty": -1.0}, "encoder_repetition_penalty"),
    ],
)
def test_an_option_that_generation_fails_with_is_named(checkpoint, beams, options, named):
    with pytest.raises(UserError, match=rf"'{named}'.*generation_config.json; remove") as caught:
        generated(checkpoint(**options), beams)
    assert all((repr(name) in str(caught.value)) == (name != "no_repeat_ngram_size") for name in options)


def test_a_sweep_says_so_before_it_measures_anything(checkpoint, tiny_experiment, tmp_path):
    directory = checkpoint(dola_layers="high")
    overrides = [f"model.path={directory}", f"output={tmp_path / 'run'}"]
    with pytest.raises(UserError, match="dola_layers"):
        open_workbench(load_experiment(tiny_experiment, overrides))


def of_letters():
    """A tiny model whose tokens are letters, and a tokenizer that has them all."""
    letters = {letter: number for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}
    backend = Tokenizer(WordLevel(letters))
    backend.pre_tokenizer, backend.decoder = Split("", "isolated"), decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="<pad>")
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=4,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=tokenizer.pad_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_()
    model.generation_config.no_repeat_ngram_size = 1
    return model, tokenizer


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("batch_tokens", [1, 2048])
def test_text_ends_with_a_stop_string_of_the_checkpoint(beams, batch_tokens):
    model, tokenizer = of_letters()
    generation = {"num_beams": beams, "max_new_tokens": 12}
    evaluation = Evaluation(metrics=["bleu"], batch_tokens=batch_tokens, generation=generation)
    task = make_task("translation", tokenizer, model.config, data=Reading(), evaluation=evaluation)
    encoded = task.encode(Examples([{"source": source, "target": "x"} for source in ("cat", "dogs", "sea")]))
    whole = list(task.score(model, encoded)["prediction"])
    stop = whole[0][3:5]
    model.generation_config.stop_strings = [stop]
    stopped = list(task.score(model, encoded)["prediction"])
    assert len(stop) == 2
    assert any(text.endswith(stop) for text in stopped)
    assert all(stop not in text[:-1] for text in stopped)
    if beams == 1:
        assert stopped == [text.partition(stop)[0] + stop * (stop in text) for text in whole]


def test_a_model_whose_weights_are_offloaded_generates():
    accelerate = pytest.importorskip("accelerate", reason="needs accelerate")
    model, tokenizer = tiny_marian()
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    assert model.device.type == "meta"
    try_generation(model, tokenizer, Evaluation(metrics=["bleu"]).generation)
