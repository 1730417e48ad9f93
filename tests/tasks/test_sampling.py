import json

import pytest
import torch

import nvreg
from nvreg.config import Evaluation, Reading
from nvreg.data import Examples
from nvreg.tasks import make_task
from nvreg.tasks.sampling import CALIBRATION_EXAMPLES, batches_of_file, random_batches
from tests.models.architectures import ARCHITECTURES
from tests.tasks import test_token_classification
from tests.tiny import LEXICON, tiny_marian


@pytest.fixture(scope="module")
def task():
    model, tokenizer = tiny_marian()
    return make_task(
        "translation", tokenizer, model.config, data=Reading(), evaluation=Evaluation(metrics=["nll"])
    )


@pytest.fixture(scope="module")
def examples():
    """Sources of 2 to 9 words, targets of one, the short ones first."""
    words = list(LEXICON)
    return Examples(
        [
            {"source": " ".join(words[: 2 + index // 25]), "target": LEXICON[words[index % 10]]}
            for index in range(200)
        ]
    )


def counted(batches):
    rows = sum(len(batch["labels"]) for batch in batches)
    return rows, sum(int(batch["attention_mask"].sum()) for batch in batches)


def test_it_has_the_tokens_that_are_asked_for_of_both_halves_of_a_model(task, examples):
    batches = random_batches(task, examples, 100)
    rows, _ = counted(batches)
    assert rows == 50  # two labels each, the word and the end
    assert sum(int((batch["labels"] != -100).sum()) for batch in batches) == 100


def test_long_and_short_examples_are_in_it_and_it_is_the_same_each_time(task, examples):
    batches = random_batches(task, examples, 100)
    rows, tokens = counted(batches)
    assert 5.5 < tokens / rows < 7.5  # 6.5 in the whole data set
    for one, other in zip(batches, random_batches(task, examples, 100), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_few_tokens_come_from_several_examples(task, examples):
    assert counted(random_batches(task, examples, 1))[0] == CALIBRATION_EXAMPLES


def test_a_small_data_set_is_taken_whole(task, examples):
    whole = list(task.teacher_forced(task.encode(examples)))
    assert counted(random_batches(task, examples, 10**6)) == counted(whole)


def build(name):
    return next(each for each in ARCHITECTURES if each.name == name).build()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_marian()[1]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "text.jsonl"
    pairs = [("a cat", "ein Kater"), ("the", ""), ("a small red dog .", "ein Hund"), ("a", "ein")]
    path.write_text("".join(json.dumps({"en": en, "de": de}) + "\n" for en, de in pairs))
    return path


def real_tokens(batch):
    return [ids[mask.bool()].tolist() for ids, mask in zip(*map(batch.get, INPUTS), strict=True)]


INPUTS = ("input_ids", "attention_mask")


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_a_model_of_one_text_reads_the_first_texts_padded(file, tokenizer, name):
    (batch,) = batches_of_file(build(name), tokenizer, file, "en", None, 3)
    expected = [tokenizer(text).input_ids for text in ("a small red dog .", "a cat", "the")]
    assert sorted(real_tokens(batch)) == sorted(expected)
    assert set(batch) == set(INPUTS)


def test_a_tagger_reads_words_as_its_task_does(tmp_path):
    model, tokenizer = test_token_classification.build("bert"), test_token_classification.pieces_tokenizer()
    data = test_token_classification.examples()
    data.records.append({"tokens": ["\ufe0f"], "tags": ["O"]})  # no piece, and nothing that is scored
    path = tmp_path / "words.jsonl"
    path.write_text("".join(json.dumps({"words": list(each["tokens"])}) + "\n" for each in data.records))
    batches = batches_of_file(model, tokenizer, path, "words", None)
    task = test_token_classification.token_classification(model, tokenizer)
    expected = list(task.teacher_forced(task.encode(data)))
    assert all(set(batch) == set(INPUTS) for batch in batches)
    for batch, other in zip(batches, expected, strict=True):
        assert all(torch.equal(batch[name], other[name]) for name in INPUTS)
    path.write_text('{"words": "a cat"}\n')
    (batch,) = batches_of_file(model, tokenizer, path, "words", None)
    assert real_tokens(batch) == [tokenizer("a cat").input_ids]
    path.write_text('{"words": ["a", "cat"]}\n')
    with pytest.raises(nvreg.UserError, match="expected text, got"):
        batches_of_file(build("bert"), tokenizer, path, "words", None)


def test_an_empty_text_is_left_out_where_it_has_no_token(file, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer.backend_tokenizer, "post_processor", None)
    (batch,) = batches_of_file(build("gpt2"), tokenizer, file, "de", None, 4)
    assert len(batch["input_ids"]) == 3


def test_a_long_text_is_cut_to_the_positions_of_the_model(tmp_path, tokenizer):
    path = tmp_path / "long.txt"
    path.write_text("cat " * 100 + "\n")
    (batch,) = batches_of_file(build("bert"), tokenizer, path, "text", None, 1)
    assert batch["input_ids"].shape == (1, 64)


def test_an_encoder_decoder_reads_pairs(file, tokenizer):
    (batch,) = batches_of_file(build("marian"), tokenizer, file, "en", "de", 4)
    assert set(batch) == {*INPUTS, "labels"}
    assert len(batch["labels"]) == 4


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [("marian", None, "expected --target-column"), ("bert", "de", "expected --column alone with bert")],
)
def test_columns_that_do_not_fit_the_model_are_a_mistake(file, tokenizer, name, target, message):
    with pytest.raises(nvreg.UserError, match=message):
        batches_of_file(build(name), tokenizer, file, "en", target, 4)


@pytest.mark.parametrize(("name", "target"), [("llama", None), ("marian", "de")])
def test_random_examples_of_so_many_tokens_and_no_fewer_than_32(tmp_path, tokenizer, name, target):
    path = tmp_path / "long.jsonl"
    path.write_text(100 * (json.dumps({"en": "a cat", "de": "ein Kater"}) + "\n"))

    def examples(tokens):
        batches = batches_of_file(build(name), tokenizer, path, "en", target, tokens=tokens)
        return sum(len(batch["input_ids"]) for batch in batches)

    assert [examples(tokens) for tokens in (4, 150, 10**6)] == [32, 50, 100]  # three tokens each


def test_the_languages_of_a_model_with_many_are_in_its_tokens(file):
    from tests.tasks.test_generation import mbart50

    tokenizer = mbart50()
    languages = {"source_language": "en_XX", "target_language": "de_DE"}
    reading = Reading(**languages)
    model = build("mbart")
    model.resize_token_embeddings(len(tokenizer))
    (batch,) = batches_of_file(model, tokenizer, file, "en", "de", 4, reading=reading)
    source, target = (tokenizer.convert_tokens_to_ids(language) for language in languages.values())
    assert (batch["input_ids"] == source).any(-1).all()
    assert (batch["labels"] == target).any(-1).all()


def test_a_prefix_is_before_every_source(file, tokenizer):
    reading = Reading(source_prefix="a small ")
    (batch,) = batches_of_file(build("t5"), tokenizer, file, "en", "de", 4, reading=reading)
    expected = [tokenizer(f"a small {text}").input_ids for text in ("a small red dog .", "a cat", "the", "a")]
    assert sorted(real_tokens(batch)) == sorted(expected)


@pytest.mark.parametrize("reading", [Reading(source_language="en"), Reading(source_prefix="en: ")])
def test_a_model_of_one_text_has_no_prefix_and_no_languages(file, tokenizer, reading):
    with pytest.raises(nvreg.UserError, match="reads one text, got a target, prefix or language: en"):
        batches_of_file(build("bert"), tokenizer, file, "en", None, reading=reading)
