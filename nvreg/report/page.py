"""What a report says: sections of text and tables."""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from datetime import timedelta
from typing import Any

import pandas as pd
from pandas import DataFrame

from nvreg.document import Table
from nvreg.methods import METHODS
from nvreg.metrics import METRICS
from nvreg.protocols import upper_bounds
from nvreg.report import statistics
from nvreg.report.findings import findings
from nvreg.report.matching import MATCHED, NO_MATCH
from nvreg.report.reading import Run
from nvreg.report.significance import name_of_test
from nvreg.results import PRETRAINED_NUMBER, Trial

DIRECTIONS = {True: "higher is better", False: "lower is better", None: "neither direction is better"}
SELECTION = {"protocol": "selection"}
"""Headers of the columns of labels of a run with one method and one seed."""

SELECTION_AND_METHOD = {**SELECTION, "method": "method"}

CHANGES = {"change": "change", "nv_change": "NV's change"}

COSTS = {"tried": "settings", "search_seconds": "search", "training_seconds": "training"}

Blocks = list[str | Table]


def run_page(run: Run, scores: DataFrame, settings: DataFrame, rivals: DataFrame | None) -> Blocks:
    """Return the page of a run.

    Args:
        run: where the tables are from.
        scores: the table of `nvreg.report.tables.scores_table`, or of `methods_table` for a run of several
            methods or seeds.
        settings: the table of `nvreg.report.tables.settings_table`.
        rivals: the table of `nvreg.report.rivals.rivals_table`, if there is one.
    """
    blocks: Blocks = [f"# {run.experiment.name}: {run.experiment.task}", _progress(run)]
    labels = SELECTION if len(run.sweeps) == 1 else SELECTION_AND_METHOD
    if rivals is not None:
        blocks += rivals_section(run.selection_metric, rivals, {"method": "against"}, run.in_domain)
    for metric, rows in scores.groupby("metric", sort=False):
        blocks += metric_section(str(metric), rows, labels, run.in_domain)
        blocks.append(intervals("pretrained model"))
    return [
        *blocks,
        "## Settings chosen",
        _settings(run, settings),
        "## How it was measured",
        _provenance(run, has_matched=MATCHED in settings["method"].array),
    ]


def rivals_section(
    metric: str, rivals: DataFrame, labels: Mapping[str, str], in_domain: str, ours: str = "nv"
) -> Blocks:
    """Return what NV has over its rivals.

    Args:
        metric: the one they are compared by.
        rivals: the table of `nvreg.report.rivals.rivals_table`.
        labels: headers of its columns that name a rival.
        in_domain: name of the domain to mark as such.
        ours: which NV it is.
    """
    direction = METRICS[metric].higher_is_better
    decimals, names = _decimals(rivals), _domain_headers(rivals, in_domain)
    blocks: Blocks = [
        f"## Would something else have done as well? {ours} against it: {metric} ({DIRECTIONS[direction]})",
        f"Where the {statistics.LEVEL:.0%} interval in braces excludes zero:",
        _bullets(
            f"{ours} against {finding}" for finding in findings(rivals, [*labels, "protocol"], direction)
        ),
        f"Below, the score of {ours} minus that of each rival, both chosen by the same rule: the mean over "
        "repetitions, paired by example. In {braces} its interval, by paired bootstrap over examples with "
        "both choices repeated on every resample; p is of a paired test of no difference, corrected for "
        "the number of domains in the row. rivals.csv has the scores, and the intervals that take both "
        "choices as given.",
    ]
    for protocol, rows in rivals.groupby("protocol", sort=False):
        body = [
            [*map(str, label), *(_gain(cell, decimals) for cell in cells.to_dict("records"))]
            for label, cells in rows.groupby(list(labels), sort=False)
        ]
        blocks += [f"### Chosen by {protocol}: {ours} minus each", Table([*labels.values(), *names], body)]
    return blocks


