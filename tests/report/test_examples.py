"""Examples side by side."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from nvreg.data import Examples
from nvreg.errors import UserError
from nvreg.metrics import METRICS
from nvreg.report.analysis import analyse
from nvreg.report.writing import write_report

BEFORE = [2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
AFTER = [1.0, 2.5, 2.0, 1.7, 2.9, 1.9]
"""Sums of nll over one token: examples 0, 3 and 5 gain, 4 and 1 lose, 2 stays."""


@pytest.fixture
def translated(run):
    """A run of one choice, whose test set of talks has texts and predictions."""
    run.protocols = ("oracle", "in-domain")
    run.domains = {"news": ("validation", "test"), "talks": ("test",)}
    run.add_nll(news=2.0, talks=2.0).add_nll(news=1.9, talks=1.9)
    for key, nll in {"key0": BEFORE, "key1": AFTER}.items():
        rows = [[value, 1.0, 4.0] for value in nll]
        predictions = [f"{key} says {number} | <b>*" for number in range(6)]
        frame = pd.DataFrame({"id": range(6), "likelihood": rows, "prediction": predictions})
        frame.to_parquet(run.directory / "examples" / key / "talks.test.parquet")
    run.counts["talks", "test"] = 6
    for domain, count in {"news": 40, "talks": 6}.items():
        records = [{"source": f"source {n}", "target": f"target {n}"} for n in range(count)]
        path = run.directory / f"{domain}.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        run.files[domain], run.fingerprints[domain] = str(path), Examples(records).fingerprint
    return run


def rows_of(run, count: int, domain: str = "talks") -> list[list[str]]:
    text = write_report(analyse(run.write(), ["in-domain"]), (), examples=count)
    section = text.split(f"### {domain}\n")[1].split("\n## ")[0].split("\n### ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows if "---" not in row]


def test_texts_and_outputs_are_side_by_side(translated):
    header, first, *_ = rows_of(translated, 2)
    assert header == ["example", "source", "target", "pretrained", "chosen", "score before", "after"]
    assert first == [
        "0",
        "source 0",
        "target 0",
        r"**key0** says 0 \| \<b\>\*",
        r"**key1** says 0 \| \<b\>\*",
        "2",
        "1",
    ]


@pytest.mark.parametrize(
    ("count", "shown"), [(2, [0, 4]), (3, [0, 3, 4]), (4, [0, 3, 1, 4]), (9, [0, 3, 5, 1, 4])]
)
def test_the_largest_gains_and_losses_are_shown_in_order(translated, count, shown):
    assert [int(row[0]) for row in rows_of(translated, count)[1:]] == shown


@pytest.mark.usefixtures("undrawn")
def test_outputs_that_markup_would_hide_are_shown_in_the_page_too(translated):
    write_report(analyse(translated.write(), ["in-domain"]), ["html"], examples=2)
    html = (translated.directory / "report.html").read_text()
    assert "<mark>key0</mark> says 0 | &lt;b&gt;*" in html


def test_without_predictions_the_scores_are_shown(translated):
    for key in ("key0", "key1"):
        path = translated.directory / "examples" / key / "talks.test.parquet"
        pd.read_parquet(path).drop(columns="prediction").to_parquet(path)
    assert rows_of(translated, 2)[0] == ["example", "source", "target", "score before", "after"]


def test_an_example_has_the_logarithm_of_a_perplexity(translated, monkeypatch):
    metric = replace(METRICS["perplexity"], of_example="nats per word")
    monkeypatch.setitem(METRICS, "perplexity", metric)
    text = write_report(analyse(translated.write(), ["in-domain"]), (), examples=2)
    assert "the change of the example's own nats per word, the largest gain first" in text


def test_a_choice_of_the_pretrained_model_has_no_examples(translated):
    translated.lines[1]["status"] = "stopped"
    text = write_report(analyse(translated.write(), ["in-domain"]), (), examples=2)
    assert "Nothing changes on news, talks." in text
    assert "This keeps the pretrained model; --protocol and --method show what others chose." in text
    assert "### talks" not in text


def test_texts_that_are_not_those_that_were_scored_are_refused(translated):
    translated.fingerprints["talks"] = "others"
    with pytest.raises(UserError, match="texts of talks that the run scored, got others"):
        rows_of(translated, 2)


def test_they_are_of_the_method_and_seed_that_are_named(translated, control):
    translated.seeds, translated.methods = (42, 43), {**translated.methods, control: translated.methods["nv"]}
    translated.add_nll(news=1.5, talks=1.5, method=control, seed=43)
    frame = pd.DataFrame({"id": range(6), "likelihood": [[nll, 1.0, 4.0] for nll in [9.0, *BEFORE[1:]]]})
    frame.assign(prediction="worse").to_parquet(
        translated.directory / "examples" / "key2" / "talks.test.parquet"
    )
    translated.counts["talks", "test"] = 6
    analysis = analyse(translated.write(), ["in-domain"])
    text = write_report(analysis, (), examples=2, method=control, seed=43)
    assert "## Examples that change most (control, seed 43, in-domain)" in text
    assert "worse" in text
    with pytest.raises(UserError, match="settings that are measured, got control with seed 42"):
        write_report(analysis, (), examples=2, method=control, seed=42)
    for chosen in ({}, {"seed": 42}, {"method": "nv"}):
        text = write_report(analysis, (), examples=2, **chosen)
        assert "## Examples that change most (nv, seed 42, in-domain)" in text
        assert "**key1** says 0" in text
    with pytest.raises(UserError, match="--method: expected one of the run, nv, control, got 'sink'"):
        write_report(analysis, (), examples=2, method="sink")
    with pytest.raises(UserError, match="--seed: expected one of the run, 42, 43, got 7"):
        write_report(analysis, (), examples=2, seed=7)


def test_no_examples_are_shown_unasked(translated):
    assert "Examples that" not in write_report(analyse(translated.write(), ["in-domain"]), ())


def test_metrics_of_a_corpus_alone_have_no_examples(translated, monkeypatch):
    for name in translated.metrics:
        monkeypatch.setitem(METRICS, name, replace(METRICS[name], of_examples=None))
    analysis = analyse(translated.write(), ["oracle"])
    with pytest.raises(UserError, match=r"metric that scores single examples.*perplexity, nll"):
        write_report(analysis, (), examples=1)
