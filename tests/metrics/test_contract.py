"""What every metric holds, whatever it measures."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvreg.errors import UserError
from nvreg.metrics import GENERATED, METRICS, METRICS_OF_TASK, check_metrics, score, signature
from tests.metrics.examples import (
    SEED,
    WORDS,
    choice_rows,
    likelihood_rows,
    overlap_rows,
    predictions,
    text_rows,
)


def corpus(seed, examples=12):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 9, (examples, 2))
    return [tuple(" ".join(rng.choice(WORDS, length)) for length in pair) for pair in lengths]


def rows(group, seed):
    match group:
        case "likelihood":
            return likelihood_rows(seed)
        case "classes" | "calibration":
            return choice_rows(group, *predictions(seed))
        case "overlap":
            return overlap_rows("translation" if seed % 2 else "summarisation", corpus(seed))
    return text_rows(group, corpus(seed))


each_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


@each_metric
@settings(max_examples=20)
@given(seed=SEED)
def test_counts_of_one_change_nothing(metric, seed):
    statistics = rows(metric.group, seed)
    alone = metric.score(statistics)
    assert alone.shape == ()
    ones = np.ones((3, len(statistics)), dtype=np.uint16)
    np.testing.assert_allclose(metric.score(statistics, ones), [alone] * 3, rtol=1e-12)


@each_metric
@settings(max_examples=20)
@given(seed=SEED)
def test_a_count_is_as_good_as_repeating_the_example(metric, seed):
    statistics = rows(metric.group, seed)
    counts = np.random.default_rng(seed).integers(0, 4, (3, len(statistics)))
    counts[:, 0] += 1
    expected = [metric.score(statistics.repeat(count, axis=0)) for count in counts]
    np.testing.assert_allclose(metric.score(statistics, counts), expected, rtol=1e-9, atol=1e-12)


@each_metric
@settings(max_examples=20)
@given(seed=SEED)
def test_the_order_of_examples_does_not_matter(metric, seed):
    statistics = rows(metric.group, seed)
    shuffled = np.random.default_rng(seed).permutation(statistics)
    np.testing.assert_allclose(metric.score(shuffled), metric.score(statistics), rtol=1e-9, atol=1e-12)


@each_metric
@settings(max_examples=20)
@given(seed=SEED)
def test_every_example_has_a_finite_score_or_none_has(metric, seed):
    statistics = rows(metric.group, seed)
    scores = metric.per_example(statistics)
    if metric.name in ("ece", "macro-f1"):
        assert scores is None
    else:
        assert scores.shape == (len(statistics),)
        assert np.isfinite(scores).all()


def test_directions():
    better = {name: metric.higher_is_better for name, metric in METRICS.items()}
    up = ["bleu", "chrf", "rouge1", "rouge2", "rougeL", "rougeLsum", "accuracy", "macro-f1"]
    down = ["nll", "perplexity", "bits-per-character", "ece", "brier"]
    assert better == {
        **dict.fromkeys(up, True),
        **dict.fromkeys(down, False),
        "length-ratio": None,
        "overlap": None,
    }
    assert all(name == metric.name for name, metric in METRICS.items())
    assert {metric.group for metric in METRICS.values()} == {
        "likelihood",
        "classes",
        "calibration",
        *GENERATED,
    }


def test_signatures_tell_metrics_and_ways_of_scoring_apart():
    for task, names in METRICS_OF_TASK.items():
        described = [signature(name, task, "scored:tokens") for name in names if name != "length-ratio"]
        assert len(set(described)) == len(described)
        assert all(described)
    assert signature("nll", "translation", "scored:tokens") == "unit:nat|scored:tokens"
    assert signature("overlap", "summarisation", "") == "reference:pretrained|" + signature(
        "rougeL", "summarisation", ""
    )
    assert signature("overlap", "translation", "").startswith("reference:pretrained|nrefs:1|")


def test_score_reads_the_group_of_a_frame():
    frame = pd.DataFrame({"likelihood": [[2.0, 1, 5], [4.0, 5, 5]]})
    assert score(frame, "nll") == pytest.approx(1)


@pytest.mark.parametrize(
    ("task", "name", "listed"),
    [
        ("classification", "perplexity", "nll, accuracy, macro-f1, ece, brier"),
        ("language-modelling", "bleu", "nll, perplexity, bits-per-character"),
        ("multiple-choice", "macro-f1", "nll, accuracy, ece, brier"),
        ("translation", "blue", "nll, .*rougeLsum, length-ratio, overlap"),
    ],
)
def test_metric_that_a_task_does_not_supply_is_refused_with_those_that_it_does(task, name, listed):
    check_metrics(task, METRICS_OF_TASK[task])
    with pytest.raises(UserError, match=rf"^evaluation.metrics: .*{listed} with task {task}, .*'{name}'$"):
        check_metrics(task, ["nll", name])


@pytest.mark.parametrize("module", ["torch", "transformers", "rouge_score", "sklearn"])
def test_metrics_do_not_import_what_is_slow(module):
    code = f"import sys, nvreg.metrics; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@each_metric
@settings(max_examples=20)
@given(resamples=st.integers(1, 3), seed=SEED)
def test_resamples_score_as_each_alone(metric, resamples, seed):
    statistics = rows(metric.group, seed)
    counts = np.random.default_rng(seed).multinomial(
        len(statistics), np.full(len(statistics), 1 / len(statistics)), size=resamples
    )
    together = metric.score(statistics, counts)
    assert together.shape == (resamples,)
    alone = [metric.score(statistics, count[None])[0] for count in counts]
    np.testing.assert_allclose(together, alone, rtol=1e-12)
