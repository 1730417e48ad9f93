"""Sections that pages share: what one metric says, and what NV has over its rivals."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from pandas import DataFrame

from nvreg.document import Block, Cell, PageSection, Table
from nvreg.metrics import METRICS, resampling
from nvreg.protocols import upper_bounds
from nvreg.report.cells import RESELECTED, gain_cell, keeps_pretrained, score_cell, time_text, with_decimals
from nvreg.report.findings import KEPT, findings, keeps_everywhere, tones
from nvreg.results import PRETRAINED
from nvreg.text import in_markdown

DIRECTIONS = {True: "higher is better", False: "lower is better", None: "neither direction is better"}

PRETRAINED_MODEL = "pretrained model"
"""Words for what choices are compared with."""

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


SIGNIFICANT = f"Where the {resampling.LEVEL:.0%} interval in braces excludes zero:"


def metric_section(
    metric: str,
    rows: DataFrame,
    labels: Mapping[str, str],
    in_domain: str,
    other: str = PRETRAINED_MODEL,
    after: DataFrame | None = None,
    cannot_change: Collection[str] = (),
    is_open: bool = False,
    notes: Sequence[str] = (),
) -> list[PageSection]:
    """Return what one metric says: findings, a table of the domains, how to read it; and after temperature.

    Args:
        metric: its name.
        rows: its rows in a table of `nvreg.report.contrasts`.
        labels: headers of the columns of ``rows`` that label rows of the table, ``protocol`` among them.
        in_domain: name of the domain to mark as such.
        other: words for what the scores are compared with.
        after: the table after temperature, of all metrics that it changes; None where there is none.
        cannot_change: the methods no setting of which can change the metric.
        is_open: whether the section is unfolded at first.
        notes: what else is to be said of the table.
    """
    tempered = (
        None if after is None or metric not in after["metric"].array else after[after["metric"] == metric]
    )
    blocks = _told(metric, rows, labels, in_domain, tempered, cannot_change)
    if _shown(rows, labels)["low"].notna().any():
        blocks.append(_how_to_read(other))
    blocks += [*_too_few(rows), *notes]
    sections = [PageSection(f"{metric} ({_direction(metric)})", blocks, is_open)]
    if tempered is not None:
        told = _after_temperature(metric, tempered, {**labels, **METHOD}, in_domain, other)
        title = f"{metric} after temperature ({_direction(metric)})"
        sections.append(PageSection(title, told, is_open=False))
    return sections


def _direction(metric: str) -> str:
    return DIRECTIONS[METRICS[metric].higher_is_better]


def _how_to_read(other: str) -> str:
    return (
        f"In {{braces}} the {resampling.LEVEL:.0%} interval of the difference from the {other}, by paired "
        "bootstrap over examples with the choice repeated on every resample, of validation and test "
        "examples: it shows that many settings were tried. ✓ and ✗: it excludes zero, for the better or the "
        "worse. An upper bound has no such interval: in [brackets] its choice is taken as given. The csv has "
        "both intervals of every cell, and p, of a paired test of no difference in the printed score, "
        "corrected for the number of domains in the row, not for the number of rows."
    )


def _after_temperature(
    metric: str, rows: DataFrame, labels: Mapping[str, str], in_domain: str, other: str
) -> list[Block]:
    """Return what a metric says where all choices and what they are compared with are at temperatures."""
    names = [label for label in labels if label != "protocol"]
    ends = [
        f"{' '.join(map(str, name))} on {', '.join(cells['domain'].unique())}"
        for name, cells in rows[rows["end_of_list"].eq(True)].groupby(names, sort=False)
    ]
    wider = (
        f"Temperatures at the end of the list are chosen for {in_markdown('; '.join(ends))}: there, and "
        "where something is compared with these, a difference may come from the list alone. Try wider ones."
    )
    return [
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
    """Return the table of a metric's rows, and its findings by selection."""
    said: list[Block]
    if keeps_everywhere(rows):
        said = [f"Every selection {KEPT}."]
    elif found := findings(rows, labels, METRICS[metric].higher_is_better, after, cannot_change):
        said = [PageSection("By selection", [SIGNIFICANT, _bullets(found)], is_open=False, is_aside=True)]
    elif rows["protocol"].eq(PRETRAINED).all():
        said = ["No setting is measured yet."]
    else:
        said = ["Nothing but an upper bound is reported, which is no selection."]
    return [_scores(metric, _shown(rows, labels), labels, in_domain, cannot_change), *said]


