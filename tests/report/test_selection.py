"""What the protocols choose in a whole run."""

import json
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvreg.config.schema import Protocol
from nvreg.report.reading import read_run
from nvreg.report.selection import select

PROTOCOLS = get_args(Protocol)
HONEST = [name for name in PROTOCOLS if name != "oracle"]
EXPECTED = {
    "in-domain": {"news": (1,), "talks": (1,), "books": (1,)},
    "in-domain-tolerance": {"news": (2,), "talks": (2,), "books": (2,)},
    "leave-one-domain-out": {"news": (3,), "talks": (), "books": (3,)},
    "out-of-domain-validation": {"news": (3,), "talks": (3,), "books": ()},
    "oracle": {"news": (4, 4), "talks": (4,), "books": (4,)},
}


def test_each_protocol_chooses_by_its_own_scores(small):
    assert select(read_run(small.write()), PROTOCOLS) == EXPECTED


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
    chosen = select(read_run(run.write()), ["in-domain", "oracle"])
    assert chosen["in-domain"]["talks"] == chosen["oracle"]["talks"] == (1,)


def test_honest_protocols_never_read_test_scores(small):
    """Test scores are poisoned and test statistics removed: four protocols do not notice."""
    for place, line in enumerate(small.lines):
        for splits in line["metrics"].values():
            splits["test"] = dict.fromkeys(splits["test"], float(place == 1))
    directory = small.write()
    for path in directory.glob("examples/*/*.test.parquet"):
        path.unlink()
    chosen = select(read_run(directory), PROTOCOLS)
    assert {name: chosen[name] for name in HONEST} == {name: EXPECTED[name] for name in HONEST}
    assert chosen["oracle"] != EXPECTED["oracle"]


def test_honest_protocols_do_without_any_test_score(small):
    for line in small.lines:
        for splits in line["metrics"].values():
            del splits["test"]
    chosen = select(read_run(small.write()), HONEST)
    assert chosen == {name: EXPECTED[name] for name in HONEST}


def test_failed_trials_are_never_chosen(small):
    for line in small.lines[1:]:
        line |= {"status": "failed", "metrics": {}, "strength": None, "prior_weight": None}
    chosen = select(read_run(small.write()), PROTOCOLS)
    assert {trial for choice in chosen.values() for trials in choice.values() for trial in trials} == {0}


def test_a_destroyed_model_is_never_tolerated(small):
    small.add_nll(news=900.0, talks=3.0, books=3.0, strength=1.0)
    path = small.directory / "examples/key5/news.validation.parquet"
    assert path.is_file()
    assert small.lines[5]["metrics"]["news"]["validation"]["perplexity"] == float("inf")
    small.lines[5]["metrics"]["news"]["validation"]["perplexity"] = "inf"
    small.lines[5]["metrics"]["news"]["test"]["perplexity"] = "inf"
    assert select(read_run(small.write()), PROTOCOLS) == EXPECTED


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10, deadline=None)
@given(order=st.permutations(range(5)))
def test_the_order_of_lines_changes_nothing(small, order):
    directory = small.write()
    lines = [json.dumps(small.lines[place]) + "\n" for place in order]
    (directory / "trials.jsonl").write_text("".join(lines))
    assert select(read_run(directory), PROTOCOLS) == EXPECTED


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_pretrained_model_alone_is_chosen(run, protocol):
    run.domains = {
        "news": ("validation", "test"),
        "talks": ("validation", "test"),
        "books": ("validation", "test"),
    }
    run.add_nll(news=2.0, talks=3.0, books=3.0)
    chosen = select(read_run(run.write()), [protocol])[protocol]
    assert chosen["talks"] == chosen["books"] == (0,)
