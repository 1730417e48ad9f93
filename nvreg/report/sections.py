"""Sections that pages share: what one metric says, and what NV has over its rivals."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from pandas import DataFrame, Series

from nvreg.document import Block, Table
from nvreg.metrics import METRICS
from nvreg.protocols import upper_bounds, without_last_bits
from nvreg.report import statistics
from nvreg.report.analysis import MATCHED, NO_MATCH
from nvreg.report.cells import (
    CANNOT,
    RESELECTED,
    gain_text,
    keeps_pretrained,
    score_text,
    time_text,
    with_decimals,
)
from nvreg.results import PRETRAINED

DIRECTIONS = {True: "higher is better", False: "lower is better", None: "neither direction is better"}

OUTCOMES = {
    True: (("improves", "above"), ("worsens", "below")),
    False: (("improves", "below"), ("worsens", "above")),
    None: (("raises", "above"), ("lowers", "below")),
}
"""The verbs for domains whose interval is above or below zero, by the metric's direction."""

PRETRAINED_MODEL = "pretrained model"
"""Words for what choices are compared with."""

KEPT, NOTHING, INAPPLICABLE = "keeps the pretrained model", "shows no difference", "does not apply"
UNKNOWN = "has no interval"
"""The verdicts on a domain beside these verbs."""

PROTOCOL = {"protocol": "selection"}
"""Headers of the columns of labels of a run with one method and one seed."""

METHOD = {"method": "method"}

PROTOCOL_AND_METHOD = {**PROTOCOL, **METHOD}
"""Headers of the same for a run with several."""

COSTS = {"tried": "settings", "search_seconds": "search", "training_seconds": "training"}
"""Headers of the columns of what a search cost."""

AFTER_TEMPERATURE = "-after-temperature"
"""What the name of a table after temperature has behind that of the table beside it."""

NO_TEMPERATURES = (
    "There is no table after temperature: nothing was kept to try temperatures on "
    "(evaluation.temperatures says what is)."
)

MANY = 3
"""The most methods of which nothing comes that are named; more are left out together."""


def metric_section(
    metric: str,
    rows: DataFrame,
    labels: Mapping[str, str],
    in_domain: str,
    other: str = PRETRAINED_MODEL,
    after: DataFrame | None = None,
    cannot_change: Collection[str] = (),
) -> list[Block]:
    """Return what one metric says: findings, a table of the domains, how to read it; and after temperature.

    Args:
        metric: its name.
        rows: its rows in a table of `nvreg.report.contrasts`.
        labels: headers of the columns of ``rows`` that label rows of the table, ``protocol`` among them.
        in_domain: name of the domain to mark as such.
        other: words for what the scores are compared with.
        after: the table after temperature, of all metrics that it changes; None where there is none.
        cannot_change: the methods no setting of which can change the metric.
    """
    direction, level = METRICS[metric].higher_is_better, f"{statistics.LEVEL:.0%}"
    tempered = (
        None if after is None or metric not in after["metric"].array else after[after["metric"] == metric]
    )
    blocks = [
        f"## {metric} ({DIRECTIONS[direction]})",
        *_told(metric, rows, labels, in_domain, tempered, cannot_change),
    ]
    if _shown(rows, labels)["low"].notna().any():
        blocks.append(
            f"In [brackets] the {level} interval of the difference from the {other}, by paired bootstrap "
            "over examples: it takes the chosen setting as given, without the luck of choosing it. In "
            "{braces} the same with the choice repeated on every resample, of validation and test examples: "
            "it shows that many settings were tried. p is of a paired test of no difference in the printed "
            "score, corrected for the number of domains in the row, not for the number of rows. The numbers "
            "of a cell end at the second digit of its narrower interval's half-width."
        )
    blocks += _too_few(rows)
    if tempered is not None:
        blocks += _after_temperature(metric, tempered, {**labels, **METHOD}, in_domain, other)
    return blocks


