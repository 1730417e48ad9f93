"""What is read of a run's directory, and what is refused."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from nvreg.errors import UserError
from nvreg.report.reading import Arm, read_run

NV = Arm("nv", 42)


def test_reads_completed_trials_by_number_with_the_pretrained_model_first(small):
    small.lines = small.lines[::-1]
    read = read_run(small.write())
    assert list(read.trials) == [0, 1, 2, 3, 4]
    assert read.trials[2].strength == 0.5
    assert read.domains == ["news", "talks", "books"]
    assert (read.metrics, read.selection_metric) == (["perplexity", "nll"], "perplexity")


def test_scores_are_those_of_the_file(small):
    read = read_run(small.write())
    assert read.score(4, "talks", "test", "nll") == pytest.approx(2.5)
    assert read.score(4, "talks", "validation", "nll") == pytest.approx(3.3)
    assert read.domains_with("validation") == ["news", "talks"]
    assert read.domains_with("test") == ["news", "talks", "books"]


def test_scores_that_are_not_finite_are_read(small):
    small.lines[1]["metrics"]["books"]["test"]["perplexity"] = "inf"
    assert read_run(small.write()).score(1, "books", "test", "perplexity") == float("inf")


def test_statistics_come_one_row_an_example(small):
    statistics = read_run(small.write()).statistics(1, "talks", "test", "likelihood")
    assert statistics.shape == (40, 3)
    assert statistics[:, 0].sum() / statistics[:, 1].sum() == pytest.approx(3.1)


def test_examples_are_read_once(small, monkeypatch):
    read = read_run(small.write())
    resampled = read.resampled(1, "talks", "test", "nll")
    shutil.rmtree(small.directory / "examples/key1")
    assert read.resampled(1, "talks", "test", "nll") is resampled
    assert np.exp(resampled) == pytest.approx(read.resampled(1, "talks", "test", "perplexity"))


def test_a_torn_last_line_is_passed_over(small):
    directory = small.write()
    whole = (directory / "trials.jsonl").read_bytes()
    torn = json.dumps(
        small.lines[1] | {"key": "other", "number": 9, "error": "café"}, ensure_ascii=False
    ).encode()
    for end in (1, 20, torn.index("é".encode()) + 1, len(torn) - 1):
        (directory / "trials.jsonl").write_bytes(whole + torn[:end])
        assert list(read_run(directory).trials) == [0, 1, 2, 3, 4]


def test_trials_of_another_context_are_left_out(small):
    small.lines[3]["context"] = "another"
    assert list(read_run(small.write()).trials) == [0, 1, 2, 4]


def test_failed_trials_are_counted_and_are_no_candidates(small):
    small.lines[3] |= {
        "status": "failed",
        "metrics": {},
        "prior_weight": None,
        "strength": None,
        "error": "no memory",
    }
    read = read_run(small.write())
    assert (list(read.trials), read.candidates(NV)) == ([0, 1, 2, 4], [0, 1, 2, 4])
    assert (read.count("completed"), read.count("failed"), read.count("stopped")) == (3, 1, 0)


def test_stopped_trials_are_counted_and_are_no_candidates(small):
    small.lines[3] |= {"status": "stopped", "prior_weight": None, "strength": None}
    read = read_run(small.write())
    assert read.candidates(NV) == [0, 1, 2, 4]
    assert (read.count("completed"), read.count("stopped")) == (3, 1)


def test_a_run_has_an_arm_for_each_method_and_seed_and_the_pretrained_model_is_in_all(small, control):
    small.seeds, small.methods = (42, 43), {**small.methods, control: small.methods["nv"]}
    for line, (method, seed) in zip(
        small.lines[1:], [("control", 42), ("nv", 43), ("nv", 43), ("control", 43)], strict=True
    ):
        line |= {"method": method, "seed": seed}
    small.lines.append(small.lines[2] | {"seed": 42})
    read = read_run(small.write())
    assert {tuple(arm): read.candidates(arm) for arm in read.sweeps} == {
        ("nv", 42): [0, 2], ("nv", 43): [0, 2, 3], ("control", 42): [0, 1], ("control", 43): [0, 4],
    }  # fmt: skip
    assert read.methods == ["nv", "control"]


def test_an_arm_that_is_not_begun_has_the_pretrained_model(small):
    small.seeds, small.lines = (42, 43), small.lines[:1]
    read = read_run(small.write())
    assert [read.candidates(arm) for arm in read.sweeps] == [[0], [0]]


def test_a_trial_that_was_retried_counts_by_its_last_line(small):
    small.lines.insert(0, small.lines[3] | {"status": "failed", "metrics": {}, "error": "no memory"})
    read = read_run(small.write())
    assert (list(read.trials), read.count("failed")) == ([0, 1, 2, 3, 4], 0)


@pytest.mark.parametrize("name", ["manifest.json", "experiment.yaml", "trials.jsonl"])
def test_a_directory_that_is_no_run_is_refused(small, name):
    directory = small.write()
    (directory / name).unlink()
    with pytest.raises(UserError, match=rf"nvreg sweep.*{directory}.*{name}"):
        read_run(directory)


@pytest.mark.parametrize("content", ["", "no JSON", "[]", "{}", '{"context": "of something else"}'])
def test_a_manifest_of_something_else_is_refused(small, content):
    directory = small.write()
    (directory / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=rf"{directory}/manifest.json"):
        read_run(directory)


def test_a_missing_directory_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        read_run(tmp_path / "nowhere")


def test_a_run_without_any_completed_trial_is_refused(small):
    small.lines = []
    with pytest.raises(UserError, match=r"pretrained model.*0 completed"):
        read_run(small.write())


def test_a_run_without_the_pretrained_model_is_refused(small):
    small.lines = small.lines[1:]
    with pytest.raises(UserError, match=r"pretrained model.*4 completed without it"):
        read_run(small.write())


def test_missing_or_broken_examples_are_named(small):
    directory = small.write()
    (directory / "examples/key1/talks.test.parquet").write_bytes(b"no parquet")
    shutil.rmtree(directory / "examples/key2")
    read = read_run(directory)
    for number in (1, 2):
        with pytest.raises(UserError, match=rf"trial {number}.*key{number}/talks.test.parquet"):
            read.statistics(number, "talks", "test", "likelihood")
    with pytest.raises(UserError, match=r"trial 3.*'bleu'"):
        read.statistics(3, "talks", "test", "bleu")


def test_a_run_of_an_earlier_version_is_read(small):
    """Its file has a checkpoint for every method, none but for wise-ft."""
    small.methods = {"nv": {**small.methods["nv"], "enqueue": [], "pretrained": None}}
    assert list(read_run(small.write()).trials) == [0, 1, 2, 3, 4]
    small.methods["nv"]["pretrained"] = "/models/marian"
    with pytest.raises(UserError, match="pretrained: unknown key"):
        read_run(small.write())


def keep(directory, **columns):
    """Add columns to the examples of every trial and split."""
    for path in directory.glob("examples/*/*.parquet"):
        pd.read_parquet(path).assign(**columns).to_parquet(path)


def test_a_run_that_kept_no_temperatures_has_1_alone(small):
    read = read_run(small.write())
    assert read.temperatures == (1.0,)
    with pytest.raises(UserError, match=r"trial 1 .*'alternatives'"):
        read.statistics(1, "talks", "test", "likelihood", temperature=1.1)


def test_statistics_at_the_temperatures_of_the_file(small):
    directory = small.write()
    nats = [[each, 10.0, each / 2, each / 3, each / 4, each / 5] for each in range(40)]
    keep(directory, tempered=nats)
    read = read_run(directory)
    assert set(read.temperatures) > {0.8, 0.9, 1.0, 1.1, 1.25, 1.5}  # with some between them
    assert (read.temperatures[0], read.temperatures[-1]) == (0.8, 1.5)
    rows = read.statistics(1, "talks", "test", "likelihood", temperature=0.8)
    stored = read.statistics(1, "talks", "test", "likelihood")
    assert rows[:, 0].tolist() == list(range(40))
    assert np.array_equal(rows[:, 1:], stored[:, 1:])
    assert read.score(1, "talks", "test", "nll", 0.8) == pytest.approx(19.5 / 10)
    assert read.score(1, "talks", "test", "nll") == pytest.approx(3.1)
    resampled = read.resampled(1, "talks", "test", "nll", temperature=0.9)
    assert resampled == pytest.approx(1.0)
    assert read.resampled(1, "talks", "test", "nll").mean() == pytest.approx(3.1, rel=0.01)


def test_statistics_of_classes_at_any_temperature(small):
    directory = small.write()
    probabilities = np.full((40, 2), [0.2, 0.8])
    keep(directory, labels=[[1]] * 40, alternatives=np.log(probabilities).astype(np.float32).tolist())
    read = read_run(directory)
    assert (len(read.temperatures), read.temperatures[16]) == (33, 1.0)
    expected = 0.8**0.5 / (0.8**0.5 + 0.2**0.5)
    nats = read.statistics(0, "news", "validation", "likelihood", temperature=2.0)[:, 0]
    assert nats == pytest.approx(-np.log(expected))
    confidence = read.statistics(0, "news", "validation", "calibration", temperature=2.0)[:, 0]
    assert confidence == pytest.approx(expected)
    plain = read.statistics(0, "news", "validation", "calibration")  # which the run did not store
    assert plain[:, 0] == pytest.approx(0.8)
    with pytest.raises(UserError, match=r"trial 1 .*'bleu'"):
        read.statistics(1, "talks", "test", "bleu", temperature=1.1)
