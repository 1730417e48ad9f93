"""A padding token that was added to the tokenizer alone: padding is masked, so that another token serves."""

import json

import numpy as np
import pytest
import torch

from nvreg.config import Evaluation, Reading
from nvreg.data import Examples
from nvreg.models.teacher_forcing import decoder_inputs, run_body
from nvreg.tasks import TASKS, make_task
from tests.cli.running import run
from tests.models.architectures import VOCABULARY
from tests.tasks import test_classification, test_language_modelling, test_multiple_choice
from tests.tiny import tiny_marian, word_tokenizer, write_corpus

PAIRS = Examples([{"source": "a cat sees", "target": "ein"}, {"source": "a", "target": "ein Kater sieht ."}])


def with_padding_outside(tokenizer, vocabulary=VOCABULARY):
    """Add tokens that the model has no vectors for; padding is the last of them."""
    tokenizer.add_tokens([f"<{number}>" for number in range(len(tokenizer), vocabulary)])
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id >= vocabulary
    return tokenizer


def frames(build, make, examples, *, others=lambda model: None):
    """Score with the model's own padding, and with one outside."""
    for outside in (False, True):
        model, tokenizer = build()
        if outside:
            with_padding_outside(tokenizer, model.config.vocab_size)
            others(model)
        task = make(model, tokenizer)
        encoded = task.encode(examples)
        for batch in task.teacher_forced(encoded):
            run_body(model, batch)
        yield task.score(model, encoded)


def assert_same(frame, other):
    assert list(frame) == list(other)
    for column in frame:
        if column == "prediction":
            assert list(frame[column]) == list(other[column])
        else:
            rows, expected = (np.hstack(list(each[column])) for each in (other, frame))
            assert rows == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", test_language_modelling.KINDS)
def test_a_language_model(name):
    tested = test_language_modelling

    def build():
        return tested.build(name), word_tokenizer(tested.KINDS[name])

    assert_same(*frames(build, tested.modelling, tested.texts()))


def test_multiple_choice_of_a_model_without_padding():
    tested = test_multiple_choice

    def build():
        return tested.build(), word_tokenizer("<s> $A")

    assert_same(*frames(build, tested.multiple_choice, tested.QUESTIONS))


@pytest.mark.parametrize("name", test_classification.HEADS)
def test_classification_with_the_config_s_own(name):
    tested = test_classification

    def build():
        return tested.build(name), word_tokenizer(tested.TEMPLATES[name])

    assert_same(*frames(build, tested.classification, tested.examples()))


def test_classification_by_the_last_token_before_padding_that_is_outside_too():
    tested = test_classification

    def build():
        return tested.build("gpt2"), word_tokenizer("$A")

    def others(model):
        model.config.pad_token_id = VOCABULARY

    assert_same(*frames(build, tested.classification, tested.examples(), others=others))


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("is_models_too", [False, True])
def test_translation(beams, is_models_too):
    evaluation = Evaluation(
        metrics=TASKS["translation"].metrics(), generation={"num_beams": beams, "max_new_tokens": 6}
    )

    def make(model, tokenizer):
        return make_task("translation", tokenizer, model.config, data=Reading(), evaluation=evaluation)

    def others(model):
        if is_models_too:
            model.config.pad_token_id = model.generation_config.pad_token_id = model.config.vocab_size

    assert_same(*frames(tiny_marian, make, PAIRS, others=others))


def test_decoders_are_fed_with_tokens_that_they_have():
    model, _ = tiny_marian()
    labels = torch.tensor([[3, 4, -100, -100]])
    assert decoder_inputs(model, labels).tolist() == [[0, 3, 4, model.config.pad_token_id]]
    model.config.pad_token_id = model.config.vocab_size
    assert decoder_inputs(model, labels).max() < model.config.vocab_size


def test_the_command_line(tmp_path):
    model, tokenizer = tiny_marian()
    model.save_pretrained(tmp_path / "model")
    with_padding_outside(tokenizer, model.config.vocab_size).save_pretrained(tmp_path / "model")
    write_corpus(tmp_path)
    text = ("--column", "en", "--target-column", "de")
    prior = run(
        "prior", tmp_path / "model", tmp_path / "prior", "--data", tmp_path / "home/train.jsonl", *text
    )
    assert prior.exit_code == 0, prior.output
    data = ("--prior-data", tmp_path / "home/train.jsonl", *text)
    converted = run("convert", tmp_path / "model", tmp_path / "nv", *data, "--prior-weight", "0.05")
    assert converted.exit_code == 0, converted.output
    assert json.loads((tmp_path / "nv/nvreg.json").read_text())["settings"]["tau_alpha"]
