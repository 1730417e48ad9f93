import numpy as np
import pytest

from nvreg.metrics import METRICS


def score(name, rows):
    return METRICS[name].score(np.array(rows, dtype=float))


def test_sums_are_divided_by_tokens_and_characters():
    rows = [[4.0, 1, 10], [2.0, 2, 2]]
    assert score("nll", rows) == pytest.approx(2)
    assert score("perplexity", rows) == pytest.approx(np.exp(2))
    assert score("bits-per-character", rows) == pytest.approx(0.5 / np.log(2))


def test_an_example_scores_in_nats_or_bits_even_where_nothing_is_scored():
    rows = np.array([[4.0, 2, 8], [0.0, 0, 0]])
    np.testing.assert_allclose(METRICS["nll"].per_example(rows), [2, 0])
    np.testing.assert_allclose(METRICS["perplexity"].per_example(rows), [2, 0])
    np.testing.assert_allclose(METRICS["bits-per-character"].per_example(rows), [0.5 / np.log(2), 0])


def test_scores_without_a_finite_value_raise_no_warning(recwarn):
    assert score("perplexity", [[1e6, 1, 1]]) == np.inf
    assert score("bits-per-character", [[1, 1, 0]]) == np.inf
    assert not recwarn.list
