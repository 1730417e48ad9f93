"""What the page says."""

import re

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from nvreg.metrics.resampling import FEWEST, LEVEL
from nvreg.report.analysis import analyse
from nvreg.report.findings import findings as findings_of
from nvreg.report.writing import write_report


def page_of(synthetic) -> str:
    return write_report(analyse(synthetic.write()), formats=())


def findings(rows: pd.DataFrame, higher_is_better: bool | None) -> list[str]:
    return findings_of(rows, ["protocol"], higher_is_better)


def table_under(text: str, heading: str) -> list[list[str]]:
    section = text.split(f"## {heading}")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if not row.startswith("| -")]


def test_a_table_a_metric_with_in_domain_first_and_the_pretrained_model_on_top(small):
    text = page_of(small)
    header, pretrained, *rows = table_under(text, "nll (lower is better)")
    assert header == ["selection", "news (in-domain)", "talks", "books"]
    assert pretrained == ["pretrained", "2.000", "3.000", "3.000"]
    assert [row[0] for row in rows] == [
        "in-domain",
        "in-domain-tolerance",
        "leave-one-domain-out",
        "out-of-domain-validation",
        "oracle (upper bound)",
    ]
    ends = r"-0\.2\d\d, -0\.1\d\d"
    assert re.fullmatch(rf"2\.800 \(-0\.200 \{{{ends}\}}\) ✓", rows[3][2])
    assert re.fullmatch(r"2\.500 \(-0\.500 \[-0\.\d+, -0\.\d+\]\)", rows[4][2])
    assert rows[2][2] == rows[3][3] == "n/a"
    assert table_under(text, "perplexity (lower is better)")[1] == ["pretrained", "7.39", "20.09", "20.09"]


def test_the_page_says_what_intervals_leave_out_under_every_table(small):
    assert page_of(small).count("in [brackets] its choice is taken as given") == 2


def test_settings_are_readable(small):
    rows = table_under(page_of(small), "Settings chosen")
    assert rows[2] == ["in-domain-tolerance", "all", "2", "tau_sigma cross=0.5", "0.2500", "0.5000"]


def test_a_choice_of_the_pretrained_model_is_named(run):
    run.add_nll(news=2.0, talks=3.0, books=3.0)
    run.add_nll(news=2.5, talks={"validation": 2.9, "test": 3.5}, books=3.5, strength=0.3)
    text = page_of(run)
    assert [cell.partition(" ")[2] for cell in table_under(text, "nll")[2][1:]] == ["(pretrained)"] * 3
    assert table_under(text, "Settings chosen")[1][3] == "pretrained"
    assert "in-domain, in-domain-tolerance: keeps the pretrained model." in text


@pytest.mark.parametrize("bound", [3.5, 2.5])
def test_where_every_selection_keeps_the_pretrained_model_that_is_said_once(run, bound):
    run.add_nll(news=2.0, talks=3.0, books=3.0)
    run.add_nll(news=2.5, talks={"validation": 3.5, "test": bound}, books=3.5, strength=0.3)
    text = page_of(run)
    bounds = ["oracle (upper bound)"] * (bound < 3)
    assert text.count("Every selection keeps the pretrained model.") == 2  # once a metric
    assert [row[0] for row in table_under(text, "nll")[1:]] == ["pretrained", *bounds]
    assert ("## Settings chosen" in text) == bool(bounds)
    assert ("in [brackets]" in text) == bool(bounds)


def test_a_method_is_named_once_in_a_row_of_settings(small):
    small.methods = {**small.methods, "temperature": {"space": {"temperature": [0.5, 2]}}}
    settings = {"temperature": 1.46}
    small.add_nll(news=1.8, talks=2.9, books=3.0, method="temperature", settings=settings)
    rows = table_under(page_of(small), "Settings chosen")
    assert ["temperature", "in-domain", "all", "5", "1.46"] in [[row[0], *row[2:6]] for row in rows]


def test_how_it_was_measured(small):
    text = page_of(small)
    for fact in ("1000 resamples", "seed 12345", "news test 40", "marian-0123", "nvreg 0.1.0"):
        assert fact in text


def test_the_commands_name_all_that_export_asks_for(small):
    assert f"nvreg export {small.directory} OUT --protocol in-domain\n" in page_of(small)
    small.methods, small.seeds = {**small.methods, "sink": {"space": {"sink_logit": [0, 1]}}}, (42, 43)
    small.protocols = ("leave-one-domain-out",)
    assert "OUT --protocol leave-one-domain-out --domain talks --method nv --seed 42\n" in page_of(small)


