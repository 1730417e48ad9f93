"""Comparing runs with committed tables: made-up tables that are equal, and that differ in one way each."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from pandas import DataFrame

from nvreg.report.findings import KEPT
from scripts.compare import ROUNDING, compare, main, read_table, verdicts_of
from scripts.readme import RESULTS

DOMAINS = ("village", "saga")
Change = Callable[[DataFrame], DataFrame]


def row(protocol: str, domain: str, score: float, low: float, high: float, trial: int | None) -> dict:
    model = {
        "metric": "bleu",
        "method": "nv",
        "protocol": protocol,
        "seed": 42,
        "domain": domain,
        "score": score,
    }
    if protocol == "pretrained":
        return model | {"method": protocol, "seed": None, "trial": 0}
    ends = {} if protocol == "oracle" else {"low_reselected": low, "high_reselected": high}
    return model | {"difference": (low + high) / 2, **ends, "trial": trial}


def table() -> DataFrame:
    rows = [
        row("pretrained", "village", 60.0, 0, 0, 0),
        row("pretrained", "saga", 20.0, 0, 0, 0),
        row("in-domain", "village", 60.0, -1, 1, 0),
        row("in-domain", "saga", 20.0, -1, 1, 0),
        row("in-domain-tolerance", "village", 58.0, -3, -1, 3),
        row("in-domain-tolerance", "saga", 22.0, 1, 3, 3),
        row("leave-one-domain-out", "village", 60.0, 0, 0, 0),
        row("leave-one-domain-out", "saga", 20.5, -0.5, 1.5, 4),
        row("oracle", "village", 58.0, -3, -1, 3),
        row("oracle", "saga", 22.0, 1, 3, 3),
    ]
    numbers = {"deviation": float("nan"), "p": 0.5}
    return DataFrame([each | numbers for each in rows]).astype({"seed": "Int64", "trial": "Int64"})


def write(table: DataFrame, path: Path) -> DataFrame:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    return read_table(path)


def at(protocol: str, domain: str, **values: float) -> Change:
    def change(table: DataFrame) -> DataFrame:
        rows = (table["protocol"] == protocol) & (table["domain"] == domain)
        assert rows.sum() == 1
        table.loc[rows, list(values)] = list(values.values())
        return table

    return change


@pytest.fixture
def compared(tmp_path: Path) -> Callable[..., str]:
    """Writes tables of one run, the second changed, and returns what is printed and the exit code."""

    def compared(change: Change, *options: str, table: DataFrame = table(), name: str = "scores") -> int:  # noqa: B008
        write(table.copy(), tmp_path / "committed" / "run" / f"{name}.csv")
        write(change(table.copy()), tmp_path / "runs" / "run" / "tables" / f"{name}.csv")
        return main([str(tmp_path / "committed"), str(tmp_path / "runs"), *(options or ["run"])])

    return compared


def test_verdicts_are_those_of_the_report(tmp_path: Path) -> None:
    found = verdicts_of(write(table(), tmp_path / "scores.csv"))
    assert {key[2:]: verdict for key, verdict in found.items()} == {
        ("in-domain", "42", "village"): "keeps the pretrained model",
        ("in-domain", "42", "saga"): "keeps the pretrained model",
        ("in-domain-tolerance", "42", "village"): "worsens",
        ("in-domain-tolerance", "42", "saga"): "improves",
        ("leave-one-domain-out", "42", "village"): "shows no difference",
        ("leave-one-domain-out", "42", "saga"): "shows no difference",
    }


@pytest.mark.parametrize(
    "path", sorted(RESULTS.glob("embedded/*/report.md")), ids=lambda path: path.parent.name
)
def test_verdicts_are_those_of_the_committed_report(path: Path) -> None:
    found = verdicts_of(read_table(path.parent / "scores.csv"))
    metric, said = "", {}
    for line in path.read_text().partition("## Settings chosen")[0].splitlines():
        if line.startswith("## "):
            metric = "" if "after temperature" in line else line.split()[1]  # whose table is another
        elif metric and line.startswith("- "):
            protocols, _, finding = line.removeprefix("- ").removesuffix(".").partition(": ")
            for protocol in protocols.split(", "):
                said[metric, protocol] = finding
    rows = {(metric, protocol) for metric, _, protocol, *_ in found}
    assert rows == said.keys()
    for (metric, _, protocol, _, domain), verdict in found.items():
        if verdict == KEPT:
            assert said[metric, protocol] == KEPT
        else:
            plain = re.sub(r"[;,] (not |also )?after temperature[^;]*", "", said[metric, protocol])
            parts = (re.split(r"[ ,]+", part) for part in plain.split("; "))
            assert [verb for verb, *domains in parts if domain in domains] == [verdict] * (" " not in verdict)


@pytest.mark.parametrize(
    ("metric", "up", "down"), [("perplexity", "worsens", "improves"), ("overlap", "raises", "lowers")]
)
def test_the_metric_says_what_is_better(tmp_path: Path, metric: str, up: str, down: str) -> None:
    found = verdicts_of(write(table().assign(metric=metric), tmp_path / "scores.csv"))
    assert found[metric, "nv", "in-domain-tolerance", "42", "saga"] == up
    assert found[metric, "nv", "in-domain-tolerance", "42", "village"] == down


def test_an_end_that_is_zero_but_for_the_last_bits_is_zero(tmp_path: Path) -> None:
    changed = at("in-domain-tolerance", "saga", low_reselected=3e-15)(table())
    found = verdicts_of(write(changed, tmp_path / "scores.csv"))
    assert found["bleu", "nv", "in-domain-tolerance", "42", "saga"] == "shows no difference"


def test_equal_tables_agree(compared, capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(lambda table: table) == 0
    *_, run, last = capsys.readouterr().out.splitlines()
    assert run == f"  run: 10 of 10 scores within {ROUNDING:g}; 6 of 6 verdicts"
    assert last == "6 of 6 verdicts on the models that come with nvreg agree."


def test_rows_in_another_order_and_more_columns_agree(compared) -> None:
    assert compared(lambda table: table.iloc[::-1].assign(p_holm=1.0)) == 0


def test_a_score_that_is_off_is_named_and_no_flip(compared, capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(at("oracle", "saga", score=22.11)) == 0
    out = capsys.readouterr().out
    assert (
        "9 of 10 scores within 1e-06, the furthest by 0.005 (bleu, nv, oracle, 42, saga: 22 → 22.11)" in out
    )


def test_scores_that_differ_by_rounding_are_close(compared, capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(at("oracle", "saga", score=22 * (1 + ROUNDING / 2))) == 0
    assert "10 of 10 scores within 1e-06, the furthest by 5e-07 (" in capsys.readouterr().out


def test_a_flipped_verdict_is_an_error(compared, capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(at("leave-one-domain-out", "saga", low_reselected=0.1)) == 1
    out = capsys.readouterr().out
    assert "10 of 10 scores within 1e-06; 5 of 6 verdicts" in out
    assert (
        "    bleu, nv, leave-one-domain-out, 42, saga: "
        "shows no difference {-0.5, +1.5} → improves {+0.1, +1.5}\n" in out
    )
    assert out.endswith("5 of 6 verdicts on the models that come with nvreg agree.\n")


def test_another_choice_than_the_pretrained_model_flips_the_whole_selection(
    compared, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compared(at("in-domain", "saga", trial=1)) == 1
    out = capsys.readouterr().out
    assert out.count("keeps the pretrained model {-1, +1} → shows no difference {-1, +1}") == 2


@pytest.mark.parametrize("lacking", ["committed", "again"])
def test_a_domain_that_is_missing_is_an_error(
    compared, capsys: pytest.CaptureFixture[str], lacking: str
) -> None:
    extra = pd.concat([table(), table().query("domain == 'saga'").assign(domain="verse")])
    here, there = (table(), extra) if lacking == "committed" else (extra, table())
    assert compared(lambda table: there, table=here) == 1
    out = capsys.readouterr().out
    gone = ["is not there", "shows no difference {-0.5, +1.5}"]
    old, new = gone if lacking == "committed" else reversed(gone)
    assert f"    bleu, nv, leave-one-domain-out, 42, verse: {old} → {new}\n" in out
    assert ("10 of 15 scores" if lacking == "again" else "10 of 10 scores") in out


def test_a_destroyed_model_is_as_destroyed_again(compared) -> None:
    destroyed = at("oracle", "saga", score=float("inf"))(table())
    assert compared(lambda table: table, table=destroyed) == 0


def test_a_selection_that_does_not_apply(compared, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = dict.fromkeys(("score", "difference", "low_reselected", "high_reselected"), float("nan"))
    assert compared(at("leave-one-domain-out", "saga", **nothing)) == 1
    assert "shows no difference {-0.5, +1.5} → does not apply {+nan, +nan}" in capsys.readouterr().out


def tuned(table: DataFrame) -> DataFrame:
    return table.assign(run="plain", seed=1, deviation=0.5)


def test_fine_tuned_models_have_the_tolerance_of_their_seeds_and_may_flip(
    compared, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for folder in (tmp_path / "committed" / "run", tmp_path / "runs" / "run" / "tables"):
        write(tuned(table()), folder / "rivals.csv")

    def change(table: DataFrame) -> DataFrame:
        table = at("in-domain", "saga", score=20.9)(table)
        table = at("in-domain", "village", score=61.1)(table)
        return at("leave-one-domain-out", "saga", low_reselected=0.1)(table)

    assert compared(change, "--tuned", "run", table=tuned(table()), name="combined") == 0
    out = capsys.readouterr().out
    assert "run, combined (fine-tuned here): 9 of 10 scores within 2 deviations over seeds, the fu" in out
    assert "5 of 6 verdicts\n    bleu, plain, nv, leave-one-domain-out" in out
    assert "run, rivals (fine-tuned here): 10 of 10 scores" in out


HEADER = "metric,protocol,domain,score,deviation,difference,low_reselected,high_reselected\n"


@pytest.mark.parametrize(
    ("text", "got"),
    [
        (None, "no file"),
        ("", "No columns to parse from file"),
        ("<<<<<<< HEAD\nmetric,protocol\n", "one without metric, protocol, domain, score, deviation"),
        (HEADER, "one without rows"),
        (HEADER + "bleu,oracle,x,a,,,,\n", "could not convert string to float"),
        (HEADER + "blue,oracle,x,1,,,,\n", "the metric 'blue'"),
        (HEADER + "" + 2 * "bleu,oracle,x,1,,,,\n", "two rows of bleu, oracle, x"),
    ],
)
def test_a_table_that_is_missing_or_damaged_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, got: str
) -> None:
    path = tmp_path / "run" / "scores.csv"
    path.parent.mkdir()
    if text is not None:
        path.write_text(text)
    assert main([str(tmp_path), str(tmp_path), "run"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"compare: expected a table of scores in {path}, got {got}")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_table_of_single_scores_has_no_tolerance_of_seeds(tmp_path: Path) -> None:
    tables = [
        write(each, tmp_path / "scores.csv") for each in (table(), at("oracle", "saga", score=22.1)(table()))
    ]
    found = compare(*tables)
    assert (found.scores, found.close, found.largest) == (10, 9, pytest.approx(0.1 / 22.1))