def _after_temperature(
    metric: str, rows: DataFrame, labels: Mapping[str, str], in_domain: str, other: str
) -> list[Block]:
    """Return what a metric says where all choices and what they are compared with are at temperatures."""
    names = [label for label in labels if label != "protocol"]
    ends = [
        f"{' '.join(map(str, name))} on {', '.join(cells['domain'].unique())}"
        for name, cells in rows[rows["end_of_list"].eq(True)].groupby(names, sort=False)
    ]
    wider = f"Temperatures at the end of the list are chosen for {'; '.join(ends)}: try wider ones."
    return [
        f"## {metric} after temperature ({DIRECTIONS[METRICS[metric].higher_is_better]})",
        "Each selection also chooses what the logits are divided by, by nll on the sets that it chooses "
        f"settings on: one temperature for the pretrained model (rows {PRETRAINED}), and one for what it "
        f"chose, which is compared with the {other} at its own. So no difference comes from softening alone"
        + (f"; rows {PRETRAINED} show what that does." if other == PRETRAINED_MODEL else "."),
        *_told(metric, rows, labels, in_domain),
        "In a cell, at 1.25 means: at a temperature of 1.25. In {braces} both choices are repeated; the "
        "rest is as in the table before.",
        *([wider] if ends else []),
    ]


def _told(
    metric: str,
    rows: DataFrame,
    labels: Mapping[str, str],
    in_domain: str,
    after: DataFrame | None = None,
    cannot_change: Collection[str] = (),
) -> list[Block]:
    """Return the findings of a metric's rows, and the table of them."""
    if keeps_everywhere(rows):
        said: list[Block] = [f"Every selection {KEPT}."]
    elif found := findings(rows, labels, METRICS[metric].higher_is_better, after, cannot_change):
        said = [f"Where the {statistics.LEVEL:.0%} interval in braces excludes zero:", _bullets(found)]
    elif rows["protocol"].eq(PRETRAINED).all():
        said = ["No setting is measured yet."]
    else:
        said = ["Nothing but an upper bound is reported, which is no selection."]
    return [*said, _scores(_shown(rows, labels), labels, in_domain, cannot_change)]


def rivals_section(
    metric: str,
    rivals: DataFrame,
    labels: Mapping[str, str],
    in_domain: str,
    ours: str = "nv",
    after: DataFrame | None = None,
) -> list[Block]:
    """Return what NV has over its rivals.

    Args:
        metric: the one they are compared by.
        rivals: the table of `nvreg.report.tables.rivals_table`.
        labels: headers of its columns that name a rival.
        in_domain: name of the domain to mark as such.
        ours: which NV it is.
        after: the same table after temperature; None where there is none.
    """
    direction = METRICS[metric].higher_is_better
    blocks: list[Block] = [
        f"## Would something else have done as well? {ours} against it: {metric} ({DIRECTIONS[direction]})",
        f"Where the {statistics.LEVEL:.0%} interval in braces excludes zero:",
        _bullets(
            f"{ours} against {finding}"
            for finding in findings(rivals, [*labels, "protocol"], direction, after)
        ),
        f"Below, the score of {ours} minus that of each rival, both chosen by the same rule: the mean over "
        "repetitions, paired by example. In {braces} its interval, by paired bootstrap over examples with "
        "both choices repeated on every resample; p is of a paired test of no difference, corrected for "
        "the number of domains in the row. rivals.csv has the scores, and the intervals that take both "
        "choices as given"
        + (", and rivals-after-temperature.csv the same after temperature." if after is not None else "."),
        *_too_few(rivals),
    ]
    for protocol, rows in with_decimals(rivals, [RESELECTED]).groupby("protocol", sort=False):
        body = [
            [*map(str, label), *(gain_text(cell) for cell in cells.to_dict("records"))]
            for label, cells in rows.groupby(list(labels), sort=False)
        ]
        header = [*labels.values(), *_domain_headers(rows, in_domain)]
        blocks += [f"### Chosen by {protocol}: {ours} minus each", Table(header, body)]
    return blocks


