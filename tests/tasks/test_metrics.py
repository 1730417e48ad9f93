import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from nvreg.errors import UserError
from nvreg.tasks.metrics import GENERATED, METRICS, check_metrics, score, text_statistics

SENTENCE = st.lists(st.sampled_from(["a", "b", "cat", "dog.", "ein", "Ö", "12,5"]), max_size=9).map(" ".join)
CORPUS = st.lists(st.tuples(SENTENCE, SENTENCE), min_size=1, max_size=8)
SACREBLEU = {"bleu": BLEU, "chrf": CHRF}


def aggregate(name, sums):
    return METRICS[name].aggregate(np.asarray(sums, dtype=float))


@pytest.mark.parametrize("name", SACREBLEU)
@given(corpus=CORPUS)
def test_scores_are_sacrebleus(name, corpus):
    predictions, references = zip(*corpus, strict=True)
    sums = text_statistics(name, predictions, references).sum(axis=0)
    expected = SACREBLEU[name]().corpus_score(predictions, [references]).score
    assert aggregate(name, sums) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", SACREBLEU)
@given(corpus=CORPUS)
def test_bleu_and_chrf_of_a_copy_are_100(name, corpus):
    references = [reference + " one two three four" for _, reference in corpus]
    assert aggregate(name, text_statistics(name, references, references).sum(axis=0)) == pytest.approx(100)


@given(corpus=CORPUS, counts=st.lists(st.integers(0, 3), min_size=24, max_size=24))
def test_many_sums_at_once_score_as_each_alone(corpus, counts):
    for name, metric in METRICS.items():
        statistics = _statistics(metric.group, corpus)
        resampled = np.reshape(counts, (3, 8))[:, : len(corpus)] @ statistics
        with np.errstate(all="ignore"):
            together = metric.aggregate(resampled)
            alone = [metric.aggregate(row) for row in resampled]
        assert together.shape == (3,)
        np.testing.assert_array_equal(together, alone, err_msg=name)


def _statistics(group, corpus):
    if group == "likelihood":
        return np.array([[1.5 * len(a) + 1, len(b.split()) + 1, len(b)] for a, b in corpus])
    predictions, references = zip(*corpus, strict=True)
    return text_statistics(group, predictions, references)


def test_likelihood_is_divided_by_tokens_and_characters():
    sums = [[6.0, 3, 12], [4.0, 8, 2]]
    np.testing.assert_allclose(aggregate("nll", sums), [2, 0.5])
    np.testing.assert_allclose(aggregate("perplexity", sums), np.exp([2, 0.5]))
    np.testing.assert_allclose(aggregate("bits-per-character", sums), [0.5 / np.log(2), 2 / np.log(2)])


def test_scores_without_a_finite_value_raise_no_warning(recwarn):
    assert aggregate("perplexity", [1e6, 1, 1]) == np.inf
    assert aggregate("bits-per-character", [1, 1, 0]) == np.inf
    assert not recwarn.list


def test_length_ratio_counts_words_of_predictions_by_words_of_references():
    statistics = text_statistics("bleu", ["a b c", "d."], ["a b", "e f g h"])
    assert aggregate("length-ratio", statistics.sum(axis=0)) == pytest.approx(5 / 6)


def test_score_sums_a_frame_over_its_examples():
    frame = pd.DataFrame({"likelihood": [[2.0, 1, 5], [4.0, 5, 5]]})
    assert score(frame, "nll") == pytest.approx(1)


def test_directions_and_groups():
    better = {name: metric.higher_is_better for name, metric in METRICS.items()}
    assert better == {
        "nll": False,
        "perplexity": False,
        "bits-per-character": False,
        "bleu": True,
        "chrf": True,
        "length-ratio": None,
    }
    assert {metric.group for metric in METRICS.values()} == {"likelihood", *GENERATED}
    assert all(name == metric.name for name, metric in METRICS.items())


@pytest.mark.parametrize("name", SACREBLEU)
def test_signature_is_sacrebleus(name):
    reference = SACREBLEU[name]()
    reference.corpus_score(["a"], [["b"]])
    assert METRICS[name].signature() == str(reference.get_signature())
    assert "version:" in METRICS[name].signature()


def test_signatures_tell_the_likelihood_metrics_apart():
    assert len({METRICS[name].signature() for name in ("nll", "perplexity", "bits-per-character")}) == 3


def test_unknown_metric_is_refused_with_those_that_exist():
    check_metrics(["bleu", "nll"])
    with pytest.raises(UserError, match=r"expected some of nll, .*length-ratio, received 'blue'"):
        check_metrics(["bleu", "blue"])


def test_metrics_do_not_import_torch():
    code = (
        "import sys, nvreg.tasks.metrics; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