def rivals_section(
    metric: str,
    rivals: DataFrame,
    labels: Mapping[str, str],
    in_domain: str,
    ours: str = "nv",
    after: DataFrame | None = None,
) -> PageSection:
    """Return what NV has over its rivals.

    Args:
        metric: the one they are compared by.
        rivals: the table of `nvreg.report.tables.rivals_table`.
        labels: headers of its columns that name a rival.
        in_domain: name of the domain to mark as such.
        ours: which NV it is.
        after: the same table after temperature; None where there is none.
    """
    direction, named = METRICS[metric].higher_is_better, in_markdown(ours)
    found = [f"{ours} against {each}" for each in findings(rivals, [*labels, "protocol"], direction, after)]
    blocks: list[Block] = [
        PageSection("By rival", [SIGNIFICANT, _bullets(found)], is_aside=True),
        f"Below, the score of {named} minus that of each rival, both chosen by the same rule: the mean over "
        "repetitions, paired by example. In {braces} its interval, by paired bootstrap over examples with "
        f"both choices repeated on every resample; ✓ and ✗: it excludes zero, and {named} is better or "
        "worse. rivals.csv has the scores, p, and the intervals that take both choices as given"
        + (", and rivals-after-temperature.csv the same after temperature." if after is not None else "."),
        *_too_few(rivals),
    ]
    for protocol, rows in with_decimals(rivals, [RESELECTED]).groupby("protocol", sort=False):
        body: list[list[str | Cell]] = [
            [*map(str, label), *_cells(gain_cell, cells, direction)]
            for label, cells in rows.groupby(list(labels), sort=False)
        ]
        header = [*labels.values(), *_domain_headers(rows, in_domain)]
        table = Table(header, body, len(labels))
        blocks.append(PageSection(f"Chosen by {protocol}: {ours} minus each", [table]))
    title = f"Would something else have done as well? {ours} against it: {metric} ({DIRECTIONS[direction]})"
    return PageSection(title, blocks, is_open=False)


def protocol_label(name: Any) -> str:
    """Return the name of a protocol, and whether it is an upper bound."""
    return f"{name} (upper bound)" if name in upper_bounds() else str(name)


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


def _too_few(rows: DataFrame) -> list[Block]:
    """Return which domains have too few examples for intervals, if any."""
    untold = rows["difference"].notna() & rows["low"].isna() & np.isfinite(rows["score"])
    if not (domains := rows.loc[untold, "domain"].unique().tolist()):
        return []
    return [
        f"{', '.join(domains)}: fewer than {resampling.FEWEST} test examples, so a difference has no "
        "interval, no p and no verdict."
    ]


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {in_markdown(sentence)}" for sentence in sentences)


def _scores(
    metric: str,
    rows: DataFrame,
    labels: Mapping[str, str],
    in_domain: str,
    cannot_change: Collection[str],
) -> Table:
    direction = METRICS[metric].higher_is_better
    costs = {name: header for name, header in COSTS.items() if name in rows and rows[name].notna().any()}
    body: list[list[str | Cell]] = [
        [
            *map(protocol_label, label),
            *_cells(partial(score_cell, cannot_change=cannot_change), cells, direction),
            *(_cost(name, cells[name].iloc[0]) for name in costs),
        ]
        for label, cells in with_decimals(rows).groupby(list(labels), sort=False)
    ]
    header = [*labels.values(), *_domain_headers(rows, in_domain), *costs.values()]
    return Table(header, body, len(labels))


def _cells(cell: Callable[..., Cell], rows: DataFrame, higher_is_better: bool | None) -> list[Cell]:
    told = zip(rows.to_dict("records"), tones(rows, higher_is_better), strict=True)
    return [cell(record, tone=tone) for record, tone in told]


def _domain_headers(rows: DataFrame, in_domain: str) -> list[str]:
    return [f"{domain} (in-domain)" if domain == in_domain else domain for domain in rows["domain"].unique()]


def _cost(name: str, cost: float) -> Cell:
    if math.isnan(cost):
        return Cell("")
    return Cell(f"{round(cost, 1):g}" if name == "tried" else time_text(cost), value=cost)
