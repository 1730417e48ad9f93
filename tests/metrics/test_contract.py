"""What every metric holds, whatever it measures."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from nvreg.config import Evaluation, Reading
from nvreg.data import Examples
from nvreg.metrics import METRICS, Metric, Tokenisation, score
from nvreg.tasks import TASKS, make_task
from nvreg.testing import check_metric
from tests.metrics.examples import (
    SEED,
    TAGS,
    WORDS,
    choice_rows,
    entity_rows,
    likelihood_rows,
    predictions,
    text_rows,
    word_rows,
    words,
)
from tests.tiny import tiny_marian


def corpus(seed, examples=12):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 9, (examples, 2))
    return [tuple(" ".join(rng.choice(WORDS, length)) for length in pair) for pair in lengths]


def rows(group, seed):
    match group:
        case "likelihood" | "text":
            return likelihood_rows(seed)
        case "classes" | "calibration" if seed % 2:
            return word_rows(group, *predictions(seed), words(seed))
        case "classes" | "calibration":
            return choice_rows(group, *predictions(seed))
        case "entities":
            rng = np.random.default_rng(seed)
            return entity_rows([rng.choice(TAGS, (length, 2)) for length in rng.integers(0, 9, 12)])
        case "overlap":
            return text_rows("bleu" if seed % 2 else "rougeL", corpus(seed))
    return text_rows(group, corpus(seed))  # such a group is called after its metric


each_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


@each_metric
@settings(max_examples=20)
@given(seed=SEED)
def test_a_metric_keeps_its_promises(metric, seed):
    check_metric(metric, rows(metric.group, seed), seed)


@each_metric
@settings(max_examples=20)
@given(seed=SEED)
def test_every_example_has_a_score_or_none_has(metric, seed):
    scores = metric.per_example(rows(metric.group, seed))
    assert (scores is None) == (metric.name in ("ece", "macro-f1"))


def test_directions():
    better = {name: metric.higher_is_better for name, metric in METRICS.items()}
    up = ["bleu", "chrf", "rouge1", "rouge2", "rougeL", "rougeLsum", "accuracy", "macro-f1", "f1"]
    of_text = ["bits-per-character", "bits-per-byte", "byte-perplexity", "word-perplexity"]
    down = ["nll", "perplexity", *of_text, "ece", "brier"]
    assert better == {
        **dict.fromkeys(up, True),
        **dict.fromkeys(down, False),
        "length-ratio": None,
        "overlap": None,
    }
    assert all(name == metric.name for name, metric in METRICS.items())


def test_a_metric_scores_examples_or_a_corpus():
    with pytest.raises(ValueError, match="nothing: expected of_examples, of_corpus or both"):
        Metric("nothing", "likelihood", True, lambda _: "")


def test_signatures_tell_metrics_apart():
    described = {
        name: metric.signature(Tokenisation()) for name, metric in METRICS.items() if name != "length-ratio"
    }
    assert len(set(described.values())) == len(described)
    assert all(described.values())


def test_score_reads_the_group_of_a_frame():
    frame = pd.DataFrame({"likelihood": [[2.0, 1, 5], [4.0, 5, 5]]})
    assert score(frame, "nll") == pytest.approx(1)


@pytest.mark.parametrize("module", ["torch", "transformers", "rouge_score", "seqeval", "sklearn"])
def test_metrics_do_not_import_what_is_slow(module):
    code = f"import sys, nvreg.metrics; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_new_metric_is_an_entry_and_its_tasks_supply_it(monkeypatch):
    def starts_alike(predictions, references, tokenisation):
        pairs = zip(predictions, references, strict=True)
        return np.array([[float(ours[:1] == theirs[:1])] for ours, theirs in pairs])

    first_letter = Metric(
        "first-letter", "first-letter", True, lambda _: "v1", lambda rows: rows[:, 0], of_texts=starts_alike
    )
    monkeypatch.setitem(METRICS, "first-letter", first_letter)
    confidence = Metric("confidence", "calibration", None, lambda _: "v1", lambda rows: rows[:, 0])
    monkeypatch.setitem(METRICS, "confidence", confidence)
    supplied = {name: {"first-letter", "confidence"} & set(task.metrics()) for name, task in TASKS.items()}
    assert supplied == {
        "translation": {"first-letter"},
        "summarisation": {"first-letter"},
        "language-modelling": set(),
        "classification": {"confidence"},
        "token-classification": {"confidence"},
        "multiple-choice": {"confidence"},
    }

    model, tokenizer = tiny_marian()
    evaluation = Evaluation(metrics=["first-letter"], generation={"num_beams": 1, "max_new_tokens": 4})
    task = make_task("translation", tokenizer, model.config, data=Reading(), evaluation=evaluation)
    texts = [{"source": "a cat", "target": letter} for letter in "abcdefghijklmnopqrstuvwxyz"]
    frame = task.score(model, task.encode(Examples(texts)))
    first = frame["prediction"][0][:1]
    assert score(frame, "first-letter") == pytest.approx(1 / 26 if first.islower() else 0)
    assert task.signatures == {"first-letter": "v1"}
