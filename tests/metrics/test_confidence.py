"""Accuracy that confidences let expect, against cases worked out by hand and simulations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvreg.metrics.confidence import average_thresholded_confidence, tempered_confidence

ESTIMATES = [average_thresholded_confidence, tempered_confidence]
both = pytest.mark.parametrize("estimate", ESTIMATES)


def log_probabilities(*confidences: float) -> np.ndarray:
    """Two classes, the first of which is predicted with these probabilities."""
    return np.log([[each, 1 - each] for each in confidences])


def once(examples: np.ndarray) -> np.ndarray:
    return np.ones((1, len(examples)))


def drawn(rng: np.random.Generator, examples: int, spread: float, sharpened: float = 1.0, classes: int = 3):
    """Log-probabilities that are right as often as they say before they are sharpened; and what is right."""
    logits = rng.normal(scale=spread, size=(examples, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    labels = (probabilities.cumsum(axis=-1) < rng.uniform(size=(examples, 1))).sum(axis=-1)
    return _normalised(logits * sharpened), labels == logits.argmax(axis=-1)


def _normalised(logits: np.ndarray) -> np.ndarray:
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def test_as_many_examples_fail_the_threshold_as_are_wrong():
    known = log_probabilities(0.9, 0.6, 0.8, 0.7)  # one is wrong, so 0.6 is where it is set
    fitted = average_thresholded_confidence(known, np.array([True, True, False, True]), once(known))
    asked = log_probabilities(0.55, 0.6, 0.61, 0.99)
    assert fitted(asked, once(asked)) == pytest.approx([0.5])
    assert fitted(known, once(known)) == pytest.approx([0.75])


def test_where_nothing_is_wrong_everything_passes():
    known = log_probabilities(0.9, 0.6)
    fitted = average_thresholded_confidence(known, np.array([True, True]), once(known))
    asked = log_probabilities(0.51, 0.52)
    assert fitted(asked, once(asked)) == [1]


def test_confidence_does_not_saturate():
    known = np.array([[0.0, -40.0], [0.0, -50.0], [0.0, -60.0]])  # each with probability 1 in float64
    fitted = average_thresholded_confidence(known, np.array([False, True, True]), once(known))
    asked = np.array([[0.0, -45.0], [0.0, -39.0]])
    assert fitted(asked, once(asked)) == [0.5]


def test_a_temperature_that_undoes_sharpening_is_found():
    rng = np.random.default_rng(0)
    known, right = drawn(rng, 4000, spread=1.0, sharpened=2.0)
    asked, truth = drawn(rng, 4000, spread=0.4, sharpened=2.0)
    fitted = tempered_confidence(known, right, once(known))
    assert fitted(asked, once(asked))[0] == pytest.approx(truth.mean(), abs=0.02)
    assert abs(np.exp(asked.max(axis=-1)).mean() - truth.mean()) > 0.08


@both
def test_what_is_less_certain_is_taken_to_be_less_often_right(estimate):
    rng = np.random.default_rng(1)
    known, right = drawn(rng, 2000, spread=2.0)
    fitted = estimate(known, right, once(known))
    asked, truths = zip(*(drawn(rng, 2000, spread) for spread in (0.3, 0.8, 1.5, 2.0, 3.0)), strict=True)
    estimates = [float(fitted(each, once(each))[0]) for each in asked]
    assert estimates == sorted(estimates)
    assert estimates[3] == pytest.approx(truths[3].mean(), abs=0.03)


@both
@given(st.integers(0, 2**32))
def test_a_resample_is_as_if_its_examples_were_all_there_are(estimate, seed):
    rng = np.random.default_rng(seed)
    known, right = drawn(rng, 12, spread=2.0)
    asked, _ = drawn(rng, 9, spread=1.0)
    counts, others = (rng.multinomial(n, np.full(n, 1 / n), size=3).astype(float) for n in (12, 9))
    resampled = estimate(known, right, counts)(asked, others)
    for row, (of_known, of_asked) in enumerate(zip(counts, others, strict=True)):
        there = np.repeat(known, of_known.astype(int), axis=0)
        were_right = np.repeat(right, of_known.astype(int))
        elsewhere = np.repeat(asked, of_asked.astype(int), axis=0)
        alone = estimate(there, were_right, once(there))(elsewhere, once(elsewhere))
        assert resampled[row] == pytest.approx(alone[0])
