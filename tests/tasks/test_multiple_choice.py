import math

import pytest
import torch

import nvreg
from nvreg.config import Evaluation, Reading
from nvreg.data import Examples
from nvreg.metrics import METRICS, score, statistics_of
from nvreg.metrics.choices import NORMALISATIONS, renormalised
from nvreg.tasks import TASKS, make_task
from tests.models.architectures import ARCHITECTURES
from tests.tiny import word_tokenizer

TASK = "multiple-choice"
QUESTIONS = Examples(
    [
        {"context": "a small cat sees", "choices": ["a dog", "the big red bird .", "Haus"], "label": 0},
        {"context": "a", "choices": ["tree", "house house"], "label": "house house"},
        {"context": "big red dog likes a", "choices": ["tree .", "bird"], "label": "1"},
        {"context": "the cat hears ", "choices": ["Hund", "a", "Baum . .", "Fink"], "label": 3},
    ]
)


def build(name="llama"):
    (architecture,) = [each for each in ARCHITECTURES if each.name == name]
    return architecture.build(dtype=torch.float32)


def multiple_choice(model, tokenizer, batch_tokens="auto", metrics=None, options=None, **reading):
    evaluation = Evaluation(
        metrics=metrics or TASKS[TASK].metrics(), batch_tokens=batch_tokens, **(options or {})
    )
    return make_task(TASK, tokenizer, model.config, data=Reading(**reading), evaluation=evaluation)


@pytest.mark.parametrize("template", ["$A", "<s> $A", "<s> $A </s>"])
def test_choices_score_by_the_mean_likelihood_of_their_tokens_after_the_context(template):
    model, tokenizer = build(), word_tokenizer(template)
    task = multiple_choice(model, tokenizer)
    frame = task.score(model, task.encode(QUESTIONS))
    groups = ["calibration", "classes", "likelihood"]
    kept = ["prediction", "choices", "labels", "alternatives", "tempered"]
    assert list(frame.columns) == ["id", *groups, *kept]
    labels = [0, 1, 1, 3]
    for number, record in enumerate(QUESTIONS.records):
        means = []
        for choice in record["choices"]:
            prefix = "<s> " if template.startswith("<s>") else ""
            text = f"{prefix}{record['context']} {choice}"
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
            words = len(choice.split())
            log_probability = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
            means.append(
                sum(log_probability[-place, ids[0, -place]] for place in range(1, words + 1)).item() / words
            )
        expected = torch.tensor(means).log_softmax(-1)
        chosen = int(expected.argmax())
        assert frame["likelihood"][number] == [
            pytest.approx(-expected[labels[number]].item(), rel=1e-4),
            1,
            0,
        ]
        assert frame["classes"][number] == [labels[number], chosen]
        assert frame["prediction"][number] == record["choices"][chosen]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("batch_tokens", [1, 13, 100_000])
def test_scores_do_not_depend_on_the_size_of_batches_or_the_side_of_padding(name, batch_tokens):
    model, tokenizer = build(name), word_tokenizer("<s> $A")
    usual = multiple_choice(model, tokenizer)
    expected = usual.score(model, usual.encode(QUESTIONS))
    tokenizer.padding_side = "left"
    task = multiple_choice(model, tokenizer, batch_tokens)
    frame = task.score(model, task.encode(QUESTIONS))
    for metric in TASKS[TASK].metrics():
        assert score(frame, metric) == pytest.approx(score(expected, metric), rel=1e-6)


def test_a_batch_is_the_context_with_the_right_choice():
    model, tokenizer = build(), word_tokenizer("<s> $A")
    task = multiple_choice(model, tokenizer)
    encoded = task.encode(QUESTIONS)
    batch = task.batch(encoded, [1, 0])
    assert tokenizer.batch_decode(batch["input_ids"]) == [
        "<s> a house house <pad> <pad> <pad>",
        "<s> a small cat sees a dog",
    ]
    assert [tokenizer.decode(labels[labels != -100]) for labels in batch["labels"]] == [
        "house house",
        "a dog",
    ]
    read = [ids for one in task.teacher_forced(encoded) for ids in one["input_ids"]]
    assert len(read) == len(QUESTIONS)
    assert model(**batch).loss > 0


def test_a_long_context_is_cut_at_its_beginning():
    model, tokenizer = build(), word_tokenizer("<s> $A")
    task = multiple_choice(model, tokenizer, max_length=5)
    encoded = task.encode(QUESTIONS)
    assert encoded.truncated == 3
    decoded = [[tokenizer.decode(ids) for ids in choices] for choices in encoded.tokens]
    assert decoded[0] == ["<s> cat sees a dog", "<s> big red bird .", "<s> small cat sees Haus"]
    assert encoded.scored[0] == [2, 4, 1]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"context": "a", "choices": ["b", "c"], "label": "d"},
            "record 1: expected the label b, c or a number",
        ),
        (
            {"context": "a", "choices": ["b", ""], "label": 0},
            "record 1: expected choices of at least one token",
        ),
        (
            {"context": "", "choices": ["b", "c"], "label": 0},
            "record 1: expected choices of at least one token",
        ),
    ],
)
def test_a_question_that_cannot_be_scored_is_named(record, message):
    with pytest.raises(nvreg.UserError, match=message):
        multiple_choice(build(), word_tokenizer()).encode(Examples([record]))


def test_labels_may_be_letters():
    task = multiple_choice(build(), word_tokenizer(), labels={"A": "0", "B": "1"})
    assert task.encode(Examples([{"context": "a", "choices": ["b", "c"], "label": "B"}])).labels == [1]


