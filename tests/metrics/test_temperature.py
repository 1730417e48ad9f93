"""What was kept of examples says what they score after any temperature, as if it had been scored so."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nvreg.config import Evaluation, Reading
from nvreg.metrics import padded, statistics_of
from nvreg.metrics.classification import choice_statistics, word_statistics
from nvreg.metrics.temperature import (
    ANY,
    alternatives_of,
    columns_needed,
    statistics_at,
    temperatures_of,
)
from nvreg.tasks import make_task
from tests.metrics.examples import SEED, predictions, words
from tests.tasks.test_scoring_version import CASES, FROZEN

GROUPS = ("likelihood", "calibration", "classes")
KEPT = [0.8, 1.0, 1.3]
DENSE = Evaluation(metrics=["nll"]).temperatures


def at(frame, group, temperature, kept=KEPT):
    names = columns_needed(group, temperature == 1, list(frame.columns))
    return statistics_at({name: statistics_of(frame, name) for name in names}, group, temperature, kept)


def scored(case, directory, temperature=1.0, kept=KEPT):
    """Score a tiny model of a task, its logits divided by a temperature."""
    name, model, tokenizer, options, examples = CASES[case](directory)
    evaluation = Evaluation(metrics=list(FROZEN[case]), temperatures=kept, **options)
    task = make_task(name, tokenizer, model.config, data=Reading(), evaluation=evaluation)

    def divide(module, inputs, output):
        output.logits = output.logits / temperature
        return output

    model.register_forward_hook(divide)
    with torch.inference_mode():
        return task.score(model, task.encode(examples))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("temperature", [0.8, 1.3])
def test_every_task_scores_after_a_temperature_as_a_model_whose_logits_are_divided_by_it(
    case, temperature, tmp_path
):
    frame, divided = scored(case, tmp_path), scored(case, tmp_path, temperature)
    assert temperature in temperatures_of(list(frame.columns), KEPT) or "alternatives" in frame
    for group in set(GROUPS) & set(frame.columns):
        expected = statistics_of(divided, group)
        assert at(frame, group, temperature) == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True)
        assert np.array_equal(at(frame, group, 1.0), statistics_of(frame, group), equal_nan=True)


@pytest.mark.parametrize("case", ["causal", "translation greedy", "multiple choice"])
def test_between_temperatures_that_were_kept_scores_are_those_of_divided_logits_to_their_fifth_digit(
    case, tmp_path
):
    frame = scored(case, tmp_path, kept=DENSE)
    known = temperatures_of(list(frame.columns), DENSE)
    between = min(known, key=lambda each: abs(each - 1.4))
    assert between not in DENSE
    expected = statistics_of(scored(case, tmp_path, between, kept=[]), "likelihood")
    assert at(frame, "likelihood", between, DENSE) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_what_was_kept_is_among_the_temperatures_and_those_between_are_one_percent_apart():
    known = temperatures_of(["tempered"], DENSE)
    assert set(DENSE) < set(known)
    assert (known[0], known[-1]) == (0.8, 1.5)
    assert 1.005 < np.divide(known[1:], known[:-1]).max() <= 1.01 + 1e-6


@pytest.mark.parametrize("kept", [[0.8, 0.9, 1.0, 1.1], [0.5, 0.8, 1.0, 1.1, 1.25, 1.5]])
def test_few_temperatures_and_those_far_from_each_other_are_not_interpolated(kept):
    assert temperatures_of(["tempered"], kept) == tuple(kept)


SPREAD = {
    "as they come": (DENSE, 1e-4),
    "some close together": ([1.0, 1.0001, 1.0002, 1.0003, 1.0004, 1.2], 0),
    "some close together below": ([0.8, 0.9, 0.998, 0.999, 1.0, 1.1, 1.2, 1.3], 2e-4),
    "as wide as can be": ([0.5 * 1.2**step for step in range(10)], 5e-4),
    "wider": ([0.5 * 1.25**step for step in range(10)], 0),
}


@pytest.mark.parametrize(("kept", "within"), SPREAD.values(), ids=SPREAD)
def test_at_temperatures_of_no_vocabulary_a_smooth_function_is_met(kept, within):
    """Nats of a token are a log-sum-exp of logits over the temperature, less the token's own."""
    logits = np.random.default_rng(0).normal(scale=3, size=(50, 1000))

    def nats(temperature):
        return np.logaddexp.reduce(logits / temperature, axis=1) - logits[:, 0] / temperature

    columns = {"tempered": np.stack([nats(each) for each in kept], axis=-1).astype(np.float32)}
    columns["likelihood"] = np.stack([nats(1.0), np.ones(50), np.ones(50)], axis=-1)
    known = temperatures_of(["tempered"], kept)
    assert (len(known) > len(kept)) == (within > 0)
    for temperature in known:
        got = statistics_at(columns, "likelihood", temperature, kept)[:, 0]
        assert got == pytest.approx(nats(temperature), rel=max(within, 1e-6))


