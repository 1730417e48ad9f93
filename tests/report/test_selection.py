"""What the protocols choose in a whole run."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvreg.errors import UserError
from nvreg.metrics import METRICS
from nvreg.metrics.resampling import RESAMPLES, resample_counts
from nvreg.protocols import PROTOCOLS, Evidence, Protocol
from nvreg.report import reading
from nvreg.report.analysis import analyse
from nvreg.report.reading import Arm, Run, read_run
from nvreg.report.selection import Leaders, choose, choose_trial, chosen_numbers, pretrained
from nvreg.report.writing import write_report

HONEST = [name for name in PROTOCOLS if name != "oracle"]
NV = Arm("nv", 42)
EXPECTED = {
    "in-domain": {"news": (1,), "talks": (1,), "books": (1,)},
    "in-domain-tolerance": {"news": (2,), "talks": (2,), "books": (2,)},
    "leave-one-domain-out": {"news": (3,), "talks": (), "books": (3,)},
    "out-of-domain-validation": {"news": (3,), "talks": (3,), "books": ()},
    "unlabelled": {"news": (), "talks": (), "books": ()},  # nothing tells how good a translation is
    "oracle": {"news": (4, 4), "talks": (4,), "books": (4,)},
}


def choices(run: Run, protocols) -> dict[str, dict[str, tuple[int, ...]]]:
    return {protocol: chosen_numbers(run, NV, protocol) for protocol in protocols}


def test_each_protocol_chooses_by_its_own_scores(small):
    assert choices(read_run(small.write()), PROTOCOLS) == EXPECTED


def test_a_selection_has_a_pick_for_each_domain_that_the_protocol_applies_to(small):
    selections = choose(read_run(small.write()), NV, PROTOCOLS)
    assert {
        protocol: {domain: pick.trials for domain, pick in selection.items()}
        for protocol, selection in selections.items()
    } == {
        protocol: {domain: trials for domain, trials in expected.items() if trials}
        for protocol, expected in EXPECTED.items()
    }


def test_each_arm_chooses_among_its_own_trials(small):
    small.seeds = (42, 43)
    for line in small.lines[3:]:
        line["seed"] = 43
    run = read_run(small.write())
    assert chosen_numbers(run, NV, "oracle")["talks"] == (2,)
    assert chosen_numbers(run, Arm("nv", 43), "in-domain-tolerance")["talks"] == (0,)
    assert chosen_numbers(run, Arm("nv", 43), "oracle")["talks"] == (4,)


def test_higher_bleu_is_better(run):
    run.metric, run.metrics, run.planned = "bleu", ("bleu",), 2
    for share in (0.5, 0.7, 0.3):
        statistics = np.tile([20.0, 20, *(np.array([20, 19, 18, 17]) * share), 20, 19, 18, 17], (30, 1))
        run.add(
            {
                domain: {split: {"bleu": statistics} for split in splits}
                for domain, splits in run.domains.items()
            }
        )
    found = choices(read_run(run.write()), ["in-domain", "oracle"])
    assert found["in-domain"]["talks"] == found["oracle"]["talks"] == (1,)


def test_honest_protocols_never_read_test_scores(small):
    """Test scores are poisoned and test statistics removed: four protocols do not notice."""
    for place, line in enumerate(small.lines):
        for splits in line["metrics"].values():
            splits["test"] = dict.fromkeys(splits["test"], float(place == 1))
    directory = small.write()
    for path in directory.glob("examples/*/*.test.parquet"):
        path.unlink()
    found = choices(read_run(directory), PROTOCOLS)
    assert {name: found[name] for name in HONEST} == {name: EXPECTED[name] for name in HONEST}
    assert found["oracle"] != EXPECTED["oracle"]


def test_honest_protocols_do_without_any_test_score(small):
    for line in small.lines:
        for splits in line["metrics"].values():
            del splits["test"]
    found = choices(read_run(small.write()), HONEST)
    assert found == {name: EXPECTED[name] for name in HONEST}


def test_failed_trials_are_never_chosen(small):
    for line in small.lines[1:]:
        line |= {"status": "failed", "metrics": {}, "strength": None, "prior_weight": None}
    found = choices(read_run(small.write()), PROTOCOLS)
    assert {trial for choice in found.values() for trials in choice.values() for trial in trials} == {0}


def test_a_destroyed_model_is_never_tolerated(small):
    small.add_nll(news=900.0, talks=3.0, books=3.0, strength=1.0)
    path = small.directory / "examples/key5/news.validation.parquet"
    assert path.is_file()
    assert small.lines[5]["metrics"]["news"]["validation"]["perplexity"] == float("inf")
    small.lines[5]["metrics"]["news"]["validation"]["perplexity"] = "inf"
    small.lines[5]["metrics"]["news"]["test"]["perplexity"] = "inf"
    assert choices(read_run(small.write()), PROTOCOLS) == EXPECTED


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10, deadline=None)
@given(order=st.permutations(range(5)))
def test_the_order_of_lines_changes_nothing(small, order):
    directory = small.write()
    lines = [json.dumps(small.lines[place]) + "\n" for place in order]
    (directory / "trials.jsonl").write_text("".join(lines))
    assert choices(read_run(directory), PROTOCOLS) == EXPECTED


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if EXPECTED[name]["news"]])
def test_the_pretrained_model_alone_is_chosen(run, protocol):
    run.domains = {
        "news": ("validation", "test"),
        "talks": ("validation", "test"),
        "books": ("validation", "test"),
    }
    run.add_nll(news=2.0, talks=3.0, books=3.0)
    found = choices(read_run(run.write()), [protocol])[protocol]
    assert found["talks"] == found["books"] == (0,)


def test_honest_protocols_repeat_their_choice_without_reading_test_sets(small):
    directory = small.write()
    for path in directory.glob("examples/*/*.test.parquet"):
        path.unlink()
    selections = choose(read_run(directory), NV, HONEST)
    assert all(pick.redrawn for selection in selections.values() for pick in selection.values())


def test_a_repeated_choice_is_the_choice_on_a_resample(small):
    """The best in-domain trial of each resample, found by scoring the drawn examples anew."""
    run = read_run(small.write())
    (redrawn,) = choose(run, NV, ["in-domain"])["in-domain"]["talks"].redrawn
    counts = resample_counts("news.validation", 40)
    for resample in range(0, RESAMPLES, 97):
        drawn = np.repeat(np.arange(40), counts[resample].astype(int))
        nll = [
            METRICS["nll"].score(run.statistics(number, "news", "validation", "likelihood")[drawn])
            for number in range(5)
        ]
        assert redrawn[resample] == np.argmin(nll)


def test_a_choice_that_is_clear_is_always_repeated_and_a_narrow_one_is_not(run):
    run.add_nll(news=2.0, talks=3.0, books=3.0).add_nll(news=1.0, talks=2.0, books=2.0)
    run.add_nll(news=1.001, talks=2.5, books=2.5)
    selections = choose(read_run(run.write()), NV, ["in-domain", "out-of-domain-validation"])
    assert set(selections["out-of-domain-validation"]["talks"].redrawn[0]) == {1}
    assert set(selections["in-domain"]["talks"].redrawn[0]) == {1, 2}


def test_what_is_reselected_is_scored_on_the_same_resample(run):
    run.add_nll(news=2.0, talks=3.0, books=3.0).add_nll(news=1.0, talks=2.0, books=2.0)
    run.add_nll(news=1.001, talks=2.5, books=2.5)
    read = read_run(run.write())
    pick = choose(read, NV, ["in-domain"])["in-domain"]["talks"]
    expected = [
        read.resampled(number, "talks", "test", "nll")[place] for place, number in enumerate(pick.redrawn[0])
    ]
    assert pick.reselected("nll") == pytest.approx(expected)


def test_the_oracle_is_not_repeated_and_the_pretrained_model_never_changes(small):
    run = read_run(small.write())
    assert not any(pick.redrawn for pick in choose(run, NV, ["oracle"])["oracle"].values())
    pick = pretrained(run)["books"]
    assert pick.trials == (0,)
    assert (pick.reselected("nll") == pick.resampled("nll")).all()


@pytest.fixture
def weakest(monkeypatch):
    """A protocol that is registered by one line: the weakest setting that is not the pretrained model."""

    def weakest_setting(evidence: Evidence, domain: str) -> np.ndarray:
        return np.broadcast_to(1 + evidence.strength[1:].argmin(), evidence.scores["news"].shape[:-1])

    monkeypatch.setitem(PROTOCOLS, "weakest", Protocol(weakest_setting))


@pytest.mark.usefixtures("weakest")
def test_a_protocol_is_added_by_one_line_and_reported(small):
    small.protocols = ("weakest", "in-domain-tolerance")
    page = write_report(analyse(small.write()), ())
    assert "| weakest " in page
    assert "- weakest: worsens" not in page
    assert choose_trial(small.directory, "weakest").trial.number == 1
    assert dict(Leaders()(small.directory, "nv", 42))["weakest"].startswith("1 (")
    with pytest.raises(UserError, match="did you mean 'weakest'"):
        analyse(small.directory, ["weakes"])


def test_what_protocols_would_choose_so_far_is_told_without_reading_a_trial_twice(small, monkeypatch):
    lines, read = list(small.lines), []
    check = reading.check_examples

    def noted(files, trial, domain, split):
        read.append((trial.number, domain, split))
        return check(files, trial, domain, split)

    monkeypatch.setattr(reading, "check_examples", noted)
    leaders, told = Leaders(), []
    for known in range(2, 1 + len(lines)):
        small.lines = lines[:known]
        directory = small.write()
        read.clear()
        told.append(dict(leaders(directory, "nv", 42)))
        assert {number for number, *_ in read} == {known - 1} | ({0} if known == 2 else set())
        assert told[-1] == dict(Leaders()(directory, "nv", 42))
    assert len({each["in-domain-tolerance"] for each in told}) > 1
    small.lines = [*lines[:1], lines[1] | {"seconds": 2.0}, *lines[2:]]
    read.clear()
    dict(leaders(small.write(), "nv", 42))
    assert {number for number, *_ in read} == {1}


def test_one_setting_for_all_domains(small):
    run, arm, trial, *_ = choose_trial(small.write(), "in-domain-tolerance")
    assert (trial.number, arm.method, arm.seed) == (2, "nv", 42)
    assert run.directory == small.directory
    assert choose_trial(small.directory, "in-domain-tolerance", domain="books").trial.number == 2


def test_a_setting_for_a_domain(small):
    assert choose_trial(small.write(), "oracle", domain="talks").trial.number == 4
    assert choose_trial(small.directory, "out-of-domain-validation", domain="talks").trial.number == 3


@pytest.mark.parametrize("protocol", ["oracle", "in-domain"])
def test_a_domain_that_the_run_has_not_is_refused(small, protocol):
    with pytest.raises(UserError, match="--domain: expected one of news, talks, books, got 'nowhere'"):
        choose_trial(small.write(), protocol, domain="nowhere")


@pytest.mark.parametrize(("domain", "got"), [(None, "nothing"), ("news", "'news'")])
def test_a_protocol_that_chooses_by_domain_needs_one_that_is_out_of_domain(small, domain, got):
    with pytest.raises(UserError, match=f"--domain: expected one of talks, books, got {got}; oracle chooses"):
        choose_trial(small.write(), "oracle", domain=domain)


def test_a_domain_without_validation_has_no_choice(small):
    with pytest.raises(UserError, match="applies to books, got out-of-domain-validation"):
        choose_trial(small.write(), "out-of-domain-validation", domain="books")


def test_an_unknown_protocol_is_refused(small):
    with pytest.raises(UserError, match=r"in-domain-tolerance.*got 'best'"):
        choose_trial(small.write(), "best")


def test_among_several_methods_and_seeds_one_is_to_be_named(small, control):
    small.seeds, small.methods = (42, 43), {**small.methods, control: small.methods["nv"]}
    small.lines[2] |= {"method": control, "seed": 43}
    directory = small.write()
    with pytest.raises(UserError, match="--method: expected one of the run, nv, control, got nothing"):
        choose_trial(directory, "in-domain")
    with pytest.raises(UserError, match="--seed: expected one of the run, 42, 43, got 7"):
        choose_trial(directory, "in-domain", method="nv", seed=7)
    assert choose_trial(directory, "in-domain-tolerance", method=control, seed=43).trial.number == 2
    with pytest.raises(
        UserError, match="settings that are measured, got control with seed 42, of which none"
    ):
        choose_trial(directory, "in-domain-tolerance", method=control, seed=42)


def test_the_only_method_and_seed_may_be_named(small):
    assert choose_trial(small.write(), "in-domain", method="nv", seed=42).trial.number == 1
    with pytest.raises(UserError, match="--method: expected one of the run, nv, got 'sink'"):
        choose_trial(small.directory, "in-domain", method="sink")
