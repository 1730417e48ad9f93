"""Directories of runs whose files were edited or damaged: read as they say, or refused by file and key."""

import copy
import json
from typing import Any

import pandas as pd
import pytest

from nvreg.report.reading import read_run
from tests.bad_input.checking import check_line, check_refused, in_time, mistake_of, one_in
from tests.bad_input.test_experiment_files import WRONG, paths_in
from tests.cli.running import run
from tests.report.conftest import SyntheticRun, likelihood

DOMAINS = {"news": ("validation", "test"), "talks": ("validation", "test")}

LINE = {
    "key": "key1",
    "context": "this",
    "number": 1,
    "method": "nv",
    "seed": 42,
    "settings": {"tau_sigma": {"cross": 0.1}},
    "resolved": {"tau_sigma": {"cross": [0.1, 0.1]}},
    "status": "completed",
    "metrics": {"news": {"test": {"perplexity": 3.0}}},
    "prior_weight": 0.1,
    "strength": 0.2,
    "seconds": 1.5,
    "error": None,
    "change": 0.1,
    "fingerprint": "nv 1",
}

MUST_REFUSE = {
    "status": ["null", "true", "text", "no text", "0", "empty list", "unknown key"],
    "number": [
        "null",
        "true",
        "a number in quotes",
        "text",
        "-1",
        "a fraction",
        "inf",
        "empty list",
        "400 digits",
    ],
    "key": ["null", "true", "-1", "empty list", "unknown key"],
    "context": ["null", "0", "empty keys"],
    "method": ["null", "text", "0", "empty list"],
    "seed": ["true", "text", "a number in quotes", "a fraction", "empty list"],
    "settings": ["null", "true", "text", "0", "empty list", "unknown key"],
    "settings.tau_sigma": ["text", "a number in quotes", "-1", "nan", "empty list", "unknown key"],
    "metrics": ["null", "true", "text", "0", "empty list"],
    "metrics.news.test.perplexity": ["true", "text", "a number in quotes", "empty list", "empty keys"],
    "strength": ["true", "text", "a number in quotes", "empty list"],
    "seconds": ["null", "true", "text", "a number in quotes", "empty list"],
}

LINE_CASES = [(place, wrong) for place in paths_in(LINE) for wrong in WRONG]


@pytest.fixture
def small(tmp_path) -> SyntheticRun:
    """A run of two trials beside the pretrained model."""
    made = SyntheticRun(tmp_path / "run", domains=DOMAINS)
    for number in range(3):
        made.add(
            {
                domain: {split: {"likelihood": likelihood(3 + number / 10, number)} for split in splits}
                for domain, splits in DOMAINS.items()
            },
            settings={"tau_sigma": {"cross": number / 10}} if number else {},
            strength=number / 10,
        )
    return made


def put(document: dict[str, Any], place: tuple[Any, ...], wrong: str) -> str:
    """Return a document as JSON with a wrong value in a place."""
    target = document = copy.deepcopy(document)
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = WRONG[wrong]
    return json.dumps(document).replace('"!digits"', "9" * 400)


@pytest.mark.parametrize(
    "case", one_in(30, LINE_CASES, [f"{'.'.join(map(str, place))}-{wrong}" for place, wrong in LINE_CASES])
)
def test_a_trial_with_a_wrong_value_is_refused_by_line_and_key_or_read(case, small):
    place, wrong = case
    directory = small.write()
    path = directory / "trials.jsonl"
    lines = path.read_text().splitlines()
    line = {**LINE, **json.loads(lines[1])}
    line["settings"] = {"tau_sigma": {"cross": 0.1}}
    line["resolved"] = LINE["resolved"]
    path.write_text("\n".join([lines[0], put(line, place, wrong), lines[2], ""]))
    message = mistake_of(read_run, directory)
    name = ".".join(map(str, place))
    if wrong in MUST_REFUSE.get(name, ()):
        assert message is not None
    if message is not None:
        check_line(message, str(path))
        assert any(str(part) in message for part in place)


@pytest.mark.parametrize("place", MUST_REFUSE)
def test_what_is_no_value_of_a_trial_is_refused(place, small):
    directory = small.write()
    path = directory / "trials.jsonl"
    lines = path.read_text().splitlines()
    for wrong in MUST_REFUSE[place]:
        line = {**json.loads(lines[1]), "settings": {"tau_sigma": {"cross": 0.1}}}
        path.write_text("\n".join([lines[0], put(line, tuple(place.split(".")), wrong), lines[2], ""]))
        message = mistake_of(read_run, directory)
        assert message is not None, wrong
        check_line(message, str(path), place.split(".")[0])


def test_a_status_that_is_not_known_is_not_dropped_in_silence(small, tmp_path):
    directory = small.write()
    path = directory / "trials.jsonl"
    path.write_text(path.read_text().replace('"status": "completed"', '"status": "done"', 2))
    line = check_refused(tmp_path, ["report", directory], str(path), "line 1", "status", "'done'")
    assert "'completed', 'stopped' or 'failed'" in line


MANIFESTS = {
    "empty": "",
    "half": '{"context": "this", ',
    "a list": "[1]",
    "nothing": "{}",
    "no JSON": "context: this",
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("content", MANIFESTS)
def test_a_manifest_that_is_none_is_refused(content, small, tmp_path):
    path = small.write() / "manifest.json"
    path.write_text(MANIFESTS[content])
    check_refused(tmp_path, ["report", path.parent], str(path))


def manifest_cases() -> list[tuple[str, str]]:
    keys = ["context", "data", "metrics", "model", "nvreg", "methods", "planned", "columns", "seeds"]
    return [(key, wrong) for key in keys for wrong in WRONG]


@pytest.mark.parametrize("case", one_in(20, manifest_cases(), ["-".join(case) for case in manifest_cases()]))
def test_a_manifest_with_a_wrong_value_is_refused_by_key_or_read(case, small):
    key, wrong = case
    path = small.write() / "manifest.json"
    path.write_text(put(json.loads(path.read_text()), (key,), wrong))
    if message := mistake_of(read_run, path.parent):
        check_line(message, str(path.parent))
        assert key in message or key == "context"  # of another context there are no trials


PARQUETS = {
    "no parquet": lambda path: path.write_bytes(b"no parquet"),
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a column less": lambda path: pd.read_parquet(path).drop(columns="likelihood").to_parquet(path),
    "text for numbers": lambda path: pd.read_parquet(path).assign(likelihood="x").to_parquet(path),
    "numbers for lists": lambda path: pd.read_parquet(path).assign(likelihood=1.5).to_parquet(path),
    "lists of text": lambda path: (
        pd.read_parquet(path).assign(likelihood=[["a", "b", "c"]] * 40).to_parquet(path)
    ),
    "fewer examples": lambda path: pd.read_parquet(path).head(7).to_parquet(path),
    "no examples": lambda path: pd.read_parquet(path).head(0).to_parquet(path),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "gone": lambda path: path.unlink(),
}


def test_a_relative_path_with_a_colon_is_no_address(tmp_path, monkeypatch, small):
    (tmp_path / "a:b").mkdir()
    small.write().rename(tmp_path / "a:b/run")
    monkeypatch.chdir(tmp_path)
    result = run("watch", "a:b/run")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("damage", one_in(10, list(PARQUETS), list(PARQUETS)))
def test_examples_that_are_damaged_are_refused_by_file(damage, small):
    directory = small.write()
    path = directory / "examples/key0/talks.test.parquet"
    PARQUETS[damage](path)
    with in_time(60):
        result = run("report", directory)
    assert result.exit_code == 2, result.output
    assert str(path) in result.stderr.splitlines()[-1]