def protocol_label(name: Any) -> str:
    """Return the name of a protocol, and whether it is an upper bound."""
    return f"{name} (upper bound)" if name in upper_bounds() else str(name)


def findings(
    rows: DataFrame,
    labels: Iterable[str],
    higher_is_better: bool | None,
    after: DataFrame | None = None,
    cannot_change: Collection[str] = (),
) -> list[str]:
    """Return one sentence for each group of rows of the table with the same outcome, upper bounds left out.

    Args:
        rows: the rows of one metric.
        labels: the columns that name a row of the table.
        higher_is_better: the metric's direction.
        after: the rows of the metric after temperature, of which the sentences then tell too.
        cannot_change: the methods no setting of which can change the metric.
    """
    shown = rows[~rows["protocol"].isin(upper_bounds())]
    others = [label for label in labels if label != "protocol"]
    outcomes: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for label, cells in shown.groupby([*others, "protocol"], sort=False):
        *names, protocol = map(str, label)
        if cells["score"].isna().all() or cells["difference"].notna().any():
            finding = _finding(cells, higher_is_better, None if after is None else _same_row(after, cells))
            if "method" in cells and cells["method"].isin(cannot_change).all():
                finding = CANNOT
            outcomes[finding][" ".join(names)].append(protocol)
    every = set(shown["protocol"]) - {PRETRAINED}
    nothing = _outcome({}, higher_is_better)
    rest = outcomes.pop(nothing) if len(outcomes.get(nothing, ())) > MANY else {}
    sentences = [
        f"{', '.join(_subject(name, protocols, every) for name, protocols in subjects.items())}: {finding}."
        for finding, subjects in outcomes.items()
    ]
    return [*sentences, f"{'all others' if sentences else 'all'}: {nothing}."] if rest else sentences


def keeps_everywhere(rows: DataFrame) -> bool:
    """Return whether every selection chooses the pretrained model for all domains, upper bounds left out."""
    chosen = rows[_are_selections(rows) & rows["score"].notna()]
    return len(chosen) > 0 and bool(keeps_pretrained(chosen).all())


def _are_selections(rows: DataFrame) -> Series:
    return ~rows["protocol"].isin([PRETRAINED, *upper_bounds()])


def _shown(rows: DataFrame, labels: Iterable[str]) -> DataFrame:
    """Return all rows, or where every selection keeps the pretrained model those that say something else.

    They are that of the model, and the upper bounds that choose another.
    """
    if not keeps_everywhere(rows):
        return rows
    bounds = rows[rows["protocol"].isin(upper_bounds())]
    kept = keeps_pretrained(bounds) | bounds["score"].isna()
    others = ~kept.groupby([bounds[label] for label in labels]).transform("all")
    return rows[rows["protocol"].eq(PRETRAINED) | others.reindex(rows.index, fill_value=False)]


def verdicts(cells: DataFrame, higher_is_better: bool | None) -> list[str]:
    """Return what the cells of one row of a table say of each domain.

    A verb of `OUTCOMES` where the interval that repeats the choice excludes zero, `UNKNOWN` where there is
    none. A row keeps the pretrained model where it chooses it for all domains, at the temperature of what it
    is compared with.
    """
    measured, kept = cells["score"].notna(), keeps_pretrained(cells)
    if measured.any() and kept[measured].all():
        return [KEPT if each else INAPPLICABLE for each in measured]
    verbs = {side: verb for verb, side in OUTCOMES[higher_is_better]}
    scale = np.nan_to_num(cells["score"].abs().to_numpy(), posinf=1)
    low, high = (without_last_bits(cells[f"{end}_reselected"].to_numpy(), scale) for end in ("low", "high"))
    said = np.where(low > 0, verbs["above"], np.where(high < 0, verbs["below"], NOTHING))
    said = np.where(np.isnan(low) & ~kept.to_numpy(), UNKNOWN, said)
    return [str(verdict) for verdict in np.where(measured, said, INAPPLICABLE)]


