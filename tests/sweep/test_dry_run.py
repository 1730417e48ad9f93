"""What a dry run says, and that it says how long a sweep takes."""

import re
import time
from datetime import timedelta
from types import SimpleNamespace

import torch

from nvreg.methods.nv import NV
from nvreg.results import PRETRAINED
from nvreg.sweep import dry_run
from nvreg.sweep.dry_run import Cost, PeakMemory, describe_plan, seconds_in_all
from nvreg.tasks.sequence_to_sequence import Translation

METHODS = (
    "sweep={sampler: random, trials: 3, seeds: [1, 2], methods: {nv: {space: {tau_mu: [0.5, 1]}}, "
    "temperature: {space: {temperature: [0.5, 2]}}}}"
)


def test_a_dry_run_writes_nothing_and_tells_the_plan(experiment, tmp_path):
    plan = describe_plan(experiment(), quiet=True)
    assert "trials      4, the pretrained model's first, methods: nv; seeds: 0; sampler: random" in plan
    assert "examples    home: 8 validation, 8 test; away: 8 validation, 8 test" in plan
    assert "cut to fit" not in plan
    assert "MarianMTModel, 54,528 parameters" in plan
    assert list(tmp_path.iterdir()) == []


def test_the_memory_of_a_dry_run_is_the_most_that_was_in_use():
    with PeakMemory(torch.device("cpu")) as before:
        pass
    with PeakMemory(torch.device("cpu")) as memory:
        held = torch.ones(50_000_000)
        time.sleep(0.2)
        del held
    assert memory.bytes > before.bytes + 150e6


def test_what_is_cut_is_named(experiment):
    plan = describe_plan(experiment("data.max_length=3"), quiet=True)
    assert re.search(r"; cut to fit: home validation \d, home test \d, away ", plan)


def test_every_method_counts_with_its_own_trials_and_costs():
    costs = {
        PRETRAINED: Cost(setting=0.0, scoring=2.0, share=0.1),
        "nv": Cost(setting=1.0, scoring=3.0, share=0.1),
        "sink": Cost(setting=0.0, scoring=2.5, share=0.5),
    }
    assert [cost.seconds for cost in costs.values()] == [20.0, 31.0, 5.0]
    assert seconds_in_all(costs, {PRETRAINED: 1, "nv": 10, "sink": 4}) == 20 + 310 + 20


def test_what_runs_for_the_first_time_is_not_counted_and_each_method_is(experiment, monkeypatch):
    """By its own clock: a tenth of a second an example, ten the first time, two to set the model to NV."""
    clock, tried = SimpleNamespace(now=0.0), set()
    monkeypatch.setattr(dry_run, "time", SimpleNamespace(monotonic=lambda: clock.now))
    score, set_ = Translation.score, NV.set_

    def scored(self, model, encoded, **kwargs):
        clock.now += 0.1 * len(encoded.targets) + (0 if "score" in tried else 10)
        tried.add("score")
        return score(self, model, encoded, **kwargs)

    def is_set(self, model, setting):
        clock.now += 2 if "set" in tried else 10
        tried.add("set")
        return set_(self, model, setting)

    monkeypatch.setattr(Translation, "score", scored)
    monkeypatch.setattr(NV, "set_", is_set)
    plan = describe_plan(experiment(METHODS), quiet=True)
    expected = timedelta(seconds=round(3.2 + 6 * 5.2 + 6 * 3.2))  # 32 examples, and two seeds of three trials
    assert f"time        about {expected} and the prior; a trial of nv 5.2 s, of temperature 3.2 s" in plan
    assert "trials      13, the pretrained model's first, methods: nv, temperature; seeds: 1, 2;" in plan


def test_a_slow_model_is_timed_on_few_examples_and_the_plan_says_so(experiment, monkeypatch):
    """By its own clock, ten seconds an example: 32 examples a method would take a quarter of an hour."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(dry_run, "time", SimpleNamespace(monotonic=lambda: clock.now))
    score = Translation.score

    def scored(self, model, encoded, **kwargs):
        clock.now += 10.0 * len(encoded.targets)
        return score(self, model, encoded, **kwargs)

    monkeypatch.setattr(Translation, "score", scored)
    plan = describe_plan(experiment(METHODS), quiet=True)
    assert "a trial of nv 0:05:20, of temperature 0:05:20; roughly, as 4 examples took long" in plan
    assert clock.now == 160 + 3 * 40


def test_a_clock_that_stands_still_tells_no_time(experiment, monkeypatch):
    monkeypatch.setattr(dry_run, "time", SimpleNamespace(monotonic=lambda: 0.0))
    assert "about 0.0 s and the prior" in describe_plan(experiment(), quiet=True)


def test_a_sample_stands_for_all_examples(experiment, monkeypatch):
    monkeypatch.setattr(dry_run, "SAMPLE_EXAMPLES", 8)
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(dry_run, "time", SimpleNamespace(monotonic=lambda: clock.now))
    score = Translation.score

    def scored(self, model, encoded, **kwargs):
        clock.now += 1.0 * len(encoded.targets)
        return score(self, model, encoded, **kwargs)

    monkeypatch.setattr(Translation, "score", scored)
    assert "about 0:02:08 and the prior; a trial of nv 0:00:32" in describe_plan(experiment(), quiet=True)