def metric_section(metric: str, rows: DataFrame, labels: Mapping[str, str], in_domain: str) -> Blocks:
    """Return what one metric says: findings, and a table of the domains.

    Args:
        metric: its name.
        rows: its rows in a table of `nvreg.report.tables.contrasts_table`.
        labels: headers of the columns of ``rows`` that label rows of the table, ``protocol`` among them.
        in_domain: name of the domain to mark as such.
    """
    direction = METRICS[metric].higher_is_better
    return [
        f"## {metric} ({DIRECTIONS[direction]})",
        f"Where the {statistics.LEVEL:.0%} interval in braces excludes zero:",
        _bullets(findings(rows, labels, direction))
        or "- nothing but the oracle is reported, which is no selection.",
        _scores(rows, labels, in_domain),
    ]


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def intervals(other: str) -> str:
    """Return what the numbers after a score mean, of differences from what ``other`` names."""
    return (
        f"In [brackets] the {statistics.LEVEL:.0%} interval of the difference from the {other}, by paired "
        "bootstrap over examples: it takes the chosen setting as given, without the luck of choosing it. In "
        "{braces} the same with the choice repeated on every resample, of validation and test examples: it "
        "shows that many settings were tried. p is of a paired test of no difference, corrected for the "
        "number of domains in the row, not for the number of rows."
    )


def _progress(run: Run) -> str:
    ended = [f"{run.count('completed')} of {run.planned} settings completed"]
    if failed := run.count("failed"):
        ended.append(f"{failed} failed")
    if stopped := run.count("stopped"):
        ended.append(f"{stopped} stopped early (about {_time(_saved_seconds(run))} saved)")
    finished = sum(map(len, run.sweeps.values())) >= run.planned
    return (
        f"{', '.join(ended)}, chosen on {run.selection_metric}; the pretrained model is always a candidate."
        + ("" if finished else " The sweep has not finished: this is a preview.")
    )


def _saved_seconds(run: Run) -> float:
    """Return what the stopped settings would have taken more, had they taken as long as the completed."""
    trials = [trial for each in run.sweeps.values() for trial in each]
    completed = [trial.seconds for trial in trials if trial.status == "completed"]
    stopped = [trial.seconds for trial in trials if trial.status == "stopped"]
    return len(stopped) * sum(completed) / max(1, len(completed)) - sum(stopped)


def _scores(rows: DataFrame, labels: Mapping[str, str], in_domain: str) -> Table:
    decimals = _decimals(rows)
    costs = {name: header for name, header in COSTS.items() if name in rows and rows[name].notna().any()}
    body = [
        [
            *map(_label, label),
            *(_cell(cell, decimals) for cell in cells.to_dict("records")),
            *(_cost(name, cells[name].iloc[0]) for name in costs),
        ]
        for label, cells in rows.groupby(list(labels), sort=False)
    ]
    return Table([*labels.values(), *_domain_headers(rows, in_domain), *costs.values()], body)


def _decimals(rows: DataFrame) -> int:
    models = rows.loc[rows["protocol"] == "pretrained", "score"]
    usual = models.max() if len(models) else rows["score"].median()
    return 2 if usual >= 10 else 3 if usual >= 1 else 4


def _domain_headers(rows: DataFrame, in_domain: str) -> list[str]:
    return [f"{domain} (in-domain)" if domain == in_domain else domain for domain in rows["domain"].unique()]


def _label(name: Any) -> str:
    return f"{name} (upper bound)" if name in upper_bounds() else str(name)


def _cell(cell: Mapping[Hashable, Any], decimals: int) -> str:
    if math.isnan(cell["score"]):
        return "n/a"
    score = f"{cell['score']:.{decimals}f}"
    if "other" in cell:
        score = f"{cell['other']:.{decimals}f} → {score}"
    if not math.isnan(cell["deviation"]):
        score += f" ± {cell['deviation']:.{decimals}f}"
    if math.isnan(cell["difference"]):
        return score
    if (trial := cell.get("trial", pd.NA)) is not pd.NA and trial == PRETRAINED_NUMBER:
        return f"{score} (pretrained)"
    facts = [f"{cell['difference']:+z.{decimals}f}", "[{}, {}]".format(*_ends(cell, "", decimals))]
    return f"{score} ({' '.join([*facts, *_reselected(cell, decimals)])})"


