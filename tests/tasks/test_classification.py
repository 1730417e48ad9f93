import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss

import nvreg
from nvreg.config import Evaluation, Reading, Source
from nvreg.data import Examples, load_examples
from nvreg.diagnostics import recording
from nvreg.errors import UserError
from nvreg.metrics import score
from nvreg.models.loading import load_model, load_tokenizer
from nvreg.tasks import TASKS, make_task
from nvreg.tasks.classification import number_of
from tests.models.architectures import ARCHITECTURES, Architecture
from tests.tiny import LEXICON, word_tokenizer

NAMES = ["bad", "Neither", "good"]
HEADS = {
    "bert": "BertForSequenceClassification",
    "gpt2": "GPT2ForSequenceClassification",
    "bart": "BartForSequenceClassification",
    "t5": "T5ForSequenceClassification",
}
TEMPLATES = {"bert": "<s> $A </s>", "gpt2": "$A", "bart": "<s> $A </s>", "t5": "$A </s>"}
TASK = "classification"


def build(name, **config):
    (body,) = [each for each in ARCHITECTURES if each.name == name]
    labels = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}
    head = Architecture(name, body.model_type, HEADS[name], {**body.config, **labels, **config})
    return head.build(dtype=torch.float32)


def examples(count=9, seed=0, **columns):
    rng, words = np.random.default_rng(seed), list(LEXICON)
    columns = columns or {"text": 20}
    return Examples(
        [
            {name: " ".join(rng.choice(words, rng.integers(1, longest))) for name, longest in columns.items()}
            | {"label": int(rng.integers(3))}
            for _ in range(count)
        ]
    )


def classification(model, tokenizer, batch_tokens="auto", metrics=None, **reading):
    evaluation = Evaluation(metrics=metrics or TASKS[TASK].metrics(), batch_tokens=batch_tokens)
    return make_task(TASK, tokenizer, model.config, data=Reading(**reading), evaluation=evaluation)


@pytest.mark.parametrize("name", HEADS)
def test_scores_are_those_of_the_models_own_probabilities_one_by_one(name):
    model, tokenizer = build(name), word_tokenizer(TEMPLATES[name])
    task, data = classification(model, tokenizer), examples()
    frame = task.score(model, task.encode(data))
    groups = ["calibration", "classes", "likelihood"]
    assert list(frame.columns) == ["id", *groups, "prediction", "labels", "alternatives"]
    with torch.inference_mode():
        logits = [
            model(**tokenizer(record["text"], return_tensors="pt")).logits[0] for record in data.records
        ]
    probabilities = torch.stack(logits).double().softmax(-1).numpy()
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels, predicted = [record["label"] for record in data.records], probabilities.argmax(axis=1)
    assert len(set(predicted)) > 1 or name == "bart"
    assert list(frame["prediction"]) == [NAMES[number] for number in predicted]
    assert score(frame, "accuracy") == pytest.approx(accuracy_score(labels, predicted))
    assert score(frame, "macro-f1") == pytest.approx(f1_score(labels, predicted, average="macro"))
    expected = log_loss(labels, probabilities, labels=range(3))
    assert score(frame, "nll") == pytest.approx(expected, rel=1e-5)
    confidences = [row[0] for row in frame["calibration"]]
    assert confidences == pytest.approx(probabilities.max(axis=1), rel=1e-5)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("batch_tokens", [1, 25, 100_000])
def test_scores_do_not_depend_on_the_size_of_batches_or_the_side_of_padding(name, batch_tokens):
    model, tokenizer = build(name), word_tokenizer(TEMPLATES[name])
    usual = classification(model, tokenizer)
    expected = usual.score(model, usual.encode(examples()))
    tokenizer.padding_side = "left"
    task = classification(model, tokenizer, batch_tokens)
    frame = task.score(model, task.encode(examples()))
    for metric in TASKS[TASK].metrics():
        assert score(frame, metric) == pytest.approx(score(expected, metric), rel=1e-6)


def test_a_pair_is_read_as_the_tokenizer_writes_it():
    model = build("bert", type_vocab_size=2)
    tokenizer = word_tokenizer("<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1")
    data = examples(premise=20, hypothesis=10)
    columns = {"premise": "p", "hypothesis": "h"}
    task = classification(model, tokenizer, columns=columns)
    assert task.required == ("premise", "hypothesis", "label")
    frame = task.score(model, task.encode(data))
    for record, row in zip(data.records, frame["likelihood"], strict=True):
        alone = tokenizer(record["premise"], record["hypothesis"], return_tensors="pt")
        assert alone["token_type_ids"].any()
        expected = -model(**alone).logits[0].log_softmax(-1)[record["label"]].item()
        assert row == [pytest.approx(expected, rel=1e-5), 1, 0]


def test_texts_are_cut_to_max_length_and_pairs_at_the_longer_one():
    model = build("bert")
    tokenizer = word_tokenizer("<s> $A </s>", pair="<s> $A </s> $B </s>")
    task = classification(model, tokenizer, max_length=4)
    encoded = task.encode(Examples([{"text": "a cat", "label": 0}, {"text": "a cat sees", "label": 0}]))
    assert encoded.truncated == 1
    assert encoded.tokens[0] == encoded.tokens[1]
    task = classification(model, tokenizer, max_length=7, columns={"premise": "p", "hypothesis": "h"})
    encoded = task.encode(Examples([{"premise": "a cat sees a dog", "hypothesis": "dog .", "label": 0}]))
    assert tokenizer.decode(encoded.tokens[0]) == "<s> a cat </s> dog . </s>"
    assert encoded.truncated == 1