def test_macro_f1_has_no_classes_here():
    with pytest.raises(nvreg.UserError, match="with task multiple-choice, got 'macro-f1'"):
        multiple_choice(build(), word_tokenizer(), metrics=["macro-f1"])


@pytest.mark.parametrize("by", NORMALISATIONS)
def test_every_normalisation_is_computed_from_one_scoring(by):
    """What is kept of choices scored by tokens gives what scoring by another normalisation gives."""
    model, tokenizer = build(), word_tokenizer("<s> $A")
    plain, task = (
        multiple_choice(model, tokenizer),
        multiple_choice(model, tokenizer, options={"normalisation": by}),
    )
    encoded = plain.encode(QUESTIONS)
    kept, expected = plain.score(model, encoded), task.score(model, encoded)
    assert kept["choices"].tolist() == expected["choices"].tolist()
    again = renormalised(kept, encoded.labels, by)
    for name in TASKS[TASK].metrics():
        group = METRICS[name].group
        assert statistics_of(again, group) == pytest.approx(statistics_of(expected, group), rel=1e-9)


def test_a_choice_is_kept_with_its_tokens_characters_and_bytes_and_compared_by_any():
    model, tokenizer = build(), word_tokenizer("<s> $A")
    question = {"context": "a cat", "choices": ["the dog", "Bäume", "a"], "label": 0}
    rows = {}
    for by in NORMALISATIONS:
        task = multiple_choice(model, tokenizer, options={"normalisation": by})
        (row,) = task.score(model, task.encode(Examples([question])))["choices"]
        (alternatives,) = task.score(model, task.encode(Examples([question])))["alternatives"]
        rows[by] = row, alternatives
    (row, _), sizes = rows["none"], {"tokens": (2, 1, 1), "characters": (7, 5, 1), "bytes": (7, 6, 1)}
    assert [row[1::4], row[2::4], row[3::4]] == [list(sizes[by]) for by in ("tokens", "characters", "bytes")]
    for by, (_, alternatives) in rows.items():
        scores = [nats / size for nats, size in zip(row[::4], sizes.get(by, (1, 1, 1)), strict=True)]
        total = math.log(sum(map(math.exp, scores)))
        assert list(alternatives) == pytest.approx([score - total for score in scores], rel=1e-5)


CHOICES = ["big tree .", "a dog"]


@pytest.mark.parametrize(
    ("template", "prefix", "before", "said"),
    [
        ("$A", "none", ["", ""], "no"),
        ("$A", "auto", ["<s>", ""], "bos-if-empty"),
        ("$A", "bos", ["<s>", "<s>"], "bos"),
        ("</s> $A", "auto", ["</s>", "</s>"], "own"),
        ("</s> $A", "bos", ["</s>", "</s>"], "own"),
    ],
)
def test_the_prefix_is_read_before_what_has_none(template, prefix, before, said):
    tokenizer = word_tokenizer(template)
    task = multiple_choice(build(), tokenizer, options={"prefix": prefix})
    questions = [{"context": each, "choices": CHOICES, "label": 0} for each in ("", "a cat")]
    encoded = task.encode(Examples(questions))
    read = [tokenizer.decode(choices[0]) for choices in encoded.tokens]
    rest = ["big tree .", "a cat big tree ."]
    assert read == [f"{first} {text}".strip() for first, text in zip(before, rest, strict=True)]
    assert encoded.scored[0] == ([2, 1] if said == "no" else [3, 2])
    assert encoded.scored[1] == [3, 2]
    assert bool(task.notes) == (said == "no")
    assert task.signatures["accuracy"] == f"mean:examples|by:tokens|prefix:{said}|space:one-if-none"


def test_auto_takes_the_end_of_sequence_where_there_is_no_beginning_and_bos_refuses():
    tokenizer = word_tokenizer("$A")
    tokenizer.bos_token = None
    question = Examples([{"context": "", "choices": ["cat", "dog"], "label": 0}])
    task = multiple_choice(build(), tokenizer, options={"prefix": "auto"})
    assert tokenizer.decode(task.encode(question).tokens[0][0]) == "</s> cat"
    with pytest.raises(nvreg.UserError, match=r"evaluation.prefix: expected a tokenizer with a beginning"):
        multiple_choice(build(), tokenizer, options={"prefix": "bos"})
    with pytest.raises(nvreg.UserError, match=r"record 1: .*evaluation.prefix: auto puts one before it"):
        multiple_choice(build(), tokenizer).encode(question)


def test_the_normalisation_is_in_the_signatures_and_the_options_and_by_default_in_no_key():
    model, tokenizer = build(), word_tokenizer("<s> $A")
    by_bytes = multiple_choice(model, tokenizer, options={"normalisation": "bytes"})
    assert by_bytes.signatures["nll"] == (
        "unit:nat|scored:labels|softmax:log-likelihood-per-byte|by:bytes|prefix:own|space:one-if-none"
    )
    plain = multiple_choice(model, tokenizer)
    assert plain.conditions == {
        "nll": "unit:nat|scored:labels|softmax:mean-log-likelihood-of-tokens",
        "accuracy": "mean:examples",
        "ece": "bins:15|equal:mass|of:predicted-class",
        "brier": "sum:classes|mean:examples",
    }
    unsaid = Evaluation(metrics=["nll"]).options.keys()
    assert set(unsaid) == {"metrics", "generation", "window", "stride", "temperatures"}
    options = Evaluation(metrics=["nll"], normalisation="bytes", prefix="auto").options
    assert (options["normalisation"], options["prefix"]) == ("bytes", "auto")
