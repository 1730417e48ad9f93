"""The report as a page of markdown."""

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from nvreg.attention.settings import Settings
from nvreg.report import statistics
from nvreg.report.protocols import ORACLE, PRETRAINED
from nvreg.report.reading import Run
from nvreg.tasks.metrics import METRICS

DIRECTIONS = {True: "higher is better", False: "lower is better", None: "neither direction is better"}
OUTCOMES = {
    True: (("improves", "above"), ("worsens", "below")),
    False: (("improves", "below"), ("worsens", "above")),
    None: (("raises", "above"), ("lowers", "below")),
}
INTERVALS = (
    f"In brackets the {statistics.LEVEL:.0%} interval of the difference from the pretrained model, by paired "
    "bootstrap over examples: it takes the chosen setting as given, without the luck of choosing it, and is "
    "not corrected for the number of cells."
)


def page(run: Run, scores: pd.DataFrame, settings: pd.DataFrame) -> str:
    """Return the whole page.

    Args:
        run: where the tables are from.
        scores: the table of `nvreg.report.tables.scores_table`.
        settings: the table of `nvreg.report.tables.settings_table`.
    """
    sections = [f"# {run.experiment.name}: {run.experiment.task}", _progress(run)]
    for metric, rows in scores.groupby("metric", sort=False):
        sections += _metric_section(run, str(metric), rows)
    sections += ["## Settings chosen", _settings(settings), "## How it was measured", _provenance(run)]
    return "\n\n".join(sections) + "\n"


def findings(rows: pd.DataFrame, higher_is_better: bool | None) -> list[str]:
    """Return one sentence for each group of protocols with the same outcome, the oracle left out.

    Args:
        rows: the rows of one metric in the table of scores.
        higher_is_better: the metric's direction.
    """
    protocols: dict[str, list[str]] = defaultdict(list)
    for protocol, cells in rows.groupby("protocol", sort=False):
        if protocol not in ("pretrained", ORACLE):
            protocols[_finding(cells, higher_is_better)].append(str(protocol))
    return [f"{', '.join(names)}: {finding}." for finding, names in protocols.items()]


def _finding(cells: pd.DataFrame, higher_is_better: bool | None) -> str:
    measured = cells.dropna(subset="score")
    if measured.empty:
        return "does not apply, no validation set to choose on"
    if (measured["trial"] == PRETRAINED).all():
        return "keeps the pretrained model"
    domains = {
        "above": ", ".join(measured["domain"][measured["low"] > 0]),
        "below": ", ".join(measured["domain"][measured["high"] < 0]),
    }
    return "; ".join(f"{verb} {domains[side] or 'no domain'}" for verb, side in OUTCOMES[higher_is_better])


def _progress(run: Run) -> str:
    tried = len(run.trials) - 1
    failed = f", {run.failed} failed" if run.failed else ""
    unfinished = (
        "" if tried + run.failed >= run.planned else " The sweep has not finished: this is a preview."
    )
    return (
        f"{tried} of {run.planned} settings completed{failed}, chosen on {run.selection_metric}; "
        f"the pretrained model is always a candidate.{unfinished}"
    )


def _metric_section(run: Run, name: str, rows: pd.DataFrame) -> list[str]:
    direction = METRICS[name].higher_is_better
    sentences = findings(rows, direction) or ["nothing but the oracle is reported, which is no selection."]
    return [
        f"## {name} ({DIRECTIONS[direction]})",
        f"Where the {statistics.LEVEL:.0%} interval excludes zero:",
        "\n".join(f"- {sentence}" for sentence in sentences),
        _scores(run, rows),
        INTERVALS,
    ]


def _scores(run: Run, rows: pd.DataFrame) -> str:
    pretrained = rows.loc[rows["protocol"] == "pretrained", "score"]
    decimals = 2 if pretrained.max() >= 10 else 3 if pretrained.max() >= 1 else 4
    header = ["selection", f"{run.in_domain} (in-domain)", *run.out_of_domain]
    body = [
        [_label(str(protocol)), *(_cell(cell, decimals) for cell in cells.to_dict("records"))]
        for protocol, cells in rows.groupby("protocol", sort=False)
    ]
    return table(header, body)


def _label(protocol: str) -> str:
    return f"{ORACLE} (upper bound)" if protocol == ORACLE else protocol


def _cell(cell: Mapping[Hashable, Any], decimals: int) -> str:
    if math.isnan(cell["score"]):
        return "n/a"
    score = f"{cell['score']:.{decimals}f}"
    if cell["protocol"] == "pretrained":
        return score
    if cell["trial"] is not pd.NA and cell["trial"] == PRETRAINED:
        return f"{score} (pretrained)"
    difference, low, high = (f"{cell[name]:+z.{decimals}f}" for name in ("difference", "low", "high"))
    return f"{score} ({difference} [{low}, {high}])"


def _settings(settings: pd.DataFrame) -> str:
    body = [
        [
            _label(row["protocol"]),
            row["domain"],
            str(row["trial"]),
            "pretrained" if row["trial"] == PRETRAINED else str(Settings.from_dict(row["settings"])),
            f"{row['prior_weight']:.4f}",
            f"{row['strength']:.4f}",
        ]
        for row in settings.to_dict("records")
    ]
    return table(["selection", "test domain", "trial", "setting", "prior weight", "strength"], body)


def _provenance(run: Run) -> str:
    metrics = [f"- {name}: `{signature}`" for name, signature in run.manifest["metrics"].items()]
    examples = ", ".join(
        f"{domain} {split} {facts['examples']}"
        + (f" ({facts['truncated']} cut to fit)" if facts["truncated"] else "")
        for domain, splits in run.manifest["data"].items()
        for split, facts in splits.items()
    )
    facts = [
        "- in-domain column where a protocol chooses a setting for each domain: the mean over those settings",
        "- n/a: no validation set to choose on",
        f"- intervals: {statistics.RESAMPLES} resamples, seed {statistics.SEED}, percentile",
        f"- examples: {examples}",
        f"- nvreg {run.manifest['nvreg']}, model `{run.manifest['model']}`",
    ]
    return "\n".join([*metrics, *facts])


def table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a table whose columns line up as plain text too."""
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    rows = [header, ["-" * width for width in widths], *body]
    cells = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(f"| {row} |" for row in cells)