def test_a_model_that_is_destroyed_is_no_candidate_between_temperatures():
    columns = {"tempered": np.full((1, len(DENSE)), np.inf), "likelihood": np.array([[np.inf, 1, 1]])}
    between = temperatures_of(["tempered"], DENSE)[1]
    assert not np.isfinite(statistics_at(columns, "likelihood", between, DENSE)[0, 0])


@pytest.mark.parametrize("case", CASES)
def test_without_temperatures_nothing_is_kept_and_nothing_else_changes(case, tmp_path):
    frame, bare = scored(case, tmp_path), scored(case, tmp_path, kept=[])
    added = {"labels", "alternatives", "tempered"} & set(frame.columns)
    assert added
    assert frame.drop(columns=list(added)).equals(bare)
    assert temperatures_of(list(bare.columns), [1.0]) == (1.0,)


def test_any_temperature_is_on_a_scale_of_ratios_with_1_on_it():
    assert (ANY[0], ANY[16], ANY[-1]) == (0.25, 1.0, 4.0)
    assert np.diff(np.log(ANY)) == pytest.approx(np.log(2) / 8)


@given(seed=SEED, temperature=st.floats(0.2, 5))
def test_choices_at_a_temperature_are_those_of_the_divided_logits(seed, temperature):
    labels, probabilities = predictions(seed)
    columns = {
        name: np.array(rows) for name, rows in alternatives_of(list(np.log(probabilities)), labels).items()
    }
    divided = torch.from_numpy(np.log(probabilities) / temperature).log_softmax(-1).numpy()
    for group, expected in choice_statistics(list(divided), labels).items():
        got = statistics_at(columns, group, temperature, [1.0])
        assert got == pytest.approx(np.array(expected), rel=1e-5, abs=1e-6)


@given(seed=SEED, temperature=st.floats(0.2, 5))
def test_words_of_unequal_texts_at_a_temperature_are_those_of_the_divided_logits(seed, temperature):
    labels, probabilities = predictions(seed)
    counts = words(seed)
    ends = np.cumsum(counts)[:-1]
    kept = alternatives_of(np.split(np.log(probabilities), ends), np.split(labels, ends))
    columns = {name: below(rows) for name, rows in kept.items()}
    divided = torch.from_numpy(np.log(probabilities) / temperature).log_softmax(-1).numpy()
    expected = word_statistics(divided, labels, counts)
    for group in ("likelihood", "calibration"):
        got = statistics_at(columns, group, temperature, [1.0])
        assert got == pytest.approx(below(expected[group]), rel=1e-5, abs=1e-5, nan_ok=True)


def below(rows):
    """Rows one below the other, NaN after the end of shorter ones."""
    return padded(np.concatenate(rows).astype(np.float64), np.array(list(map(len, rows))))


def test_texts_without_any_word_have_nothing_to_score():
    columns = {"labels": np.empty((2, 0)), "alternatives": np.empty((2, 0))}
    assert statistics_at(columns, "likelihood", 2.0, [1.0]).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert statistics_at(columns, "calibration", 2.0, [1.0]).shape == (2, 0)


def test_a_destroyed_model_stays_so_at_any_temperature():
    columns = {"labels": np.array([[0.0], [1.0]]), "alternatives": np.array([[np.nan] * 2, [-0.5, -1.0]])}
    nats = statistics_at(columns, "likelihood", 2.0, [1.0])[:, 0]
    assert np.isnan(nats).tolist() == [True, False]


def test_what_was_not_kept_is_named():
    with pytest.raises(KeyError, match="alternatives"):
        columns_needed("likelihood", False, ["id", "likelihood"])
    with pytest.raises(KeyError, match="bleu"):
        columns_needed("bleu", True, ["id", "likelihood"])
    assert columns_needed("bleu", False, ["bleu", "tempered"]) == ["bleu"]
