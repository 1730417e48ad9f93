import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score as entity_f1_score
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss

from nvreg.metrics import METRICS
from nvreg.metrics.classification import choice_statistics, names_entities, word_statistics
from tests.metrics.examples import (
    SEED,
    SENTENCES,
    TAGS,
    choice_rows,
    entity_rows,
    predictions,
    word_rows,
    words,
)


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


@given(seed=SEED)
@pytest.mark.parametrize(
    ("name", "group"),
    [("accuracy", "classes"), ("macro-f1", "classes"), ("ece", "calibration"), ("brier", "calibration")],
)
def test_words_of_a_corpus_count_alike_whatever_examples_they_are_of(name, group, seed):
    """And a resample draws all words of an example."""
    scored, lengths = predictions(seed), words(seed)
    metric, rows = METRICS[name], word_rows(group, *scored, lengths)
    of_words = choice_rows(group, *scored)
    assert metric.score(rows) == pytest.approx(metric.score(of_words))
    counts = np.random.default_rng(seed).integers(1, 4, (2, len(lengths)))
    expected = metric.score(of_words, counts.repeat(lengths, axis=1))
    assert metric.score(rows, counts) == pytest.approx(expected)


def test_an_examples_own_score_is_the_mean_of_its_words():
    rows = {
        group: np.array([each for each in padded_rows if each])
        for group, padded_rows in word_statistics(
            np.log([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.6, 0.4]]), [0, 0, 0, 1], [2, 2]
        ).items()
    }
    assert rows["classes"].tolist() == [[0, 0, 0, 1], [0, 0, 1, 0]]
    assert list(METRICS["accuracy"].per_example(rows["classes"])) == [0.5, 0.5]
    assert METRICS["brier"].per_example(rows["calibration"]) == pytest.approx([(0.02 + 1.28) / 2, 0.52])
    nats = [-np.log(0.9) - np.log(0.2), -np.log(0.6) - np.log(0.4)]
    assert rows["likelihood"] == pytest.approx(np.array([[nats[0], 2, 0], [nats[1], 2, 0]]))


def test_a_confidence_that_is_no_number_is_no_missing_word():
    broken = np.array([[np.nan, np.nan], [np.log(0.5), np.log(0.5)], [np.log(0.2), np.log(0.8)]])
    statistics = word_statistics(broken, [0, 1, 1], [2, 1])["calibration"]
    rows = np.array([statistics[0], [*statistics[1], *[np.nan] * 3]])
    assert np.isnan(METRICS["ece"].score(rows))
    assert np.isnan(METRICS["brier"].score(rows))


@pytest.mark.parametrize("name", ["accuracy", "macro-f1", "ece", "brier"])
def test_a_corpus_without_words_has_no_score(name):
    assert np.isnan(METRICS[name].score(np.empty((2, 0)), np.ones((3, 2)))).all()


@given(SENTENCES, st.data())
def test_f1_is_that_of_seqeval(sentences, data):
    counts = [data.draw(st.integers(0, 3)) for _ in sentences]
    metric, rows = METRICS["f1"], entity_rows(sentences)
    drawn = [each for each, count in zip(sentences, counts, strict=True) for _ in range(count)]
    for resample, of_resample in ((sentences, [1] * len(sentences)), (drawn, counts)):
        right, predicted = ([[pair[side] for pair in each] for each in resample] for side in (0, 1))
        expected = entity_f1_score(right, predicted, zero_division=0) if resample else 0
        assert metric.score(rows, np.array([of_resample])) == pytest.approx([expected])
    own = [1 if not row[:2].any() else 2 * row[2] / (row[0] + row[1]) for row in rows]
    assert metric.per_example(rows) == pytest.approx(own)


def test_tags_that_name_entities_are_known():
    assert all(map(names_entities, TAGS))
    assert not any(map(names_entities, ["NOUN", "X", "LABEL_0", "b-per", ".", "", "BPER", "U-x"]))
