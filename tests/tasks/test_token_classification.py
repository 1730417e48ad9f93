import json
from itertools import chain

import numpy as np
import pandas as pd
import pytest
import torch
from seqeval.metrics import f1_score as entity_f1_score
from sklearn.metrics import accuracy_score, f1_score, log_loss
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

import nvreg
from nvreg.config import Evaluation, Reading
from nvreg.data import Examples
from nvreg.diagnostics import recording
from nvreg.metrics import score
from nvreg.tasks import TASKS, make_task
from nvreg.tasks.base import part
from tests.models.architectures import ARCHITECTURES, Architecture, random_ids
from tests.tiny import LEXICON, word_tokenizer

TAGS = ["O", "B-x", "I-x", "B-y", "I-y"]
HEADS = {
    "bert": "BertForTokenClassification",
    "distilbert": "DistilBertForTokenClassification",
    "gpt2": "GPT2ForTokenClassification",
    "llama": "LlamaForTokenClassification",
    "t5 encoder": "T5ForTokenClassification",
}
TEMPLATES = {"gpt2": "$A", "llama": "<s> $A", "t5 encoder": "$A </s>"}
TASK = "token-classification"
EVERYTHING = ["nll", "accuracy", "macro-f1", "f1", "ece", "brier"]


def build(name, tags=TAGS, **config):
    (body,) = [each for each in ARCHITECTURES if each.name == name]
    labels = {"id2label": dict(enumerate(tags)), "label2id": {tag: i for i, tag in enumerate(tags)}}
    head = Architecture(name, body.model_type, HEADS[name], {**body.config, **labels, **config})
    model = head.build(dtype=torch.float32)
    with torch.no_grad():  # so that no tag is the likeliest everywhere
        head = model.classifier if hasattr(model, "classifier") else model.score
        head.bias.sub_(model(input_ids=random_ids(9, 9)).logits.mean(dim=(0, 1)))
    return model


def tokenizer_of(name):
    return word_tokenizer(TEMPLATES.get(name, "<s> $A </s>"))


def examples(count=9, seed=0, longest=20):
    rng, words = np.random.default_rng(seed), list(LEXICON)
    lengths = rng.integers(1, longest, count)
    return Examples(
        [
            {"tokens": list(rng.choice(words, length)), "tags": list(rng.choice(TAGS, length))}
            for length in lengths
        ]
    )


def token_classification(model, tokenizer, batch_tokens="auto", metrics=EVERYTHING, **reading):
    evaluation = Evaluation(metrics=metrics, batch_tokens=batch_tokens)
    return make_task(TASK, tokenizer, model.config, data=Reading(**reading), evaluation=evaluation)


def pieces_tokenizer():
    """Words of some letters are cut into pieces of one letter or two."""
    letters = "acdeghostu"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *letters, *(f"##{each}" for each in letters)]
    pieces += ["ca", "##og", "##ee", "ho", "##us"]
    tokenizer = BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)})
    assert tokenizer.is_fast
    return tokenizer


