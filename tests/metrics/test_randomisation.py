"""Tests by approximate randomisation against scipy and sacrebleu, and against known answers."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU as SacreBLEU
from sacrebleu.significance import PairedTest

from nvreg.metrics import METRICS, randomisation, text_statistics
from nvreg.metrics.randomisation import SWAPS, p_value

NLL, BLEU = METRICS["nll"], METRICS["bleu"]
REFERENCES = [f"the {a} {b} sees a {c} in the {a}" for a in "abcd" for b in "efgh" for c in "ijk"]


each_metric = pytest.mark.parametrize(
    "name",
    [
        *("perplexity", "ece", "bleu"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("bits-per-character", "accuracy", "macro-f1")
        ),
    ],
)


def of_tokens(nll: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Statistics of examples by their mean nll a token and their tokens, of four characters each."""
    return np.stack([nll * tokens, tokens, 4 * tokens], axis=1)


def most_improve(examples: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Before and after: nine of ten examples, short ones, gain a little; of the long ones some lose much."""
    generator = np.random.default_rng(4)
    is_long = np.arange(examples) % 10 == 0
    tokens = np.where(is_long, 90, generator.integers(5, 15, examples))
    before = generator.normal(2.5, 0.4, examples)
    noise = generator.normal(0, 0.6, is_long.sum())
    change = generator.normal(-0.03, 0.02, examples)
    change[is_long] = 0.11 + noise - noise.mean()
    return of_tokens(before, tokens), of_tokens(before + change, tokens)


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


def drawn(group: str, examples: int, seed: int) -> np.ndarray:
    """Any statistics of a group."""
    generator = np.random.default_rng(seed)
    match group:
        case "likelihood":
            return of_tokens(generator.exponential(size=examples), generator.integers(1, 30, examples))
        case "classes":
            return predictions(0.6, seed, examples)
        case "calibration":
            right = generator.integers(2, size=examples)
            return np.stack([generator.uniform(0.3, 1, examples), right, generator.random(examples)], axis=1)
        case _:
            return bleu_rows(0.3, seed)[:examples]


def by_scipy(metric, ours: np.ndarray, theirs: np.ndarray, swaps: float, tail: str = "two-sided") -> float:
    both, places = np.concatenate([ours, theirs]), np.arange(len(ours))
    return scipy.stats.permutation_test(
        (places, places + len(ours)),
        lambda a, b: float(metric.score(both[a]) - metric.score(both[b])),
        permutation_type="samples",
        n_resamples=swaps,
        alternative=tail,
        random_state=1,
    ).pvalue


def test_what_improves_most_examples_and_worsens_the_score_is_no_improvement():
    before, after = most_improve()
    assert METRICS["perplexity"].score(after) - METRICS["perplexity"].score(before) > 0.4
    assert scipy.stats.wilcoxon(NLL.per_example(after) - NLL.per_example(before)).pvalue < 1e-20
    for name in ("nll", "perplexity", "bits-per-character"):
        assert p_value(METRICS[name], [after], [before], "talks.test") > 0.05


@each_metric
@given(examples=st.integers(2, 6), seed=st.integers(0, 2**31))
def test_few_examples_are_tested_exactly_as_by_scipy(name, examples, seed):
    metric = METRICS[name]
    ours, theirs = (drawn(metric.group, examples, seed + side) for side in range(2))
    expected = by_scipy(metric, ours, theirs, np.inf)
    assert p_value(metric, [ours], [theirs], "talks.test") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("perplexity", drawn("likelihood", 60, 4) * [1.2, 1, 1], drawn("likelihood", 60, 1)),
        ("accuracy", predictions(0.8, 1), predictions(0.65, 2)),
        ("macro-f1", predictions(0.8, 1), predictions(0.65, 2)),
        ("bleu", bleu_rows(0.28, 2), bleu_rows(0.35, 1)),
    ],
)
def test_many_examples_are_tested_as_by_scipy(name, ours, theirs):
    expected = by_scipy(METRICS[name], ours, theirs, 2000)
    assert 0.001 < expected < 0.9
    found = p_value(METRICS[name], [ours], [theirs], "talks.test")
    assert found == pytest.approx(expected, rel=0.3, abs=0.005)


def test_bleu_is_tested_as_by_sacrebleu():
    named = [("theirs", corrupted(0.3, 1)), ("ours", corrupted(0.25, 2))]
    _, results = PairedTest(named, {"BLEU": SacreBLEU(references=[REFERENCES])}, None, "ar", 10000)()
    expected = results["BLEU"][1].p_value
    assert 0.02 < expected < 0.8
    assert p_value(BLEU, [bleu_rows(0.25, 2)], [bleu_rows(0.3, 1)], "talks.test") == pytest.approx(
        expected, abs=0.05
    )


@pytest.mark.parametrize("name", ["perplexity", "bleu", "accuracy"])
def test_p_values_of_models_that_are_alike_are_uniform(name):
    """Two models whose outputs are drawn alike, 250 times."""
    group, examples = METRICS[name].group, 40
    p_values = np.array(
        [
            p_value(METRICS[name], [drawn(group, examples, seed)], [drawn(group, examples, seed + 1)], "a")
            for seed in range(0, 500, 2)
        ]
    )
    if name != "accuracy":  # whose differences are few
        assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.01
    for level in (0.05, 0.1, 0.5):
        assert np.mean(p_values <= level) < level + 2.5 * np.sqrt(level * (1 - level) / 250)


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (lambda generator: generator.exponential(size=400) - 1, (0.06, 0.90, 0.08)),
        (lambda generator: generator.exponential(size=400) - 0.85, (0.89, 0.07, 0.90)),
        (lambda generator: generator.normal(0.15, 1, 400), (0.84, 0.83, 0.83)),
        (lambda generator: generator.laplace(0.15, size=400), (0.54, 0.78, 0.55)),
    ],
    ids=["skewed, mean 0", "skewed", "normal", "heavy tails"],
)
def test_how_often_a_change_is_significant(draw, expected):
    """Shares of 300 runs by this test, by signed ranks and by a t-test, of changes drawn from a distribution.

    Signed ranks test whether most examples change one way, which skewed changes do whose mean is zero.
    """
    generator, significant = np.random.default_rng(0), np.zeros(3)
    for _ in range(300):
        before, change = generator.normal(3, 1, 400), draw(generator)
        sides = [of_tokens(nll, np.ones(400)) for nll in (before + change, before)]
        by_others = scipy.stats.wilcoxon(change).pvalue, scipy.stats.ttest_1samp(change, 0).pvalue
        by_this = p_value(NLL, sides[:1], sides[1:], "a", swaps=499)  # a share of runs needs no more
        significant += np.array([by_this, *by_others]) < 0.05
    assert significant / 300 == pytest.approx(expected, abs=0.02)


def test_perplexity_is_tested_as_its_logarithm():
    before, after = most_improve()
    assert p_value(NLL, [after], [before], "a") == p_value(METRICS["perplexity"], [after], [before], "a")


def test_a_test_that_ends_early_says_nearly_what_all_swaps_say(monkeypatch):
    p_values = []
    for enough in (randomisation.ENOUGH, SWAPS + 1):
        monkeypatch.setattr(randomisation, "ENOUGH", enough)
        p_values.append(
            [
                p_value(NLL, [drawn("likelihood", 80, seed)], [drawn("likelihood", 80, seed + 1)], "a")
                for seed in range(0, 60, 2)
            ]
        )
    early, full = np.array(p_values)
    assert (early != full).any()
    assert (np.abs(early - full) < 4 * np.sqrt(full * (1 - full) * full / 100) + 1e-3).all()


def test_a_clear_difference_has_the_smallest_p_value():
    ours, theirs = (of_tokens(np.linspace(nll, nll + 1, 40), np.full(40, 9)) for nll in (1, 2))
    assert p_value(NLL, [ours], [theirs], "talks.test") == 1 / (SWAPS + 1)


@pytest.mark.parametrize(("name", "rows"), [("nll", drawn("likelihood", 60, 1)), ("bleu", bleu_rows(0.3, 1))])
def test_equal_models_do_not_differ(name, rows):
    assert p_value(METRICS[name], [rows], [rows.copy()], "talks.test") == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_the_same_calibration_twice_is_no_difference(seed):
    generator = np.random.default_rng(seed)
    rows = np.stack([generator.integers(50, 100, 300) / 100, generator.integers(2, size=300)], axis=1)
    rows = np.concatenate([rows, np.zeros((300, 1))], axis=1)
    assert p_value(METRICS["ece"], [rows], [rows], "talks.test") == 1.0


@given(ours=st.integers(1, 4), theirs=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_several_repetitions_are_tested_by_their_mean(ours, theirs, seed):
    """Accuracies of all repetitions of a side, as one of fractions: ties are ties."""
    seeds = [range(seed, seed + ours), range(seed + ours, seed + ours + theirs)]
    sides = [[predictions(0.7, each, 9) for each in side] for side in seeds]
    means = [np.mean([rows[:, 0] == rows[:, 1] for rows in side], axis=0) for side in sides]
    expected = scipy.stats.permutation_test(
        (np.round(36 * (means[0] - means[1])),), np.sum, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    observed = p_value(METRICS["accuracy"], *sides, "talks.test")
    assert observed == pytest.approx(expected, abs=1e-12)


def test_repetitions_that_are_the_same_are_counted_and_scored_once():
    theirs, better = drawn("likelihood", 60, 1), drawn("likelihood", 60, 1) * [0.9, 1, 1]
    worse = theirs * [1.1, 1, 1]
    assert p_value(NLL, [better], [theirs], "a") < 0.01
    assert p_value(NLL, [better, worse], [theirs], "a") > 0.05
    assert p_value(NLL, [better, better, worse], [theirs] * 3, "a") == p_value(
        NLL, [better, better.copy(), worse], [theirs, theirs.copy(), theirs], "a"
    )


@pytest.mark.parametrize("broken", [np.inf, np.nan])
def test_a_difference_that_is_not_finite_has_no_p_value(broken):
    ours, theirs = drawn("likelihood", 60, 1), drawn("likelihood", 60, 2)
    ours[0, 0] = broken
    assert np.isnan(p_value(NLL, [ours], [theirs], "talks.test"))


@pytest.mark.parametrize("name", ["accuracy", "macro-f1"])
def test_sides_that_score_other_numbers_of_words_are_compared(name):
    """Two models with two tokenizers may cut the same texts after different words."""
    generator = np.random.default_rng(0)
    shorter, longer = (generator.integers(3, size=(9, width)).astype(float) for width in (4, 8))
    expected = p_value(
        METRICS[name], [np.pad(shorter, ((0, 0), (0, 4)), constant_values=np.nan)], [longer], "x"
    )
    assert p_value(METRICS[name], [shorter], [longer], "x") == expected < 1
    assert p_value(METRICS[name], [longer], [shorter], "x") == expected


@each_metric
@given(examples=st.integers(2, 6), seed=st.integers(0, 2**31))
def test_whether_a_side_is_worse_is_tested_exactly_as_by_scipy(name, examples, seed):
    metric = METRICS[name]
    ours, theirs = (drawn(metric.group, examples, seed + side) for side in range(2))
    worse = "less" if metric.higher_is_better else "greater"
    expected = by_scipy(metric, ours, theirs, np.inf, worse)
    observed = p_value(metric, [ours], [theirs], "talks.test", alternative="worse")
    assert observed == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["perplexity", "bleu", "accuracy"])
def test_a_side_that_is_no_worse_is_found_worse_at_the_nominal_rate(name):
    group, examples = METRICS[name].group, 40
    sides = [[drawn(group, examples, seed + side) for side in range(2)] for seed in range(0, 500, 2)]
    found = [
        p_value(METRICS[name], [ours], [theirs], "a", alternative="worse", swaps=999)
        for ours, theirs in sides
    ]
    assert np.mean(np.array(found) < 0.05) < 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 250)
