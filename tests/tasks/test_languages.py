import pytest
import torch
from transformers import (
    MBart50Tokenizer,
    MBartConfig,
    MBartForConditionalGeneration,
    MBartTokenizer,
    NllbTokenizer,
)

from nvreg.config import Evaluation, Reading
from nvreg.data import Examples
from nvreg.errors import UserError
from nvreg.tasks import make_task
from nvreg.tasks.languages import set_languages
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