def byte_tokenizer(add_prefix_space):
    """Byte-level: a space is part of the word after it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {
        piece: number for number, piece in enumerate(["<pad>", *alphabet, "Ġb", "Ġc", "at", "Ġcat", "og"])
    }
    backend = Tokenizer(
        models.BPE(vocabulary, [("Ġ", "b"), ("Ġ", "c"), ("a", "t"), ("Ġc", "at"), ("o", "g")])
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.post_processor = processors.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>")


@pytest.mark.parametrize("name", HEADS)
def test_scores_are_those_of_the_models_own_probabilities_text_by_text(name):
    model, tokenizer, data = build(name), tokenizer_of(name), examples()
    task = token_classification(model, tokenizer)
    frame = task.score(model, task.encode(data))
    groups = ["calibration", "classes", "entities", "likelihood"]
    assert list(frame.columns) == ["id", *groups, "prediction", "labels", "alternatives"]
    probabilities, predicted = [], []
    for record in data.records:
        encoding = tokenizer(record["tokens"], is_split_into_words=True, return_tensors="pt")
        words = encoding.word_ids()
        firsts = [words.index(word) for word in range(len(record["tokens"]))]
        with torch.inference_mode():
            logits = model(**encoding).logits[0, firsts].double()
        probabilities += logits.softmax(-1).tolist()
        predicted.append([TAGS[number] for number in logits.argmax(-1)])
    right = [record["tags"] for record in data.records]
    assert list(frame["prediction"]) == list(map(" ".join, predicted))
    flat, flat_predicted = list(chain(*right)), list(chain(*predicted))
    assert len(set(flat_predicted)) > 2
    assert score(frame, "accuracy") == pytest.approx(accuracy_score(flat, flat_predicted))
    assert score(frame, "macro-f1") == pytest.approx(f1_score(flat, flat_predicted, average="macro"))
    assert score(frame, "f1") == pytest.approx(entity_f1_score(right, predicted))
    expected = log_loss([TAGS.index(tag) for tag in flat], probabilities, labels=range(len(TAGS)))
    assert score(frame, "nll") == pytest.approx(expected, rel=1e-5)
    confidences = [row[start] for row in frame["calibration"] for start in range(0, len(row), 3)]
    assert confidences == pytest.approx(np.max(probabilities, axis=1), rel=1e-5)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("batch_tokens", [1, 25, 100_000])
@pytest.mark.parametrize("side", ["left", "right"])
def test_scores_do_not_depend_on_the_size_of_batches_or_the_side_of_padding(name, batch_tokens, side):
    model, tokenizer = build(name), tokenizer_of(name)
    usual = token_classification(model, tokenizer)
    expected = usual.score(model, usual.encode(examples()))
    tokenizer.padding_side = side
    task = token_classification(model, tokenizer, batch_tokens)
    frame = task.score(model, task.encode(examples()))
    assert list(frame["prediction"]) == list(expected["prediction"])
    for metric in EVERYTHING:
        assert score(frame, metric) == pytest.approx(score(expected, metric), rel=1e-6)


def with_room_for(tokenizer):
    model = build("bert")
    model.resize_token_embeddings(len(tokenizer))
    return model


@pytest.mark.parametrize("make", [pieces_tokenizer, lambda: byte_tokenizer(True), ByT5Tokenizer])
def test_words_have_the_pieces_that_transformers_gives_them(make):
    tokenizer = make()
    words = [["a", "cat", "sees", "dog", "."], ["house"], ["dog", "cat", "cat"]]
    tags = [["O", "B-x", "I-x", "B-y", "I-y"], ["B-x"], ["O", "B-y", "O"]]
    records = [{"tokens": a, "tags": b} for a, b in zip(words, tags, strict=True)]
    encoded = token_classification(with_room_for(tokenizer), tokenizer).encode(Examples(records))
    assert encoded.tokens == tokenizer(words, is_split_into_words=True).input_ids
    assert encoded.truncated == 0
    assert encoded.labels == [[TAGS.index(tag) for tag in each] for each in tags]
    if tokenizer.is_fast:  # others do not know which word a piece is of
        for text, firsts in enumerate(encoded.firsts):
            of_pieces = tokenizer(words[text], is_split_into_words=True).word_ids()
            assert firsts == [of_pieces.index(word) for word in range(len(words[text]))]
    assert len(encoded.tokens[1]) > 1


def test_a_space_that_is_part_of_a_piece_stands_before_every_word_but_the_first():
    """Transformers refuses words of such a tokenizer; this is how the model has met them in texts."""
    tokenizer = byte_tokenizer(False)
    record = {"tokens": ["cat", "cat", "dog"], "tags": ["O", "O", "B-x"]}
    encoded = token_classification(with_room_for(tokenizer), tokenizer).encode(Examples([record]))
    assert encoded.tokens == [tokenizer("cat cat dog").input_ids]
    assert tokenizer.convert_ids_to_tokens(encoded.tokens[0]) == ["c", "at", "Ġcat", "Ġ", "d", "og"]
    assert encoded.firsts == [[0, 2, 3]]


INVISIBLE = "\u200b"
"""BERT's tokenizers leave it out, and so have no piece of it."""


def test_words_without_pieces_are_not_scored_and_their_texts_are_counted():
    model, tokenizer = build("bert"), pieces_tokenizer()
    with_one = {"tokens": [INVISIBLE, "cat", INVISIBLE, "dog"], "tags": ["B-y", "B-x", "I-x", "O"]}
    nothing = {"tokens": [INVISIBLE], "tags": ["B-y"]}
    without = {"tokens": ["cat", "dog"], "tags": ["B-x", "O"]}
    task = token_classification(model, tokenizer, batch_tokens=1)
    encoded = task.encode(Examples([with_one, nothing, without]))
    assert encoded.truncated == 2
    assert encoded.tokens[0] == encoded.tokens[2]
    frame = task.score(model, encoded)
    ours, none, plain = frame.to_dict("records")
    tags = plain["prediction"].split()
    assert ours["prediction"].split() == ["_", tags[0], "_", tags[1]]
    assert none["prediction"] == "_"
    assert none["likelihood"] == [0, 0, 0]
    assert none["entities"] == [0, 0, 0]
    assert none["classes"] == none["calibration"] == []
    for group in ("likelihood", "classes", "calibration", "entities"):
        assert ours[group] == pytest.approx(plain[group])
    for metric in EVERYTHING:
        assert score(frame, metric) == pytest.approx(score(frame.iloc[[0, 2]], metric))
    assert sum(len(batch["input_ids"]) for batch in task.teacher_forced(encoded)) == 2


def test_a_data_set_without_any_scored_word_has_no_score_and_does_not_fail():
    model = build("gpt2")
    tokenizer = pieces_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    task = token_classification(model, tokenizer)
    encoded = task.encode(Examples([{"tokens": [INVISIBLE], "tags": ["O"]}] * 2))
    assert encoded.tokens == [[], []]
    frame = task.score(model, encoded)
    assert np.isnan([score(frame, metric) for metric in ("nll", "accuracy", "macro-f1", "ece")]).all()
    assert list(task.teacher_forced(encoded)) == []


