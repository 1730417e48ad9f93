"""Paired tests against scipy, sacrebleu and known answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest
from scipy.stats import permutation_test, wilcoxon

from nvreg.metrics import METRICS, text_statistics
from nvreg.report.significance import holm, name_of_test, paired_p_value

REFERENCES = [f"the {a} {b} sees a {c} in the {a}" for a in "abcd" for b in "efgh" for c in "ijk"]


def likelihoods(mean: float, seed: int, examples: int = 60) -> np.ndarray:
    nll = np.random.default_rng(seed).normal(mean, 1, examples)
    return np.stack([nll, np.ones(examples), np.ones(examples)], axis=1)


def corrupted(share: float, seed: int) -> list[str]:
    """Return the references with some words replaced."""
    generator = np.random.default_rng(seed)
    return [
        " ".join("x" if generator.random() < share else word for word in text.split()) for text in REFERENCES
    ]


def bleu_rows(share: float, seed: int) -> np.ndarray:
    return text_statistics("bleu", corrupted(share, seed), REFERENCES)


def predictions(accuracy: float, seed: int, examples: int = 80) -> np.ndarray:
    """Return the right one of three classes, the same for all seeds, and the predicted one."""
    labels = np.random.default_rng(0).integers(3, size=examples)
    wrong = np.random.default_rng(seed).random(examples) > accuracy
    return np.stack([labels, (labels + wrong) % 3], axis=1).astype(float)


@pytest.mark.parametrize(
    ("metric", "ours", "theirs"),
    [("nll", likelihoods(0.4, 1), likelihoods(0, 2)), ("accuracy", predictions(0.8, 1), predictions(0.6, 2))],
)
def test_means_are_tested_by_signed_ranks(metric, ours, theirs):
    expected = wilcoxon(*(METRICS[metric].per_example(rows) for rows in (ours, theirs))).pvalue
    assert 0 < expected < 0.5
    assert paired_p_value(METRICS[metric], [ours], [theirs], "talks.test") == pytest.approx(expected)
    assert name_of_test(METRICS[metric]) == "Wilcoxon signed-rank"


@given(st.integers(2, 5), st.integers(2, 5), st.integers(0, 2**31))
def test_means_over_seeds_that_tie_are_tested_as_ties(ours, theirs, seed):
    generator = np.random.default_rng(seed)
    both = [predictions(generator.random(), int(generator.integers(2**31))) for _ in range(ours + theirs)]
    right = np.array([rows[:, 0] == rows[:, 1] for rows in both]).astype(int)
    integers = theirs * right[:ours].sum(0) - ours * right[ours:].sum(0)
    expected = wilcoxon(integers).pvalue if integers.any() else 1.0
    p_value = paired_p_value(METRICS["accuracy"], both[:ours], both[ours:], "talks.test")
    assert p_value == pytest.approx(expected)


def test_an_infinite_score_is_a_difference_like_any():
    ours, theirs = likelihoods(0.4, 1), likelihoods(0, 2)
    ours[0, 0] = np.inf
    p_value = paired_p_value(METRICS["nll"], [ours], [theirs], "talks.test")
    ours[0, 0] = 1e6
    assert p_value == paired_p_value(METRICS["nll"], [ours], [theirs], "talks.test") < 0.5


@pytest.mark.parametrize("seed", range(5))
def test_the_same_calibration_twice_is_no_difference(seed):
    generator = np.random.default_rng(seed)
    rows = np.stack([generator.integers(50, 100, 300) / 100, generator.integers(2, size=300)], axis=1)
    rows = np.concatenate([rows, np.zeros((300, 1))], axis=1)
    assert paired_p_value(METRICS["ece"], [rows], [rows], "talks.test") == 1.0


def test_corpus_scores_are_tested_by_approximate_randomisation_as_sacrebleu_does():
    systems = {"theirs": corrupted(0.3, 1), "ours": corrupted(0.25, 2)}
    named = [(name, outputs) for name, outputs in systems.items()]
    _, results = PairedTest(named, {"BLEU": BLEU(references=[REFERENCES])}, None, "ar", 10000)()
    expected = results["BLEU"][1].p_value
    p_value = paired_p_value(METRICS["bleu"], [bleu_rows(0.25, 2)], [bleu_rows(0.3, 1)], "talks.test")
    assert 0.02 < expected < 0.8
    assert p_value == pytest.approx(expected, abs=0.05)
    assert name_of_test(METRICS["bleu"]) == "approximate randomisation"


def test_randomisation_needs_no_sums_of_statistics():
    """Macro-F1 of swapped predictions, as scipy swaps them."""
    ours, theirs = predictions(0.8, 1), predictions(0.65, 2)
    both = np.concatenate([ours, theirs])
    metric = METRICS["macro-f1"]
    expected = permutation_test(
        (np.arange(80), np.arange(80, 160)),
        lambda a, b: float(metric.score(both[a]) - metric.score(both[b])),
        permutation_type="samples",
        n_resamples=1000,
        rng=1,
    ).pvalue
    assert 0.02 < expected < 0.8
    assert paired_p_value(metric, [ours], [theirs], "talks.test") == pytest.approx(expected, abs=0.05)


def test_equal_models_do_not_differ():
    for name, rows in {"nll": likelihoods(0, 1), "bleu": bleu_rows(0.3, 1)}.items():
        assert paired_p_value(METRICS[name], [rows], [rows], "talks.test") == 1.0


def test_models_that_differ_clearly_have_the_smallest_p_value():
    better, worse = bleu_rows(0.05, 1), bleu_rows(0.6, 2)
    assert paired_p_value(METRICS["bleu"], [better], [worse], "talks.test") == pytest.approx(0.001)


def test_the_test_of_several_repetitions_is_of_their_mean():
    theirs = likelihoods(0, 1)
    better, worse = theirs - np.array([0.5, 0, 0]), theirs + np.array([0.5, 0, 0])
    metric = METRICS["nll"]
    assert paired_p_value(metric, [better], [theirs], "talks.test") < 0.01
    assert paired_p_value(metric, [better, worse], [theirs], "talks.test") > 0.05


@pytest.mark.parametrize("metric", ["nll", "bleu"])
def test_models_that_are_alike_are_told_apart_as_often_as_the_level_says(metric):
    def rows(seed: int) -> np.ndarray:
        return likelihoods(0, seed) if metric == "nll" else bleu_rows(0.3, seed)

    p_values = [
        paired_p_value(METRICS[metric], [rows(2 * seed)], [rows(2 * seed + 1)], "talks.test")
        for seed in range(60)
    ]
    assert np.mean(np.array(p_values) < 0.1) < 0.25
    assert 0.35 < np.mean(p_values) < 0.65


def test_holm_on_a_textbook_case():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_what_was_not_tested_is_not_counted():
    corrected = holm([0.01, float("nan"), 0.04])
    assert corrected[::2] == pytest.approx([0.02, 0.04])
    assert np.isnan(corrected[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_no_correction_and_bonferroni_and_keeps_the_order(p_values):
    corrected = np.array(holm(p_values))
    given_ = np.array(p_values)
    assert (corrected >= given_ - 1e-12).all()
    assert (corrected <= np.minimum(1, len(given_) * given_) + 1e-12).all()
    assert (np.diff(corrected[np.argsort(given_, kind="stable")]) >= 0).all()