def _subject(name: str, protocols: list[str], every: set[str]) -> str:
    if not name or protocols == [PRETRAINED]:
        return name or ", ".join(protocols)
    return f"{name} ({'every selection' if every <= set(protocols) else ', '.join(protocols)})"


def _finding(cells: DataFrame, higher_is_better: bool | None, after: DataFrame | None) -> str:
    said = dict(zip(cells["domain"], verdicts(cells, higher_is_better), strict=True))
    if set(said.values()) == {INAPPLICABLE}:
        is_matched = "method" in cells and cells["method"].eq(MATCHED).all()
        return f"{INAPPLICABLE}, {NO_MATCH if is_matched else 'nothing to choose by'}"
    if KEPT in said.values():
        return KEPT
    if after is None or after.empty:
        return _outcome(said, higher_is_better)
    then = dict(zip(after["domain"], verdicts(after, higher_is_better), strict=True))
    return _outcome(said, higher_is_better, then)


def _same_row(table: DataFrame, cells: DataFrame) -> DataFrame:
    """Return the cells of another table with the labels that these have."""
    labels = [name for name in ("run", "method", "protocol") if name in cells]
    return table[(table[labels] == cells[labels].iloc[0]).all(axis=1)]


def _outcome(
    said: Mapping[str, str], higher_is_better: bool | None, after: Mapping[str, str] | None = None
) -> str:
    def domains(verb: str, verdicts: Mapping[str, str]) -> str:
        return ", ".join(domain for domain, verdict in verdicts.items() if verdict == verb)

    unknown = domains(UNKNOWN, said)
    if unknown and set(said.values()) <= {UNKNOWN, INAPPLICABLE}:
        return f"no interval on {unknown}"
    parts = []
    for verb, _ in OUTCOMES[higher_is_better]:
        named = domains(verb, said)
        parts.append(f"{verb} {named or 'no domain'}")
        if after is not None:
            parts[-1] += _compared(named, domains(verb, after))
    if unknown:
        parts.append(f"no interval on {unknown}")
    return "; ".join(parts)


def _compared(named: str, after: str) -> str:
    """Return what becomes of the domains of a verb after temperature."""
    if named == after:
        return ", also after temperature" if named else ""
    return f"; after temperature {after}" if after else "; not after temperature"


def _too_few(rows: DataFrame) -> list[Block]:
    """Return which domains have too few examples for intervals, if any."""
    untold = rows["difference"].notna() & rows["low"].isna() & np.isfinite(rows["score"])
    if not (domains := rows.loc[untold, "domain"].unique().tolist()):
        return []
    return [
        f"{', '.join(domains)}: fewer than {statistics.FEWEST} test examples, so a difference has no "
        "interval, no p and no verdict."
    ]


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _scores(
    rows: DataFrame, labels: Mapping[str, str], in_domain: str, cannot_change: Collection[str]
) -> Table:
    costs = {name: header for name, header in COSTS.items() if name in rows and rows[name].notna().any()}
    body = [
        [
            *map(protocol_label, label),
            *(score_text(cell, cannot_change) for cell in cells.to_dict("records")),
            *(_cost(name, cells[name].iloc[0]) for name in costs),
        ]
        for label, cells in with_decimals(rows).groupby(list(labels), sort=False)
    ]
    return Table([*labels.values(), *_domain_headers(rows, in_domain), *costs.values()], body)


def _domain_headers(rows: DataFrame, in_domain: str) -> list[str]:
    return [f"{domain} (in-domain)" if domain == in_domain else domain for domain in rows["domain"].unique()]


def _cost(name: str, cost: float) -> str:
    return "" if math.isnan(cost) else f"{cost:g}" if name == "tried" else time_text(cost)