def test_labels_may_be_names_or_renamed():
    model, tokenizer = build("bert"), word_tokenizer("<s> $A </s>")
    names = [{"text": "cat", "label": label} for label in ("good", "neither")]
    assert classification(model, tokenizer).encode(Examples(names)).labels == [2, 1]
    renamed = [{"text": "cat", "label": label} for label in (1, 0)]
    task = classification(model, tokenizer, labels={"1": "good", "0": "bad"})
    assert task.encode(Examples(renamed)).labels == [2, 0]
    with pytest.raises(nvreg.UserError, match="record 2: expected the label bad, Neither, good or a number"):
        task.encode(Examples([*renamed[:1], {"text": "cat", "label": 5}]))


@pytest.mark.parametrize("label", ["9" * 5000, "a text in the place of a label " * 500])
def test_a_label_that_is_none_is_refused_in_a_short_line(label):
    with pytest.raises(nvreg.UserError, match=r"^record 1: expected the label a, b or .*, got \S") as refused:
        number_of(label, ["a", "b"], None, record=1)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize("name", HEADS)
def test_batches_feed_the_prior_and_the_record(name):
    model, tokenizer = build(name), word_tokenizer(TEMPLATES[name])
    task = classification(model, tokenizer, batch_tokens=40)
    batches = list(task.teacher_forced(task.encode(examples())))
    assert sorted(label for batch in batches for label in batch["labels"].tolist()) == sorted(
        record["label"] for record in examples().records
    )
    assert all(model(**batch).loss > 0 for batch in batches)
    prior = nvreg.estimate_prior(model, batches)
    read = sum(int(batch["attention_mask"].sum()) for batch in batches)
    assert {prior[site].tokens for site in prior} == {read}
    nvreg.convert_(model, prior, nvreg.Settings(tau_alpha=0.0))
    with torch.inference_mode(), recording(model) as record:
        for batch in batches:
            model(**batch)
    assert 0 < record.prior_weight < 1


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("bert", {"problem_type": "multi_label_classification"}, "chooses one of several classes"),
        ("bert", {"id2label": {0: "score"}, "label2id": {"score": 0}}, "one of several classes.* one of 1 "),
        ("gpt2", {}, "expected pad_token_id in the model's config"),
    ],
)
def test_a_model_that_cannot_be_scored_is_refused(name, config, message):
    model = build(name, **config)
    if name == "gpt2":
        model.config.pad_token_id = None
    with pytest.raises(nvreg.UserError, match=message):
        classification(model, word_tokenizer())


def test_only_the_groups_of_the_metrics_are_kept():
    model, tokenizer = build("bert"), word_tokenizer("<s> $A </s>")
    task = classification(model, tokenizer, metrics=["accuracy"])
    columns = ["id", "classes", "prediction", "labels", "alternatives"]
    assert list(task.score(model, task.encode(examples())).columns) == columns
    with pytest.raises(nvreg.UserError, match="with task classification, got 'perplexity'"):
        classification(model, tokenizer, metrics=["perplexity"])


def test_real_model_scores_as_published_beside_it(shared):
    directory = shared / "models" / "minilm-sst2"
    model, tokenizer = load_model(directory, TASKS[TASK].auto_class), load_tokenizer(directory)
    task = classification(model, tokenizer, metrics=["accuracy", "nll"])
    source = Source(files=str(shared / "data" / TASK / "yelp" / "test.jsonl"), limit=100)
    frame = task.score(model, task.encode(load_examples(source, {}, task.required)))
    assert score(frame, "accuracy") == pytest.approx(0.918, abs=0.04)
    assert score(frame, "nll") < 0.4


RELATIONS = ["contradiction", "Neutral", "3"]


@pytest.mark.parametrize(
    ("label", "renamed", "number"),
    [
        ("contradiction", None, 0),
        ("NEUTRAL", None, 1),
        (1, None, 1),
        ("0", None, 0),
        (3, None, 2),
        ("no", {"no": "contradiction", "maybe": "Neutral"}, 0),
        ("maybe", {"maybe": "neutral"}, 1),
        (0, {"0": "Neutral", "1": "contradiction"}, 1),
        ("A", {"A": "0", "B": "1"}, 0),
        ("Neutral", {"no": "contradiction"}, 1),
    ],
)
def test_a_label_is_a_name_or_a_number_of_the_model_or_what_is_renamed_to_one(label, renamed, number):
    assert number_of(label, RELATIONS, renamed, record=1) == number


@pytest.mark.parametrize(
    ("label", "renamed", "number"),
    [(0, None, 0), (1, None, 1), (3, None, 3), ("7", None, 3), ("A", {"A": "1"}, 1)],
)
def test_a_choice_s_number_is_none_of_the_choices_texts(label, renamed, number):
    assert number_of(label, ["1", "0", "3", "7"], renamed, record=1, by_number=True) == number


def test_text_that_may_be_a_choice_s_text_or_number_is_refused():
    with pytest.raises(UserError, match=r"record 2: .*got '1', which is the number of one and the text of"):
        number_of("1", ["1", "0", "2"], None, record=2, by_number=True)


@pytest.mark.parametrize(
    ("label", "renamed"), [("entailment", None), (4, None), (-1, None), ("2.0", None), ("a", {"a": "b"})]
)
def test_another_label_is_refused_with_the_models(label, renamed):
    got = (renamed or {}).get(label, label)
    message = f"^record 7: .* contradiction, Neutral, 3 or a number of 0 to 2, got {got}; say under"
    with pytest.raises(UserError, match=message):
        number_of(label, RELATIONS, renamed, record=7)