def test_a_finished_sweep(small):
    assert "4 settings completed, chosen on perplexity" in page_of(small)


def test_a_sweep_still_running_is_reported_as_such(small):
    small.planned = 12
    small.lines[4] |= {"status": "failed", "metrics": {}, "strength": None, "prior_weight": None}
    text = page_of(small)
    assert "3 of 12 settings completed, 1 failed" in text
    assert "not finished" in text


def rows_of(*cells: tuple[str, str, float, float, int]) -> pd.DataFrame:
    columns = ["protocol", "domain", "low_reselected", "high_reselected", "trial"]
    return pd.DataFrame(cells, columns=columns).assign(score=1.0, difference=0.5)


@pytest.mark.parametrize(
    ("higher_is_better", "finding"),
    [(True, "improves talks; worsens books"), (False, "improves books; worsens talks")],
)
def test_findings_name_domains_whose_interval_excludes_zero(higher_is_better, finding):
    rows = rows_of(
        ("in-domain", "news", -1, 1, 2),
        ("in-domain", "talks", 0.1, 1, 2),
        ("in-domain", "books", -1, -0.1, 2),
    )
    assert findings(rows, higher_is_better) == [f"in-domain: {finding}."]


def test_findings_say_when_nothing_improves():
    rows = rows_of(("in-domain", "news", 0, 1, 2), ("in-domain", "talks", -1, 1, 2))
    assert findings(rows, True) == ["in-domain: improves no domain; worsens no domain."]


@pytest.mark.parametrize(("end", "counts"), [(6e-7, True), (4e-7, False)])
@pytest.mark.parametrize("score", [0.5, 1e9])  # a model that was destroyed is compared in units of the other
def test_findings_take_an_end_closer_to_zero_than_a_millionth_of_the_score_for_zero(end, counts, score):
    rows = rows_of(("in-domain", "news", end, score, 2), ("in-domain", "talks", -score, -end, 2))
    found = findings(rows.assign(score=score, difference=score - 0.5), True)
    verdict = "improves news; worsens talks" if counts else "improves no domain; worsens no domain"
    assert found == [f"in-domain: {verdict}."]


def test_findings_name_the_domains_of_a_destroyed_model():
    inf = float("inf")
    rows = rows_of(("in-domain", "news", inf, inf, 2), ("in-domain", "talks", -1, 1, 2)).assign(
        score=[inf, 2.0]
    )
    assert findings(rows, False) == ["in-domain: improves no domain; worsens news."]


def test_findings_leave_the_oracle_out_and_join_equal_outcomes():
    rows = rows_of(
        ("in-domain", "talks", 0.1, 1, 2),
        ("leave-one-domain-out", "talks", 0.2, 1, 3),
        ("in-domain-tolerance", "talks", 0, 0, 0),
        ("oracle", "talks", 5, 6, 4),
    )
    assert findings(rows, True) == [
        "in-domain, leave-one-domain-out: improves talks; worsens no domain.",
        "in-domain-tolerance: keeps the pretrained model.",
    ]
    unmeasured = rows_of(("out-of-domain-validation", "talks", 0, 0, 0)).assign(score=float("nan"))
    assert findings(unmeasured, True) == ["out-of-domain-validation: does not apply, nothing to choose by."]


def test_findings_do_not_list_many_of_whom_there_is_nothing_to_say():
    cells = [("in-domain", "talks", low, 1, 2) for low in (0.1, 0, 0, 0, 0)]
    rows = rows_of(*cells).assign(method=["nv", "sink", "low-rank", "wise-ft", "temperature"])
    assert findings_of(rows, ["protocol", "method"], True) == [
        "nv (every selection): improves talks; worsens no domain.",
        "all others: improves no domain; worsens no domain.",
    ]
    assert findings_of(rows[1:], ["protocol", "method"], True) == [
        "all: improves no domain; worsens no domain."
    ]


def test_an_upper_bound_alone_is_no_finding(small):
    small.protocols = ("oracle",)
    assert "Nothing but an upper bound is reported" in page_of(small)


def test_a_sweep_that_has_just_begun_keeps_nothing_yet(run):
    run.add_nll(news=2.0, talks=3.0, books=3.0)
    text = page_of(run)
    assert "0 of 3 settings completed" in text
    assert "Not measured yet: nv." in text
    assert "No setting is measured yet." in text
    assert "keeps the pretrained model" not in text


