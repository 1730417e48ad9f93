"""A run with its choices, and the weight noise that changes attention as much as those of NV."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvreg.report.analysis import FACTOR, analyse, change, is_match, match, nearest
from nvreg.report.reading import Arm, read_run
from nvreg.report.selection import Pick
from nvreg.report.tables import methods_table, scores_table, settings_table
from nvreg.report.writing import write_combined, write_comparison, write_report
from tests.report.test_page import table_under

NOISE, MATCHED = "weight-noise", "weight-noise matched"
NOISY = Arm(MATCHED, 42)


@pytest.fixture
def both(small):
    """The small run with changes of 0.1, 0.4, 0.2 and 0.8, and noise whose scores say nothing of its change.

    Trials 5 to 7 change attention by 0.11, 0.35 and 0.02: the first two match trials 1 and 2.
    """
    small.methods = {**small.methods, NOISE: {"space": {"scale": [0.01, 1]}}}
    small.planned = 8
    for line, value in zip(small.lines, (0.0, 0.1, 0.4, 0.2, 0.8), strict=True):
        line["change"] = value
    for nll, value in ((2.6, 0.11), (2.5, 0.35), (1.0, 0.02)):
        small.add_nll(news=nll, talks=nll, books=nll, method=NOISE, change=value, settings={"scale": value})
    return small


def picks(analysis, seed=42) -> dict[str, dict[str, tuple[int, ...]]]:
    return {
        protocol: {domain: pick.trials for domain, pick in selection.items()}
        for protocol, selection in analysis.choices[Arm(MATCHED, seed)].items()
    }


def test_the_noise_nearest_in_change_stands_beside_each_choice_of_nv(both):
    everywhere = ("news", "talks", "books")
    assert picks(analyse(both.write())) == {
        "in-domain": dict.fromkeys(everywhere, (5,)),
        "in-domain-tolerance": dict.fromkeys(everywhere, (6,)),
        "leave-one-domain-out": {},  # trial 3 changes attention by 0.2, far from all
        "out-of-domain-validation": {},
    }


def test_noise_is_never_chosen_by_its_scores(both):
    before = picks(analyse(both.write()))
    for line in both.lines[5:]:
        for splits in line["metrics"].values():
            for metrics in splits.values():
                metrics |= dict.fromkeys(metrics, 0.001)
    analysis = analyse(both.write())
    assert picks(analysis) == before
    assert analysis.choices[Arm(NOISE, 42)]["in-domain"]["talks"].trials == (5,)


def test_its_scores_are_those_of_the_noise_against_the_pretrained_model(both):
    analysis = analyse(both.write())
    for table in (scores_table(analysis), methods_table(analysis)):
        rows = table.set_index(["metric", "method", "protocol", "domain"])
        row = rows.loc["nll", MATCHED, "in-domain-tolerance", "talks"]
        assert (row["trial"], row["setting"]) == (6, '{"scale": 0.35}')
        assert (row["score"], row["difference"]) == (pytest.approx(2.5), pytest.approx(-0.5))
        assert row["low"] < -0.5 < row["high"] < 0
        assert row["p_holm"] < 0.001
        assert rows.loc["nll", MATCHED, "leave-one-domain-out", "books"][["score", "p"]].isna().all()
        assert not rows.index.isin([("nll", MATCHED, "oracle", "talks")]).any()
    assert table.loc[table["method"] == MATCHED, "tried"].eq(3).all()


def test_the_pretrained_model_matches_itself_measured_or_not(both):
    for line in both.lines:
        line["change"] = None
    for line in both.lines[1:5]:
        for splits in line["metrics"].values():
            for metrics in splits.values():
                metrics |= dict.fromkeys(metrics, 1000.0)
    analysis = analyse(both.write())
    assert picks(analysis)["in-domain"] == {"news": (0,), "talks": (0,), "books": (0,)}
    text = write_report(analysis, formats=())
    assert f"{MATCHED} (every selection)" in text


def test_the_choice_of_nv_is_repeated_on_every_resample_and_matched_again(both):
    analysis = analyse(both.write())
    [ours] = analysis.choices[Arm("nv", 42)]["in-domain-tolerance"]["talks"].redrawn
    [theirs] = analysis.choices[NOISY]["in-domain-tolerance"]["talks"].redrawn
    assert {*np.unique(ours)} > {2}
    expected = {0: 0, 1: 5, 2: 6, 3: 6, 4: 6}
    assert theirs.tolist() == [expected[number] for number in ours.tolist()]


def test_resamples_whose_choice_was_not_measured_leave_no_braces(both):
    numbers = analyse(both.write()).choices[Arm("nv", 42)]["in-domain-tolerance"]["talks"].redrawn[0]
    other = int(next(number for number in np.unique(numbers) if number not in (0, 2)))
    both.lines[other]["change"] = None
    pick = analyse(both.write()).choices[NOISY]["in-domain-tolerance"]["talks"]
    assert (pick.trials, pick.redrawn) == ((6,), ())


def test_the_in_domain_column_is_the_mean_over_the_matches_of_the_domains(both):
    run = read_run(both.write())
    redrawn = np.array([1, 2] * 500), np.array([2, 2] * 500)
    nv = {
        "news": Pick(run, "news", (1, 2), redrawn),
        "talks": Pick(run, "talks", (1,), redrawn[:1]),
        "books": Pick(run, "books", (3,), redrawn[1:]),
    }
    arms = {Arm("nv", 42): {"leave-one-domain-out": nv}, Arm(NOISE, 42): {}}
    found = match(run, arms)[NOISY]["leave-one-domain-out"]
    assert {domain: pick.trials for domain, pick in found.items()} == {"news": (5, 6), "talks": (5,)}
    assert [numbers[:2].tolist() for numbers in found["news"].redrawn] == [[5, 6], [6, 6]]


def test_each_seed_has_its_own_noise(both):
    both.seeds = (42, 43, 44)
    both.add_nll(news=1.5, talks=2.9, books=3.0, seed=43, change=0.3)
    both.add_nll(news=2.5, talks=2.8, books=3.0, seed=43, change=0.25, method=NOISE)
    analysis = analyse(both.write())
    assert picks(analysis, 43)["in-domain"]["talks"] == (9,)
    assert Arm(MATCHED, 44) not in analysis.choices  # not measured yet
    row = methods_table(analysis).set_index(["metric", "method", "protocol", "domain"])
    assert row.loc["nll", MATCHED, "in-domain", "talks"]["score"] == pytest.approx((2.6 + 2.8) / 2)


def test_what_did_not_complete_matches_nothing(both):
    both.lines[6] |= {"status": "stopped", "change": None}
    both.lines[5] |= {"status": "failed", "change": None, "metrics": {}}
    assert picks(analyse(both.write()))["in-domain"] == {}


def test_a_run_without_both_methods_has_no_such_rows(small, control):
    small.methods = {**small.methods, control: small.methods["nv"]}
    text = write_report(analyse(small.write()), formats=())
    assert MATCHED not in text
    assert "change" not in table_under(text, "Settings chosen")[0]


def test_both_changes_are_in_the_table_of_settings_and_what_does_not_match_says_so(both):
    text = write_report(analyse(both.write()), formats=())
    header, *rows = table_under(text, "Settings chosen")
    assert header[-2:] == ["change", "nv's change"]
    shown = {(row[0], row[2], row[3]): row[4:] for row in rows}
    assert shown["nv", "in-domain", "all"][-2:] == ["0.1000", ""]
    assert shown[MATCHED, "in-domain", "all"][:2] == ["5", "scale 0.11"]
    assert shown[MATCHED, "in-domain", "all"][-2:] == ["0.1100", "0.1000"]
    reason = "no weight noise is known to change attention as much, to a factor of 1.5"
    unmatched = shown[MATCHED, "leave-one-domain-out", "books"]
    assert unmatched == ["n/a", reason, "", "", "0.3500", "0.2000"]
    assert f"- {MATCHED} (leave-one-domain-out, out-of-domain-validation): does not apply, {reason}." in text
    assert f"- {MATCHED}: the weight noise of the same seed" in text


def test_trials_without_a_change_are_reported_as_such(both):
    for line in both.lines:
        line.pop("change", None)
    both.write()
    assert picks(analyse(both.directory))["in-domain"] == {}
    rows = table_under(write_report(analyse(both.directory), formats=()), "Settings chosen")
    assert [MATCHED, "42", "in-domain", "all", "n/a"] in [row[:5] for row in rows]


def test_it_is_a_row_of_several_runs_and_of_a_comparison(both):
    analysis = analyse(both.write())
    assert f"{MATCHED}" in (write_combined([analysis, analysis]) or "")
    assert f"| {MATCHED} " in write_comparison(analysis, analysis)


class Changes:
    """A run of nothing but changes: 1 is of NV, the rest are noise."""

    def __init__(self, ours: float, noise: list[float]) -> None:
        self.trials = {
            number: SimpleNamespace(change=value) for number, value in enumerate([0.0, ours, *noise])
        }

    def candidates(self, arm):
        return [0, *(number for number in self.trials if number > 1)]


positive = st.floats(1e-6, 1e6)


@given(ours=positive, noise=st.lists(positive, min_size=1))
def test_no_noise_is_nearer_by_ratio(ours, noise):
    def ratio(theirs: float) -> float:
        return max(ours / theirs, theirs / ours)

    run = Changes(ours, noise)
    found = nearest(run, 0, 1)
    assert found is not None
    of_nearest = ratio(noise[found - 2])
    assert of_nearest == pytest.approx(min(map(ratio, noise)))
    if abs(of_nearest - FACTOR) > 1e-9:
        assert is_match(run, 1, found) == (of_nearest < FACTOR)


@pytest.mark.parametrize(
    ("ours", "noise", "found"),
    [
        (0.0, [0.1], 0),  # a setting that changes nothing is the pretrained model
        (0.2, [0.0, 5.0], 3),  # noise that changes nothing is infinitely far from any other
        (0.2, [], None),
        (0.2, [math.nan, math.inf], None),
        (math.nan, [0.1], None),
        (math.inf, [0.1], None),
    ],
)
def test_changes_without_a_ratio(ours, noise, found):
    assert nearest(Changes(ours, noise), 0, 1) == found


def test_numbers_that_json_has_not_are_read(both):
    both.lines[1]["change"] = "nan"
    run = read_run(both.write())
    assert math.isnan(change(run, 1))
    settings_table(analyse(both.directory))
