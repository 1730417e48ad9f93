"""What is not finite is never a score, and what has nothing to score is refused, in every task."""

import pytest
import torch

from nvreg.data import Examples
from nvreg.errors import NotFiniteError, UserError
from nvreg.tasks import encode, score_set
from tests.tasks import test_classification as classification
from tests.tasks import test_language_modelling as modelling
from tests.tasks import test_multiple_choice as choice
from tests.tasks import test_sequence_to_sequence as translation
from tests.tasks import test_token_classification as tagging
from tests.tiny import tiny_marian, word_tokenizer

TEXTS = ["a small cat", "a big dog", "the red tree sees", "a bird", "tree ."]
"""The third and the fifth have the word that the models here are broken for."""


def classifier():
    model, tokenizer = classification.build("bert"), word_tokenizer("<s> $A </s>")
    records = [{"text": text, "label": 0} for text in TEXTS]
    return model, tokenizer, classification.classification(model, tokenizer), records


def tagger():
    model, tokenizer = tagging.build("bert"), word_tokenizer("<s> $A </s>")
    records = [{"tokens": text.split(), "tags": ["O"] * len(text.split())} for text in TEXTS]
    return model, tokenizer, tagging.token_classification(model, tokenizer), records


def chooser():
    model, tokenizer = choice.build(), word_tokenizer("$A")
    records = [{"context": text, "choices": ["a dog", "Haus", "red"], "label": 0} for text in TEXTS]
    return model, tokenizer, choice.multiple_choice(model, tokenizer), records


def reader():
    model, tokenizer = modelling.build("llama"), word_tokenizer("<s> $A")
    records = [{"text": f"{text} ."} for text in TEXTS]
    return model, tokenizer, modelling.modelling(model, tokenizer), records


def translator(metrics=("nll",), beams=1):
    model, tokenizer = tiny_marian()
    records = [{"source": text, "target": "ein Hund"} for text in TEXTS]
    return model, tokenizer, translation.translation((model, tokenizer), metrics, beams=beams), records


MODELS = {
    "classification": classifier,
    "token-classification": tagger,
    "multiple-choice": chooser,
    "language-modelling": reader,
    "translation, likelihood": translator,
    "translation, greedy": lambda: translator(("bleu",)),
    "translation, beams": lambda: translator(("bleu",), beams=3),
}


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("task", MODELS)
def test_the_first_example_with_a_score_that_is_not_finite_is_named(task, value):
    model, tokenizer, task, records = MODELS[task]()
    encoded = task.encode(Examples(records))
    task.score(model, encoded)
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids("tree")] = value
    with pytest.raises(NotFiniteError) as caught:
        task.score(model, encoded)
    assert caught.value.example == 2
    with pytest.raises(UserError, match=r"^away test, example 13: expected finite scores, got NaN"):
        score_set(task, model, encoded, "away test", first=10)


BLANK = {
    "classification": (classifier, {"text": " "}, "text"),
    "token-classification": (tagger, {"tokens": ["", " "], "tags": ["O", "O"]}, "tokens"),
    "multiple-choice": (chooser, {"choices": [" ", ""]}, "choices"),
    "language-modelling": (reader, {"text": "\t"}, "text"),
    "translation": (translator, {"source": ""}, "source"),
    "translation, references": (translator, {"target": ""}, "target"),
}


@pytest.mark.parametrize("task", BLANK)
def test_a_set_of_blank_texts_is_refused_with_its_file(task):
    make, blank, column = BLANK[task]
    _, _, task, records = make()
    if column != "choices":  # an answer is never blank
        encode(task, Examples([*records[:-1], records[-1] | blank]), "away test")
    with pytest.raises(
        UserError,
        match=f"^away test in away.jsonl: expected text in the column '{column}', got 5 blank examples",
    ):
        encode(task, Examples([each | blank for each in records], "away.jsonl"), "away test")


def test_a_context_may_be_blank_everywhere():
    _, _, task, records = chooser()
    task._prefix = [1]  # what a tokenizer puts before a text
    encode(task, Examples([each | {"context": ""} for each in records]), "away test")


def test_a_set_of_which_nothing_is_left_to_score_is_refused_with_its_file():
    model, tokenizer = modelling.build("llama"), word_tokenizer("$A")
    task = modelling.modelling(model, tokenizer)
    encode(task, Examples([{"text": "cat"}, {"text": "a cat"}]), "away test")
    single = Examples([{"text": "cat"}, {"text": "dog"}], "away.jsonl")
    with pytest.raises(UserError, match=r"^away test in away.jsonl: expected text with something to score"):
        encode(task, single, "away test")
    cut = modelling.modelling(model, tokenizer, max_length=1)
    with pytest.raises(UserError, match="with something to score"):
        encode(cut, Examples([{"text": "a cat"}]), "away test")
