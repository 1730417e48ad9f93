"""Whoever changes what a task scores raises the version, so that no trial of another one is reused."""

import pytest
import torch

from nvreg.config import Evaluation, Reading, Source
from nvreg.data import Examples, load_examples
from nvreg.metrics import score
from nvreg.tasks import SCORING_VERSION, make_task
from tests.models.architectures import ARCHITECTURES, Architecture
from tests.tiny import tiny_marian, word_tokenizer, write_corpus

FROZEN_VERSION = 4
FROZEN = {
    "translation greedy": {
        "nll": 3.7704874,
        "perplexity": 43.401214,
        "bits-per-character": 1.353649,
        "bleu": 3.1280929,
        "chrf": 20.726216,
        "length-ratio": 1.0652174,
    },
    "translation beams": {
        "nll": 3.7704874,
        "perplexity": 43.401214,
        "bits-per-character": 1.353649,
        "bleu": 2.3224495,
        "chrf": 19.270463,
        "length-ratio": 1.3478261,
    },
    "summarisation": {
        "nll": 3.7704874,
        "rouge1": 0.3072764,
        "rouge2": 0.027777778,
        "rougeL": 0.19745498,
        "rougeLsum": 0.19745498,
    },
    "causal": {
        "nll": 6.0159585,
        "bits-per-character": 2.2974336,
    },
    "masked": {
        "nll": 7.6382445,
        "bits-per-character": 2.9169681,
    },
    "encoder-decoder": {
        "nll": 4.2661716,
        "bits-per-character": 1.6292077,
    },
    "classification": {
        "nll": 1.1823426,
        "accuracy": 0.2,
        "macro-f1": 0.16666667,
        "ece": 0.5073409,
        "brier": 0.75215615,
    },
    "token classification": {
        "nll": 1.2330391,
        "accuracy": 0.3125,
        "macro-f1": 0.15873016,
        "f1": 0.095238095,
        "ece": 0.44005735,
        "brier": 0.74045659,
    },
    "multiple choice": {
        "nll": 0.87869003,
        "accuracy": 0.5,
        "ece": 0.44402459,
        "brier": 0.54591006,
    },
}


def sequence_to_sequence(task, source, target, beams, directory):
    path = write_corpus(directory) / "home" / "test.jsonl"
    examples = load_examples(Source(files=str(path)), {source: "en", target: "de"}, (source, target))
    evaluation = {"generation": {"num_beams": beams, "max_new_tokens": 12}}
    return task, *tiny_marian(), evaluation, examples


def architecture(name):
    return next(each for each in ARCHITECTURES if each.name == name)


def language_modelling(name, template, directory):
    texts = ["a small cat sees the red dog . the dog likes a tree", "a bird", "the house ."]
    examples = Examples([{"text": text} for text in texts])
    evaluation = {"window": 6, "stride": 2}
    return "language-modelling", architecture(name).build(), word_tokenizer(template), evaluation, examples


def classification(directory):
    config = {**architecture("bert").config, "id2label": {0: "a", 1: "b", 2: "c"}}
    model = Architecture("head", "bert", "BertForSequenceClassification", config).build()
    texts = ["a cat", "the red dog sees a tree", "house", "likes", "a big bird hears a cat ."]
    examples = Examples([{"text": text, "label": number % 3} for number, text in enumerate(texts)])
    return "classification", model, word_tokenizer("<s> $A </s>"), {}, examples


def token_classification(directory):
    config = {**architecture("bert").config, "id2label": {0: "O", 1: "B-a", 2: "I-a"}}
    model = Architecture("head", "bert", "BertForTokenClassification", config).build()
    tags = ["B-a", "I-a", "O", "O", "B-a", "I-a", "I-a", "O"]
    texts = ["a cat", "the red dog sees a tree", "house", "a big bird hears a cat ."]
    words = map(str.split, texts)
    examples = Examples([{"tokens": each, "tags": tags[: len(each)]} for each in words])
    return "token-classification", model, word_tokenizer("<s> $A </s>"), {}, examples


def multiple_choice(directory):
    record = {"context": "a cat sees", "choices": ["a dog", "the red tree .", "a"], "label": 1}
    records = [record, {**record, "context": "the big", "label": 0}]
    return "multiple-choice", architecture("llama").build(), word_tokenizer("<s> $A"), {}, Examples(records)


CASES = {
    "translation greedy": lambda path: sequence_to_sequence("translation", "source", "target", 1, path),
    "translation beams": lambda path: sequence_to_sequence("translation", "source", "target", 2, path),
    "summarisation": lambda path: sequence_to_sequence("summarisation", "document", "summary", 1, path),
    "causal": lambda path: language_modelling("gpt2", "<s> $A", path),
    "masked": lambda path: language_modelling("bert", "<s> $A </s>", path),
    "encoder-decoder": lambda path: language_modelling("t5", "$A </s>", path),
    "classification": classification,
    "token classification": token_classification,
    "multiple choice": multiple_choice,
}


@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_this_scoring_version(case, tmp_path):
    name, model, tokenizer, options, examples = CASES[case](tmp_path)
    evaluation = Evaluation(metrics=list(FROZEN[case]), **options)
    task = make_task(name, tokenizer, model.config, data=Reading(), evaluation=evaluation)
    with torch.inference_mode():
        frame = task.score(model, task.encode(examples))
    scores = {name: score(frame, name) for name in FROZEN[case]}
    assert SCORING_VERSION == FROZEN_VERSION
    assert scores == pytest.approx(FROZEN[case], rel=1e-5), "raise SCORING_VERSION and freeze the new scores"
