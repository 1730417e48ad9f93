"""The forest plot of a page: what each selection changes on each domain, better on the right."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from pandas import DataFrame

from nvreg.document import SIGNS, Drawing, Tone
from nvreg.metrics import METRICS
from nvreg.protocols import upper_bounds
from nvreg.report.cells import (
    AS_CHOSEN,
    RESELECTED,
    facts,
    interval_text,
    keeps_pretrained,
    with_decimals,
)
from nvreg.report.choices import told_protocol
from nvreg.report.findings import tones
from nvreg.report.plot import Axis, axis_label, axis_of, bent_text, change_of, joined, lines, tick_text
from nvreg.results import PRETRAINED
from nvreg.rounding import number_text

MANY = 80
"""The most rows that are all shown at first; of more, those of the selection that the verdict tells of."""

LABELS = {"protocol": "selection", "method": "method", "run": "run"}
"""The columns that tell rows of a domain apart, and words for them."""


class Line(NamedTuple):
    """A row of the plot.

    Attributes:
        labels: protocol, domain and, where they differ, method and run.
        name: what tells it from the others of its domain.
        tone: whether it is known to be better or worse.
        is_kept: whether the selection keeps the pretrained model.
        change: the change as it is drawn.
        reselected: the interval that repeats the choice; NaN without.
        as_chosen: the interval that takes the choice as given.
        numbers: the difference and its interval, as the tables have them.
        tip: all there is to know of it, in lines.
    """

    labels: Mapping[str, str]
    name: str
    tone: Tone
    is_kept: bool
    change: float
    reselected: tuple[float, float]
    as_chosen: tuple[float, float]
    numbers: str
    tip: str


def forest_lines(metric: str, rows: DataFrame, examples: Mapping[str, int]) -> list[Line]:
    """Return the rows of the plot, domain by domain in the order of the table.

    Args:
        metric: whose changes are drawn.
        rows: a table of `nvreg.report.contrasts`, of which the rows without a difference are left out.
        examples: how many test examples each domain has.
    """
    shown = rows[rows["metric"].eq(metric)]
    labels = [name for name in LABELS if name in shown]
    told = []
    for _, cells in with_decimals(shown).groupby([*labels], sort=False):
        higher_is_better = METRICS[metric].higher_is_better
        marks = zip(tones(cells, higher_is_better), keeps_pretrained(cells), strict=True)
        told += [
            (record, tone, bool(kept))
            for record, (tone, kept) in zip(cells.to_dict("records"), marks, strict=True)
            if not math.isnan(record["difference"])
        ]
    telling = [
        name
        for name in labels
        if name == "protocol" or len({record[name] for record, *_ in told} - {PRETRAINED}) > 1
    ]
    domains = [str(domain) for domain in shown["domain"].unique()]
    told.sort(key=lambda each: domains.index(str(each[0]["domain"])))
    return [_line(metric, record, tone, kept, telling, examples) for record, tone, kept in told]


def forest(
    metric: str,
    rows: DataFrame,
    in_domain: str,
    examples: Mapping[str, int],
    other: str = "pretrained model",
) -> Drawing | None:
    """Return the plot, or None where there is nothing to compare, or neither direction is better.

    Args:
        metric: whose changes are drawn.
        rows: a table of `nvreg.report.contrasts`.
        in_domain: the name of the domain that the model was tuned on.
        examples: how many test examples each domain has.
        other: words for what scores are compared with.
    """
    found = forest_lines(metric, rows, examples)
    if not found or METRICS[metric].higher_is_better is None:
        return None
    axis = forest_axis(metric, found)
    body, place = [], 0
    for domain in dict.fromkeys(line.labels["domain"] for line in found):
        of_domain = [line for line in found if line.labels["domain"] == domain]
        where = "in domain" if domain == in_domain else "out of domain"
        count = f", {examples[domain]} examples" if domain in examples else ""
        head = Markup(
            '<g class="row domain" data-domain="{}" style="--i:{}">'
            '<text class="label" dy=".35em">{} <tspan>({}{})</tspan></text></g>'
        )
        body.append(head.format(domain, place, domain, where, count))
        for line in of_domain:
            place += 1
            body.append(_drawn(line, axis, place))
        place += 1
    named = f"{METRICS[metric].name}: change from the {other} on each test set, better on the right"
    svg = Markup(
        '<svg class="rows" role="list" data-marks aria-label="{}">{}{}</svg>'
    ).format(named, _scale(axis, metric), joined(body))  # fmt: skip
    caption = (
        "Thick: the interval that repeats the choice. Thin: the same with the choice taken as given. Blue "
        "and ✓: better, orange and ✗: worse, as the thick one excludes zero. Hollow: the pretrained model "
        "is kept, or an upper bound, which is no selection."
    ) + bent_text(across=axis)
    head = Markup("<figcaption><b>{}</b>. {}</figcaption>").format(named, caption)
    longest, menus = max(len(line.name) for line in found), json.dumps(_menus(found))
    return Drawing(
        Markup(
            '<figure class="forest" style="--rows:{};--longest:{}" data-labels="{}">{}'
            '<div class="controls"></div>{}</figure>'
        ).format(place, longest, menus, head, svg)
    )


def forest_axis(metric: str, found: list[Line]) -> Axis:
    """Return the axis of some rows; intervals that are far longer than most are cut."""
    ends = np.array([end for line in found for end in (line.change, *line.reselected, *line.as_chosen)])
    ends = ends[np.isfinite(ends)]
    if ends.size:
        most = 3 * float(np.quantile(np.abs(ends), 0.9))
        changes = np.array([line.change for line in found])
        most = max(most, 1.2 * float(np.abs(changes[np.isfinite(changes)]).max(initial=0)))
        ends = np.clip(ends, -most, most)
    return axis_of(ends.tolist(), is_reversed=METRICS[metric].higher_is_better is False)


def _line(
    metric: str,
    record: Mapping[Any, Any],
    tone: Tone,
    kept: bool,
    telling: list[str],
    examples: Mapping[str, int],
) -> Line:
    other = record["score"] - record["difference"]

    def ends(which: str) -> tuple[float, float]:
        low, high = (change_of(metric, record[f"{end}{which}"], other) for end in ("low", "high"))
        return low, high

    labels = {name: str(record[name]) for name in ("domain", *telling)}
    name = " · ".join(labels[label] for label in telling)
    decimals, domain = record["decimals"], str(record["domain"])
    numbers = f"{number_text(record['difference'], decimals, '+')} {interval_text(record)}"
    if kept:
        numbers = PRETRAINED
    tip = [
        f"{name} on {domain}",
        f"{metric} {number_text(record['score'], decimals)}, compared with {number_text(other, decimals)}",
        *([f"keeps the {PRETRAINED} model"] if kept else facts(record)),
        f"{examples[domain]} test examples" if domain in examples else "",
    ]
    return Line(
        labels,
        name,
        tone,
        kept,
        change_of(metric, record["difference"], other),
        ends(RESELECTED),
        ends(AS_CHOSEN),
        numbers,
        lines(tip),
    )


def _menus(found: list[Line]) -> list[tuple[str, str, str]]:
    """Return the labels that rows are left out by, words for them, and the value that is shown at first."""
    menus = []
    for label, words in LABELS.items():
        values = list(dict.fromkeys(line.labels[label] for line in found if label in line.labels))
        if len(values) > 1:
            menus.append(
                (label, words, told_protocol(values) if label == "protocol" and len(found) > MANY else "")
            )
    return menus


def _scale(axis: Axis, metric: str) -> Markup:
    marks = joined(
        Markup(
            '<line class="{}" x1="{}%" x2="{}%" y1="1.6em" y2="100%"/><text x="{}%" y="1em">{}</text>'
        ).format("grid" if value else "zero", place, place, place, tick_text(value))
        for value, place in axis.ticks()
    )
    return Markup(
        '<g class="axis" aria-hidden="true">{}<text x="0" y="100%" dy="1.3em" class="first">◂ worse</text>'
        '<text x="50%" y="100%" dy="1.3em" class="what">{}</text>'
        '<text x="100%" y="100%" dy="1.3em" class="last">better ▸</text></g>'
    ).format(marks, axis_label(metric))


def _drawn(line: Line, axis: Axis, place: int) -> Markup:
    is_bound = line.labels["protocol"] in upper_bounds()
    classes = ["row", line.tone, "kept" if line.is_kept else "", "bound" if is_bound else ""]
    data = joined(Markup(' data-{}="{}"').format(name, value) for name, value in line.labels.items())
    bars = _bar("thin", line.as_chosen, axis) + _bar("thick", line.reselected, axis)
    return Markup(
        '<g class="{}" role="listitem" tabindex="-1" style="--i:{}" data-tip="{}" aria-label="{}"{}>'
        '<rect class="hit"/><text class="label" dy=".35em">{}</text>'
        '<g class="bars">{}<circle class="dot" cx="{}%" r="4.5"/></g>'
        '<text class="numbers" x="100%" dy=".35em">{} {}</text></g>'
    ).format(
        " ".join(filter(None, classes)), place, line.tip, line.tip.replace("\n", "; "), data, line.name,
        bars, axis.place(line.change), line.numbers, SIGNS[line.tone],
    )  # fmt: skip


def _bar(kind: str, ends: tuple[float, float], axis: Axis) -> Markup:
    if any(map(math.isnan, ends)):
        return Markup("")
    first, last = map(axis.place, ends)
    cuts = joined(
        Markup('<text class="cut" x="{}%" dy=".35em" text-anchor="middle">{}</text>').format(
            axis.place(end), "▸" if axis.place(end) > 50 else "◂"
        )
        for end in ends
        if not axis.has(end)
    )
    return Markup('<line class="{}" x1="{}%" x2="{}%"/>{}').format(kind, first, last, cuts)
