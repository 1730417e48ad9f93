"""Intervals and corrections against slow, against scipy, and against known answers."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from nvreg.metrics import METRICS
from nvreg.metrics.randomisation import SWAPS
from nvreg.metrics.resampling import RESAMPLES, holm, interval, resample_counts, standard_error

NLL, BLEU = METRICS["nll"], METRICS["bleu"]


def likelihoods(generator: np.random.Generator, examples: int, mean: float = 0.0) -> np.ndarray:
    """One token and character an example: nll is then a mean over examples."""
    return np.stack([generator.normal(mean, 1, examples), np.ones(examples), np.ones(examples)], axis=1)


def paired_differences(metric, setting, pretrained, split):
    counts = resample_counts(split, len(pretrained))
    return metric.score(setting, counts) - metric.score(pretrained, counts)


def test_resamples_draw_as_many_examples_as_there_are():
    counts = resample_counts("talks.test", 17)
    assert counts.shape == (RESAMPLES, 17)
    assert (counts.sum(axis=1) == 17).all()
    assert (counts >= 0).all()


def test_resamples_are_those_of_the_split_and_its_size():
    first = resample_counts("talks.test", 30).copy()
    resample_counts.cache_clear()
    assert (first == resample_counts("talks.test", 30)).all()
    assert (first != resample_counts("books.test", 30)).any()
    assert (first != resample_counts("talks.validation", 30)).any()
    assert (first[:, :29] != resample_counts("talks.test", 29)).any()


def test_summed_statistics_equal_scoring_every_resample_anew():
    generator = np.random.default_rng(3)
    totals = generator.integers(5, 30, size=(25, 1)) - np.arange(4)
    matches = generator.binomial(np.maximum(totals, 1), 0.6)
    lengths = totals[:, :1] + generator.integers(-2, 3, size=(25, 2))
    setting = np.concatenate([lengths, matches, totals], axis=1).astype(float)
    pretrained = np.roll(setting, 1, axis=0)
    differences = paired_differences(BLEU, setting, pretrained, "talks.test")
    for resample in (0, 1, RESAMPLES - 1):
        drawn = np.repeat(np.arange(25), resample_counts("talks.test", 25)[resample].astype(int))
        expected = BLEU.score(setting[drawn]) - BLEU.score(pretrained[drawn])
        assert differences[resample] == pytest.approx(expected)


def test_interval_and_standard_error_agree_with_scipy():
    generator = np.random.default_rng(0)
    setting, pretrained = likelihoods(generator, 200, 0.3), likelihoods(generator, 200)
    differences = paired_differences(NLL, setting, pretrained, "talks.test")
    expected = scipy.stats.bootstrap(
        (setting[:, 0], pretrained[:, 0]),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        paired=True,
        method="percentile",
        n_resamples=5000,
        random_state=1,
    )
    assert interval(differences) == pytest.approx(tuple(expected.confidence_interval), abs=0.025)
    assert standard_error(differences) == pytest.approx(expected.standard_error, rel=0.08)


def test_pairing_removes_what_examples_have_in_common():
    generator = np.random.default_rng(0)
    pretrained = likelihoods(generator, 100)
    constant = pretrained + np.array([0.5, 0, 0])
    assert standard_error(paired_differences(NLL, constant, pretrained, "talks.test")) == pytest.approx(
        0, abs=1e-12
    )


def test_intervals_cover_at_about_the_nominal_rate():
    generator = np.random.default_rng(0)
    intervals = [
        interval(
            paired_differences(NLL, likelihoods(generator, 80, 0.2), likelihoods(generator, 80), "talks.test")
        )
        for _ in range(400)
    ]
    assert 0.91 < np.mean([low <= 0.2 <= high for low, high in intervals]) < 0.98


def test_infinite_differences_have_no_standard_error():
    setting, pretrained = np.array([[1e6, 1.0, 1.0], [1.0, 1.0, 1.0]]), np.ones((2, 3))
    differences = paired_differences(METRICS["perplexity"], setting, pretrained, "talks.test")
    assert np.isnan(standard_error(differences))


def test_holm_on_a_textbook_case():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_smallest_p_value_stays_significant_in_many_domains():
    assert holm([1 / (SWAPS + 1)] * 100)[0] < 0.05


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