def _gain(cell: Mapping[Hashable, Any], decimals: int) -> str:
    if math.isnan(cell["score"]):
        return "n/a"
    return " ".join([f"{cell['difference']:+z.{decimals}f}", *_reselected(cell, decimals)])


def _reselected(cell: Mapping[Hashable, Any], decimals: int) -> list[str]:
    facts = []
    if not math.isnan(cell["low_reselected"]):
        facts.append("{{{}, {}}}".format(*_ends(cell, "_reselected", decimals)))
    if not math.isnan(cell["p_holm"]):
        facts.append(f"p={cell['p_holm']:.3f}" if cell["p_holm"] >= 0.001 else "p<0.001")
    return facts


def _ends(cell: Mapping[Hashable, Any], which: str, decimals: int) -> list[str]:
    return [f"{cell[f'{end}{which}']:+z.{decimals}f}" for end in ("low", "high")]


def _cost(name: str, cost: float) -> str:
    return "" if math.isnan(cost) else f"{cost:g}" if name == "tried" else _time(cost)


def _time(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))


def _settings(run: Run, settings: DataFrame) -> Table:
    labels = {"method": "method", "seed": "seed"} if len(run.sweeps) > 1 else {}
    numbers = {"prior_weight": "prior weight", "strength": "strength"}
    numbers |= {name: header for name, header in CHANGES.items() if settings[name].notna().any()}
    body = [
        [
            *(str(row[label]) for label in labels),
            _label(row["protocol"]),
            row["domain"],
            *_trial_and_setting(run, row["trial"]),
            *("" if math.isnan(row[name]) else f"{row[name]:.4f}" for name in numbers),
        ]
        for row in settings.to_dict("records")
    ]
    columns = ["selection", "test domain", "trial", "setting", *numbers.values()]
    return Table([*labels.values(), *columns], body)


def _trial_and_setting(run: Run, number: Any) -> tuple[str, str]:
    return ("n/a", NO_MATCH) if pd.isna(number) else (str(number), setting_text(run.trials[number]))


def setting_text(trial: Trial) -> str:
    """Return a trial's setting as one short text."""
    if trial.number == PRETRAINED_NUMBER:
        return "pretrained"
    return str(METHODS[trial.method].setting_type.from_dict(trial.settings))


def _provenance(run: Run, has_matched: bool) -> str:
    metrics = [f"- {name}: `{signature}`" for name, signature in run.manifest["metrics"].items()]
    examples = ", ".join(
        f"{domain} {split} {facts['examples']}"
        + (f" ({facts['truncated']} cut to fit)" if facts["truncated"] else "")
        for domain, splits in run.manifest["data"].items()
        for split, facts in splits.items()
    )
    matched = (
        f"- {MATCHED}: of the weight noise of the same seed, what changes attention outputs most nearly as "
        f"much as the choice of nv does; n/a: {NO_MATCH}"
    )
    several = len({arm.seed for arm in run.sweeps}) > 1
    facts = [
        *(["- ±: standard deviation over the seeds of the search"] if several else []),
        "- in-domain column where a protocol chooses a setting for each domain: the mean over those settings",
        "- n/a: no validation set to choose on",
        *([matched] if has_matched else []),
        f"- intervals: {statistics.RESAMPLES} resamples, seed {statistics.SEED}, percentile; strength and "
        "tolerance are not resampled",
        f"- tests: {_tests(run.metrics)}; corrected by Holm's method",
        f"- examples: {examples}",
        f"- nvreg {run.manifest['nvreg']}, model `{run.manifest['model']}`",
    ]
    return "\n".join([*metrics, *facts])


def _tests(metrics: Iterable[str]) -> str:
    tested: dict[str, list[str]] = defaultdict(list)
    for name in metrics:
        if METRICS[name].higher_is_better is not None:
            tested[name_of_test(METRICS[name])].append(name)
    return ", ".join(f"{test} for {' and '.join(names)}" for test, names in tested.items())