def test_texts_are_cut_to_max_length_and_counted():
    model, tokenizer = build("bert"), pieces_tokenizer()
    record = {"tokens": ["a", "cat", "sees"], "tags": ["O", "B-x", "I-x"]}  # [CLS] a ca ##t s ##ee ##s [SEP]
    for limit, words, cut in ((8, 3, 0), (7, 3, 1), (6, 3, 1), (5, 2, 1), (3, 1, 1), (1, 1, 1)):
        task = token_classification(model, tokenizer, max_length=limit)
        encoded = task.encode(Examples([record]))
        assert len(encoded.tokens[0]) == max(limit, 3)
        assert (len(encoded.labels[0]), encoded.truncated) == (words, cut), limit
        (prediction,) = task.score(model, encoded)["prediction"]
        assert [tag == "_" for tag in prediction.split()] == [number >= words for number in range(3)]
    with pytest.raises(nvreg.UserError, match="expected at most the model's 64 positions, got 65"):
        token_classification(model, tokenizer, max_length=65)
    long = {"tokens": ["cat"] * 100, "tags": ["O"] * 100}
    assert len(token_classification(model, word_tokenizer()).encode(Examples([long])).tokens[0]) == 64


def test_tags_may_be_names_or_numbers_or_renamed():
    model, tokenizer = build("bert"), tokenizer_of("bert")
    data = Examples([{"tokens": ["a", "cat", "sees"], "tags": ["b-X", 0, "3"]}])
    assert token_classification(model, tokenizer).encode(data).labels == [[1, 0, 3]]
    task = token_classification(model, tokenizer, labels={"b-X": "I-y", "0": "B-x"})
    assert task.encode(data).labels == [[4, 1, 3]]


def test_a_tag_that_the_model_has_not_is_one_line_with_its_record():
    records = [{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["a", "cat"], "tags": ["O", "B-z"]}]
    task = token_classification(build("bert"), tokenizer_of("bert"))
    with pytest.raises(
        nvreg.UserError, match=r"record 2: .* O, B-x, .*0 to 4, got B-z; say under data.labels"
    ):
        task.encode(Examples(records))


@pytest.mark.parametrize("name", HEADS)
def test_batches_feed_the_prior_the_loss_and_the_record(name):
    model, tokenizer = build(name), tokenizer_of(name)
    task = token_classification(model, tokenizer, batch_tokens=40)
    encoded = task.encode(examples())
    batches = list(task.teacher_forced(encoded))
    right = [tag for record in examples().records for tag in record["tags"]]
    labels = [label for batch in batches for label in batch["labels"].flatten().tolist() if label >= 0]
    assert sorted(labels) == sorted(map(TAGS.index, right))
    nats = sum(model(**batch).loss.item() * (batch["labels"] >= 0).sum().item() for batch in batches)
    frame = task.score(model, encoded)
    assert nats / len(right) == pytest.approx(score(frame, "nll"), rel=1e-5)
    prior = nvreg.estimate_prior(model, batches)
    read = sum(int(batch["attention_mask"].sum()) for batch in batches)
    assert {prior[site].tokens for site in prior} == {read}
    nvreg.convert_(model, prior, nvreg.Settings(tau_alpha=0.0))
    with torch.inference_mode(), recording(model) as record:
        task.score(model, encoded)
    assert 0 < record.prior_weight < 1


def test_parts_of_a_data_set_are_scored_as_in_the_whole():
    model, tokenizer = build("bert"), tokenizer_of("bert")
    task = token_classification(model, tokenizer)
    encoded = task.encode(examples())
    whole = task.score(model, encoded)
    halves = [task.score(model, part(encoded, half)) for half in (slice(4), slice(4, None))]
    together = pd.concat(halves, ignore_index=True)
    assert list(together["prediction"]) == list(whole["prediction"])
    assert score(together, "nll") == pytest.approx(score(whole, "nll"), rel=1e-6)


def test_f1_needs_tags_of_entities():
    model, tokenizer = build("bert", tags=["NOUN", "VERB", "O"]), tokenizer_of("bert")
    with pytest.raises(
        nvreg.UserError, match=r"metrics: expected f1 with .* B-PER, I-PER and O do, got NOUN;"
    ):
        token_classification(model, tokenizer)
    task = token_classification(model, tokenizer, metrics=["accuracy", "macro-f1"])
    frame = task.score(model, task.encode(Examples([{"tokens": ["a"], "tags": ["VERB"]}])))
    assert list(frame.columns) == ["id", "classes", "prediction", "labels", "alternatives"]
    with pytest.raises(nvreg.UserError, match=r"one of several tags, got one of \['x'\]"):
        token_classification(build("bert", tags=["x"]), tokenizer, metrics=["accuracy"])


def test_signatures_say_that_words_count():
    described = token_classification(build("bert"), tokenizer_of("bert")).signatures
    assert described["accuracy"] == "mean:words"
    assert described["nll"] == "unit:nat|scored:words|piece:first"
    assert described["brier"] == "sum:classes|mean:words"
    assert described["f1"].startswith("entities|micro|as:conlleval|version:")
    assert TASKS[TASK].metrics() == EVERYTHING
    assert json.dumps(described)