@pytest.mark.parametrize(("status", "measured"), [("completed", True), ("stopped", True), ("failed", False)])
def test_what_is_not_measured_yet_keeps_nothing(small, control, status, measured):
    small.methods = {**small.methods, control: small.methods["nv"]}
    assert "Not measured yet: control." in page_of(small)
    small.add_nll(news=2.5, talks=3.5, books=3.5, method=control, status=status)
    text = page_of(small)
    assert ("Not measured yet: control." not in text) == measured
    assert ("control (every selection): keeps the pretrained model." in text) == measured


def few(run, examples: int):
    """Give a run of two trials as few test examples of talks."""
    rows = [
        np.column_stack([np.linspace(nll, nll + 1, 40) * 10, np.full(40, 10.0), np.full(40, 40.0)])
        for nll in (3, 2)
    ]
    for each in rows:
        run.add(
            {
                domain: {
                    split: {"likelihood": each[: examples if (domain, split) == ("talks", "test") else 40]}
                    for split in splits
                }
                for domain, splits in run.domains.items()
            },
            strength=0.1,
        )
    return run


def test_of_too_few_test_examples_there_is_no_interval_no_p_and_no_verdict(run):
    text = page_of(few(run, FEWEST - 1))
    assert "improves news, books; worsens no domain; no interval on talks." in text
    assert table_under(text, "nll")[2][2] == "2.103 (-1.000)"
    assert f"talks: fewer than {FEWEST} test examples, so a difference has no interval" in text


def test_of_just_enough_test_examples_there_are(run):
    text = page_of(few(run, FEWEST))
    assert "improves news, talks, books" in text
    assert "test examples, so a difference has no interval" not in text


def test_how_many_examples_are_enough():
    """The interval of normal differences by the percentile bootstrap, in its limit of many resamples."""
    level = 1 - (1 - LEVEL) / 2
    covered = [
        1 - 2 * scipy.stats.t.sf(scipy.stats.norm.ppf(level) * np.sqrt((n - 1) / n), n - 1)
        for n in (FEWEST - 1, FEWEST)
    ]
    assert covered[0] < 0.9 <= covered[1]


def test_racing_is_counted_with_the_time_it_saved(small):
    small.planned = 8
    for line in small.lines[1:3]:
        line["seconds"] = 100.0
    for line in small.lines[3:]:
        line |= {"status": "stopped", "seconds": 30.0}
    text = page_of(small)
    assert "2 of 8 settings completed, 2 stopped early (about 0:02:20 saved), chosen on" in text


def test_several_methods_and_seeds_are_rows_with_means_and_costs(small, control):
    small.seeds, small.methods = (42, 43), {**small.methods, control: small.methods["nv"]}
    small.add_nll(news=1.8, talks=2.9, books=3.0, method=control, seconds=60.0)
    small.add_nll(news=1.7, talks=2.7, books=3.0, method=control, seed=43, seconds=70.0)
    text = page_of(small)
    header, pretrained, *rows = table_under(text, "nll")
    assert header == ["selection", "method", "news (in-domain)", "talks", "books", "settings", "search"]
    assert pretrained == ["pretrained", "pretrained", "2.000", "3.000", "3.000", "", ""]
    (row,) = [row for row in rows if row[:2] == ["in-domain", "control"]]
    assert row[3].startswith("2.800 ± 0.141 (-0.200 {")
    assert row[-2:] == ["1", "0:01:05"]
    assert [row[1] for row in rows[:2]] == ["nv", "control"]
    assert "control (in-domain, " in text
    chosen = table_under(text, "Settings chosen")
    assert ["control", "43", "in-domain", "all", "6"] in [row[:5] for row in chosen]


def test_the_page_names_the_test_and_how_small_p_can_be(small):
    assert (
        "tests: approximate randomisation, two-sided, at most 9999 swaps, seed 12345, so p is 0.0001"
        in page_of(small)
    )


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("language-modelling", "unlabelled is out-of-domain-validation, as a text is its own label."),
        ("translation", "unlabelled is n/a, as nothing tells without references how good translation is."),
    ],
)
def test_how_unlabelled_chooses_stands_below_the_table(small, task, said):
    small.task, small.metric = task, "perplexity"
    small.protocols = ("in-domain", "out-of-domain-validation", "unlabelled")
    text = page_of(small)
    section = text.split("## perplexity")[1].partition("\n## ")[0]
    assert f"\n\n{said}\n" in section
    rows = {row[0]: row[1:] for row in table_under(text, "perplexity")}
    if task == "translation":
        assert set(rows["unlabelled"][:3]) == {"n/a"}
    else:
        assert rows["unlabelled"] == rows["out-of-domain-validation"]
