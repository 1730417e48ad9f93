import numpy as np
import pytest

from nvreg.metrics import METRICS
from nvreg.metrics.likelihood import byte_and_word_statistics


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


def test_bytes_and_words_are_counted_as_the_harness_counts_them():
    rows = byte_and_word_statistics([6.0, 2.0, 0.0], ["ein größer  Kater\n", "Hund", ""])
    assert rows == [[6.0, len("ein größer  Kater\n".encode()), 4.0], [2.0, 4.0, 1.0], [0.0, 0.0, 0.0]]
    assert score("bits-per-byte", rows) == pytest.approx(8 / (20 + 4) / np.log(2))
    assert score("byte-perplexity", rows) == pytest.approx(np.exp(8 / 24))
    assert score("word-perplexity", rows) == pytest.approx(np.exp(8 / 5))
    for name, expected in {"bits-per-byte": 0.5 / np.log(2), "word-perplexity": 2.0}.items():
        assert METRICS[name].per_example(np.array(rows))[1] == pytest.approx(expected)


@pytest.mark.parametrize("name", [name for name in METRICS if METRICS[name].group in ("likelihood", "text")])
def test_the_score_of_an_example_is_called_what_it_is(name):
    metric, row = METRICS[name], np.array([[3.0, 2.0, 5.0]])
    (own,) = metric.per_example(row)
    if metric.name_of_example == name:
        assert own == pytest.approx(metric.score(row))
    else:
        assert metric.name_of_example == {"word-": "nats per word", "byte-": "nats per byte"}.get(
            name[:5], "nll"
        )
        assert np.exp(own) == pytest.approx(metric.score(row))
