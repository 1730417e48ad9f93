import numpy as np
import pytest
from hypothesis import given
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss

from nvreg.metrics import METRICS
from nvreg.metrics.classification import choice_statistics
from tests.metrics.examples import SEED, choice_rows, predictions


@given(seed=SEED)
def test_accuracy_and_macro_f1_are_scikit_learns(seed):
    labels, probabilities = predictions(seed, examples=9, classes=5)
    predicted, rows = probabilities.argmax(axis=1), choice_rows("classes", labels, probabilities)
    assert METRICS["accuracy"].score(rows) == pytest.approx(accuracy_score(labels, predicted))
    assert METRICS["macro-f1"].score(rows) == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert list(METRICS["accuracy"].per_example(rows)) == list(labels == predicted)


@given(seed=SEED)
def test_brier_and_nll_are_scikit_learns(seed):
    labels, probabilities = predictions(seed)
    expected = brier_score_loss(labels, probabilities, labels=range(3), scale_by_half=False)
    rows = choice_rows("calibration", labels, probabilities)
    assert METRICS["brier"].score(rows) == pytest.approx(expected)
    assert METRICS["brier"].per_example(rows).mean() == pytest.approx(expected)
    expected = log_loss(labels, probabilities, labels=range(3))
    rows = choice_rows("likelihood", labels, probabilities)
    assert METRICS["nll"].score(rows) == pytest.approx(expected)


def test_examples_may_have_different_numbers_of_alternatives():
    rows = choice_statistics([np.log([0.25, 0.75]), np.log([0.5, 0.3, 0.2])], [1, 2])
    assert rows["classes"] == [[1, 1], [2, 0]]
    np.testing.assert_allclose(rows["calibration"], [[0.75, 1, 0.125], [0.5, 0, 0.25 + 0.09 + 0.64]])
    np.testing.assert_allclose(rows["likelihood"], [[-np.log(0.75), 1, 0], [-np.log(0.2), 1, 0]])


@given(seed=SEED)
def test_ece_is_that_of_scikit_learns_equal_bins(seed):
    rng = np.random.default_rng(seed)
    confidence = rng.permutation(np.linspace(0.4, 1, 15 * 7))
    right = rng.random(len(confidence)) < 0.7
    accuracies, confidences = calibration_curve(right, confidence, n_bins=15, strategy="quantile")
    rows = np.stack([confidence, right, right], axis=1).astype(float)
    assert METRICS["ece"].score(rows) == pytest.approx(np.abs(accuracies - confidences).mean())


def test_ece_of_equal_confidences_is_their_distance_from_accuracy():
    rows = np.array([[0.9, 1, 0], [0.9, 0, 0], [0.9, 1, 0], [0.9, 0, 0]])
    assert METRICS["ece"].score(rows) == pytest.approx(0.4)
    assert METRICS["ece"].score(rows, np.array([[3, 1, 0, 0], [0, 0, 5, 0]])) == pytest.approx([0.15, 0.1])


def test_ece_has_bins_of_its_own_for_each_resample():
    """Halves that err in opposite directions would cancel in a bin of both."""
    rows = np.array([[0.6, 1, 0]] * 30 + [[0.8, 0, 0]] * 60)
    counts = np.repeat([[1, 1], [4, 1], [2, 0]], [30, 60], axis=1)
    expected = [(30 * 0.4 + 60 * 0.8) / 90, (120 * 0.4 + 60 * 0.8) / 180, 0.4]
    assert METRICS["ece"].score(rows, counts) == pytest.approx(expected)
