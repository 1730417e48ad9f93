"""The file of a run's trials, and what is kept of their examples."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvreg import UserError
from nvreg.results import RunFiles, read_trials
from nvreg.store import TrialStore
from tests.test_results import trial


@given(st.lists(st.integers(0, 50), unique=True, max_size=6), st.data())
def test_a_file_cut_anywhere_keeps_every_whole_line_and_takes_more(tmp_path_factory, numbers, data):
    directory = tmp_path_factory.mktemp("run")
    store = TrialStore(directory)
    for number in numbers:
        store.append(trial(number))
    path = directory / "trials.jsonl"
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    whole = content[: cut + 1].count(b"\n")  # a line is whole without its end, too

    reopened = TrialStore(directory)
    assert reopened.trials("c") == [trial(number) for number in numbers[:whole]]
    reopened.append(trial(99))
    assert list(read_trials(path)) == [trial(number) for number in [*numbers[:whole], 99]]


def test_every_line_is_json_and_infinities_read_back_as_numbers(tmp_path):
    metrics = {"home": {"test": {"perplexity": math.inf, "bleu": math.nan}}}
    TrialStore(tmp_path).append(trial(1, metrics=metrics))
    line = json.loads((tmp_path / "trials.jsonl").read_text(), parse_constant=pytest.fail)
    assert float(line["metrics"]["home"]["test"]["perplexity"]) == math.inf
    assert math.isnan(float(line["metrics"]["home"]["test"]["bleu"]))


def test_trials_of_another_context_are_kept_but_not_returned(tmp_path):
    store = TrialStore(tmp_path)
    store.append(trial(0, context="old"))
    store.append(trial(0))
    assert TrialStore(tmp_path).trials("c") == [trial(0)]
    assert len(list(read_trials(tmp_path / "trials.jsonl"))) == 2


def test_the_last_line_of_a_key_counts(tmp_path):
    store = TrialStore(tmp_path)
    store.append(trial(1, status="failed", error="RuntimeError: out of memory"))
    store.append(trial(1))
    assert TrialStore(tmp_path).trials("c") == [trial(1)]


def test_one_key_has_a_line_for_each_seed(tmp_path):
    store = TrialStore(tmp_path)
    for seed in (1, 2, 1):
        store.append(trial(1, seed=seed, seconds=float(seed)))
    assert TrialStore(tmp_path).trials("c") == [trial(1, seed=1), trial(1, seed=2, seconds=2.0)]


def test_a_whole_line_that_is_no_trial_is_named(tmp_path):
    TrialStore(tmp_path).append(trial(0))
    path = tmp_path / "trials.jsonl"
    path.write_bytes(path.read_bytes() + b'{"key": 1}\n')
    with pytest.raises(UserError, match=r"line 2: key: expected text, got 1 "):
        TrialStore(tmp_path)


def test_examples_are_kept_as_they_were(tmp_path):
    frame = pd.DataFrame({"id": [0, 1], "likelihood": [[1.5, 2.0], [0.1, 3.0]], "prediction": ["ä", ""]})
    digest = TrialStore(tmp_path).save_examples("k", "home", "test", frame)
    read = pd.read_parquet(RunFiles(tmp_path).examples("k", "home", "test"))
    assert read["prediction"].tolist() == ["ä", ""]
    assert [list(row) for row in read["likelihood"]] == [[1.5, 2.0], [0.1, 3.0]]
    kept = trial(1, key="k", examples={"home": {"test": digest}})
    assert TrialStore(tmp_path).load_examples(kept, "home", "test").equals(read)
    assert [path.name for path in (tmp_path / "examples" / "k").iterdir()] == ["home.test.parquet"]


def test_files_that_the_lines_of_several_seeds_share_are_read_once(tmp_path, monkeypatch):
    store = TrialStore(tmp_path)
    frame = pd.DataFrame({"id": [0, 1]})
    examples = {
        number: {"home": {"test": store.save_examples(trial(number).key, "home", "test", frame)}}
        for number in (1, 2)
    }
    for number, seed in ((1, 1), (2, 1), (1, 2), (1, 3), (2, 2)):
        store.append(trial(number, seed=seed, examples=examples[number]))
    RunFiles(tmp_path).examples(trial(2).key, "home", "test").unlink()
    read, read_bytes = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (read.append(path), read_bytes(path))[1])
    trials = store.trials("c")
    assert store.lost(trials) == [each for each in trials if each.number == 2]
    assert read == [RunFiles(tmp_path).examples(trial(number).key, "home", "test") for number in (1, 2)]
