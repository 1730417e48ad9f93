"""What all settings of a run did: changes in and out of domain, by parameter, and as the search went on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal, NamedTuple

import numpy as np
from markupsafe import Markup

from nvreg.document import Drawing, PageSection
from nvreg.methods import METHODS
from nvreg.metrics import METRICS
from nvreg.protocols import upper_bounds
from nvreg.report.analysis import Analysis
from nvreg.report.heads import heads_file, heads_plot
from nvreg.report.plot import (
    Axis,
    axis_label,
    axis_of,
    change_of,
    colours_of,
    figure,
    is_relative,
    joined,
    legend,
    lines,
    panels_of,
    plot,
    tick_text,
)
from nvreg.report.reading import Run
from nvreg.report.selection import setting_text
from nvreg.results import PRETRAINED_NUMBER

MEAN = "mean of all"
"""The name of the mean over domains."""

Split = Literal["validation", "test"]


class Point(NamedTuple):
    """A setting of a run.

    Attributes:
        trial: its number.
        method: its method.
        setting: its setting as text.
        values: the value of each of its parameters, by role; the mean where it differs by layer.
        test: the change on each domain's test set, as it is drawn.
        validation: the same on validation sets.
        chosen: what chose it, for which domains.
        is_selected: whether some of that is a selection, and no upper bound.
    """

    trial: int
    method: str
    setting: str
    values: Mapping[str, float]
    test: Mapping[str, float]
    validation: Mapping[str, float]
    chosen: Sequence[str]
    is_selected: bool


def explore(analysis: Analysis) -> PageSection | None:
    """Return the drawings of all settings of a run, or None where none is measured."""
    run = analysis.run
    points = list(points_of(analysis))
    if not points:
        return None
    drawings = [
        changes_plot(run, points),
        slices(run, points),
        progress_plot(run, points),
        *([heads_plot(run)] if heads_file(run).is_file() else []),
    ]
    return PageSection("Explore all settings", [each for each in drawings if each is not None])


def points_of(analysis: Analysis) -> Iterator[Point]:
    """Yield the completed settings of a run in the order of measuring."""
    run, metric = analysis.run, analysis.run.selection_metric
    chosen: dict[int, dict[str, list[str]]] = {}
    selected: set[int] = set()
    for arm, by_protocol in analysis.choices.items():
        for protocol, choice in by_protocol.items():
            for domain, pick in choice.items():
                for number in pick.trials if domain != run.in_domain or len(run.domains) == 1 else ():
                    name = f"{run.label(arm)}, {protocol}" if len(run.sweeps) > 1 else protocol
                    chosen.setdefault(number, {}).setdefault(name, []).append(domain)
                    if protocol not in upper_bounds():
                        selected.add(number)

    def changes(number: int, split: Split) -> dict[str, float]:
        found = {}
        for domain in run.domains_with(split):
            score, other = (run.score(each, domain, split, metric) for each in (number, PRETRAINED_NUMBER))
            found[domain] = change_of(metric, score - other, other)
        return found

    for number, trial in run.trials.items():
        if number != PRETRAINED_NUMBER:
            names = [f"{name} ({', '.join(domains)})" for name, domains in chosen.get(number, {}).items()]
            values = dict(_values(trial.settings))
            yield Point(
                number, trial.method, setting_text(trial, with_method=len(run.methods) > 1), values,
                changes(number, "test"), changes(number, "validation"), names, number in selected,
            )  # fmt: skip


def changes_plot(run: Run, points: Sequence[Point]) -> Drawing:
    """Draw the change in domain across, that out of domain up; better is right and up."""
    metric, better = run.selection_metric, METRICS[run.selection_metric].higher_is_better
    out = [name for name in run.domains_with("test") if name != run.in_domain]
    means = [_mean(point.test, out) for point in points]
    x = axis_of((point.test[run.in_domain] for point in points), is_reversed=better is False)
    all_changes = [point.test[name] for point in points for name in out] if len(out) > 1 else []
    y = axis_of([*means, *all_changes], is_reversed=better is not False)
    places = {
        name: [_place(y, _mean(point.test, of)) for point in points]
        for name, of in {MEAN: out, **({name: [name] for name in out} if len(out) > 1 else {})}.items()
    }
    colours = _colours(points)
    marks: list[Markup] = []
    names: list[Markup] = []
    order = sorted(range(len(points)), key=lambda at: points[at].test[run.in_domain])
    for at in order:
        point, place = points[at], places[MEAN][at]
        if place is None or not math.isfinite(point.test[run.in_domain]):
            continue
        tip = lines(
            [
                f"trial {point.trial}: {point.setting}",
                *(
                    f"{name} {tick_text(point.test[name])}{'%' if is_relative(metric) else ''}"
                    for name in run.domains_with("test")
                ),
                *(f"chosen by {each}" for each in point.chosen),
            ]
        )
        across = x.place(point.test[run.in_domain])
        marks.append(
            Markup(
                '<circle class="dot point{} c{}" data-at="{}" role="listitem" tabindex="-1" '
                'cx="{}%" cy="{}%" r="{}" data-tip="{}" aria-label="{}"/>'
            ).format(
                " chosen" if point.is_selected else "", colours[point.method], at,
                across, place, 7 if point.is_selected else 4.5, tip, tip.replace("\n", "; "),
            )
        )  # fmt: skip
        if point.is_selected:
            away = -10 if len(names) % 2 else 20
            names.append(
                Markup(
                    '<text class="name" data-at="{}" x="{}%" y="{}%" dy="{}" aria-hidden="true">{}</text>'
                ).format(at, across, place, away, point.trial)
            )
    label = axis_label(metric)
    title = f"Change in domain ({run.in_domain}) and out of domain, a point a setting; better is right and up"
    picture = plot(x, y, f"{label}, in domain", f"{label}, out of domain", joined([*marks, *names]), title)
    parameters = _parameters(points)
    data = Markup('<script type="application/json">{}</script>').format(_json(parameters))
    data += Markup('<script class="places" type="application/json">{}</script>').format(_json(places))
    caption = (
        "On test sets. Ringed, with its number: what a selection chose. Lines cross at the pretrained model."
    )
    attributes = Markup(" data-colours data-domains") if len(out) > 1 else Markup(" data-colours")
    return Drawing(figure(title, caption, picture + data, legend(colours), attributes))


def slices(run: Run, points: Sequence[Point]) -> Drawing | None:
    """Draw a panel for each parameter: its value across, the mean change out of domain up."""
    metric, better = run.selection_metric, METRICS[run.selection_metric].higher_is_better
    out = [name for name in run.domains_with("test") if name != run.in_domain]
    y = axis_of((_mean(point.test, out) for point in points), is_reversed=better is not False)
    panels = []
    for method in dict.fromkeys(point.method for point in points):
        of_method = [point for point in points if point.method == method]
        for name in dict.fromkeys(name for point in of_method for name in point.values):
            known = [(point, point.values[name]) for point in of_method if name in point.values]
            if len({value for _, value in known}) < 2:
                continue
            title = f"{method}: {name}" if len(run.methods) > 1 else name
            panels.append(_slice(title, method, name, known, y, out, axis_label(metric)))
    if not panels:
        return None
    caption = "Mean over the test sets out of domain, better is up; the line at 0 is the pretrained model."
    return Drawing(panels_of("By parameter", caption, panels))


def _slice(
    title: str,
    method: str,
    name: str,
    known: Sequence[tuple[Point, float]],
    y: Axis,
    out: Sequence[str],
    label: str,
) -> Markup:
    rule = METHODS[method].setting_type.parameters.get(name.split(" ")[0])
    values = [value for _, value in known]
    is_log = rule is not None and rule.logarithmic and min(values) > 0
    drawn = [math.log10(value) for value in values] if is_log else values
    reach = max(drawn) - min(drawn)
    x = Axis(min(drawn) - 0.04 * reach, max(drawn) + 0.04 * reach)
    marks = joined(
        Markup('<circle class="point c0" cx="{}%" cy="{}%" r="3.5"><title>{}</title></circle>').format(
            x.place(at),
            place,
            f"trial {point.trial}: {name} {value:.4g}, {tick_text(_mean(point.test, out))}",
        )
        for (point, value), at in zip(known, drawn, strict=True)
        if (place := _place(y, _mean(point.test, out))) is not None
    )
    ticks = [(f"{10**value:.2g}" if is_log else f"{value:.4g}", place) for value, place in x.ticks(4)]
    picture = plot(x, y, title, "", marks, f"{title} against the {label} out of domain", x_ticks=ticks)
    return Markup('<figure class="plot">{}</figure>').format(picture)


def progress_plot(run: Run, points: Sequence[Point]) -> Drawing | None:
    """Draw what each setting changed on validation sets in the order of the search, and the best so far."""
    metric, better = run.selection_metric, METRICS[run.selection_metric].higher_is_better
    validated = run.domains_with("validation")
    of = [name for name in validated if name != run.in_domain] or validated
    colours, by_trial = _colours(points), {point.trial: point for point in points}
    searches = {
        run.label(arm): [by_trial[number] for number in run.candidates(arm) if number in by_trial]
        for arm in run.sweeps
    }
    longest = max(map(len, searches.values()))
    if longest < 2:
        return None
    x = Axis(0, longest + 1)
    y = axis_of((_mean(point.validation, of) for point in points), is_reversed=better is not False)
    marks = []
    for found in searches.values():
        best, path = 0.0, []
        for place, point in enumerate(found, start=1):
            change = _mean(point.validation, of)
            if math.isfinite(change):
                tip = f"{place}: trial {point.trial}, {tick_text(change)}"
                marks.append(
                    Markup(
                        '<circle class="point c{}" cx="{}%" cy="{}%" r="3.5"><title>{}</title></circle>'
                    ).format(colours[point.method], x.place(place), y.place(change), tip)
                )
                best = min(best, change) if better is False else max(best, change)
            path.append((x.place(place), y.place(best)))
        if path:
            steps = f"M0 {y.place(0)}" + "".join(f"H{at}V{height}" for at, height in path) + "H100"
            marks.append(
                Markup(
                    '<svg viewBox="0 0 100 100" preserveAspectRatio="none" width="100%" height="100%">'
                    '<path class="step" vector-effect="non-scaling-stroke" '
                    'style="stroke:var(--c{})" d="{}"/></svg>'
                ).format(colours[found[0].method], steps)
            )
    where = "out of domain" if of != validated or len(of) > 1 else "in domain"
    title = (
        f"The search: change on validation sets {where}, in the order of trials; the line is the best so far"
    )
    picture = plot(x, y, "settings measured", axis_label(metric), joined(marks), title)
    caption = f"Mean over {', '.join(of)}; better is up. No test set is looked at."
    return Drawing(figure(title, caption, picture, legend(colours)))


def _values(settings: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the finite values of a setting by parameter and role."""
    for parameter, written in settings.items():
        for role, value in written.items() if isinstance(written, Mapping) else [("", written)]:
            each = np.asarray([float(one) for one in (value if isinstance(value, list) else [value])])
            if np.isfinite(each).any():
                yield f"{parameter} {role}".strip(), float(each[np.isfinite(each)].mean())


def _mean(changes: Mapping[str, float], names: Iterable[str]) -> float:
    known = [changes[name] for name in names if name in changes]
    return fmean(known) if known and np.isfinite(known).all() else math.nan


def _place(axis: Axis, value: float) -> float | None:
    return axis.place(value) if math.isfinite(value) else None


def _parameters(points: Sequence[Point]) -> dict[str, list[float | None]]:
    names = dict.fromkeys(name for point in points for name in point.values)
    return {
        name: [None if name not in point.values else float(f"{point.values[name]:.4g}") for point in points]
        for name in names
    }


def _colours(points: Sequence[Point]) -> dict[str, int]:
    return colours_of(point.method for point in points)


def _json(value: Any) -> Markup:
    """Return data that a script reads, without what could end its element."""
    return Markup(json.dumps(value).replace("<", r"\u003c").replace("&", r"\u0026"))
