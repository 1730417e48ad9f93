"""What all settings did: changes in and out of domain, by parameter, and as the search went on."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from nvreg.document import Drawing, PageSection
from nvreg.methods import METHODS
from nvreg.report.heads import heads_plots
from nvreg.report.plot import (
    Axis,
    axis_label,
    axis_of,
    bent_text,
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
from nvreg.report.points import Cloud, Point, mean_change

MEAN = "mean of all"
"""The name of the mean over domains."""

NUMBERED = 24
"""The most chosen points that have their number beside them: of more, numbers would cover each other."""

MOST_DRAWN = 1200
"""The most points that are drawn; of more, all that a selection chose and an even share of the rest."""


def explore(cloud: Cloud) -> PageSection | None:
    """Return the drawings of all settings of a run or several, or None where none is measured."""
    if not cloud.points:
        return None
    drawings = [changes_plot(cloud), slices(cloud), progress_plot(cloud), *heads_plots(cloud)]
    return PageSection("Explore all settings", [each for each in drawings if each is not None])


def changes_plot(cloud: Cloud) -> Drawing | None:
    """Draw the change in domain across, that out of domain up; better is right and up."""
    metric, home, out = cloud.metric, cloud.in_domain, cloud.out_of_domain("test")
    if home not in cloud.scored["test"] or not out:
        return None
    points = _thinned(cloud.points)
    means = [mean_change(point.test, out) for point in points]
    x = axis_of((point.test[home] for point in points), is_reversed=cloud.is_reversed)
    all_changes = [point.test[name] for point in points for name in out] if len(out) > 1 else []
    y = axis_of([*means, *all_changes], is_reversed=not cloud.is_reversed)
    of_names = {MEAN: out, **({name: [name] for name in out} if len(out) > 1 else {})}
    places = {
        name: [_place(y, mean_change(point.test, of)) for point in points] for name, of in of_names.items()
    }
    colours = colours_of(map(_first, cloud.points))
    percent = "%" if is_relative(metric) else ""
    has_numbers = sum(point.is_selected for point in points) <= NUMBERED
    marks: list[Markup] = []
    names: list[Markup] = []
    taken = [
        (x.place(point.test[home]), place)
        for point, place in zip(points, places[MEAN], strict=True)
        if point.is_selected and place is not None
    ]
    for at in sorted(range(len(points)), key=lambda at: points[at].test[home]):
        point, place = points[at], places[MEAN][at]
        if place is None or not math.isfinite(point.test[home]):
            continue
        changes = (f"{name} {tick_text(point.test[name])}{percent}" for name in cloud.scored["test"])
        chosen = (f"chosen by {each}" for each in point.chosen)
        tip = lines([f"{point.name}: {point.setting}", *changes, *chosen])
        across = x.place(point.test[home])
        marks.append(
            Markup(
                '<circle class="dot point{} c{}" data-at="{}" role="listitem" tabindex="-1" '
                'cx="{}%" cy="{}%" r="{}" data-tip="{}" aria-label="{}"/>'
            ).format(
                " chosen" if point.is_selected else "", colours[_first(point)], at,
                across, place, 7 if point.is_selected else 4.5, tip, tip.replace("\n", "; "),
            )
        )  # fmt: skip
        if point.is_selected and has_numbers and (away := _free_side(across, place, taken)):
            names.append(
                Markup(
                    '<text class="name" data-at="{}" x="{}%" y="{}%" dy="{}" aria-hidden="true">{}</text>'
                ).format(at, across, place, away, point.trial)
            )
    label = axis_label(metric)
    title = f"Change in domain ({home}) and out of domain, a point a setting; better is right and up"
    picture = plot(x, y, f"{label}, in domain", f"{label}, out of domain", joined([*marks, *names]), title)
    data = _data("labels", _labels(points)) + _data("parameters", _parameters(points))
    if len(out) > 1:
        data += _data("places", places)
    left_out = len(cloud.points) - len(points)
    caption = (
        f"On test sets. Ringed{', with its number if there is room' * has_numbers}: what a selection chose. "
        "Lines cross at "
        f"the {'pretrained model, each run at its own' if len(cloud.groups) > 1 else 'pretrained model'}."
        + (
            f" {left_out} of {len(cloud.points)} settings that no selection chose are left out."
            * bool(left_out)
        )
    )
    caption += bent_text(across=x, up=y)
    attributes = Markup(" data-colours data-domains") if len(out) > 1 else Markup(" data-colours")
    return Drawing(figure(title, caption, picture + data, legend(colours), attributes))


def slices(cloud: Cloud) -> Drawing | None:
    """Draw a panel for each parameter: its value across, the mean change out of domain up."""
    out = cloud.out_of_domain("test")
    y = axis_of((mean_change(point.test, out) for point in cloud.points), is_reversed=not cloud.is_reversed)
    panels = []
    for method in cloud.methods:
        of_method = [point for point in _thinned(cloud.points) if point.labels["method"] == method]
        for name in dict.fromkeys(name for point in of_method for name in point.values):
            known = [(point, point.values[name]) for point in of_method if name in point.values]
            if len({value for _, value in known}) > 1:
                panels.append(_slice(cloud, method, name, known, y, out))
    if not panels or not out:
        return None
    caption = "Mean over the test sets out of domain, better is up; the line at 0 is the pretrained model."
    caption += bent_text(up=y)
    colours = colours_of(map(_first, cloud.points))
    key = legend(colours) if len(cloud.groups) > 1 else Markup("")
    return Drawing(panels_of("By parameter", caption, panels, key))


def _slice(
    cloud: Cloud,
    method: str,
    name: str,
    known: Sequence[tuple[Point, float]],
    y: Axis,
    out: Sequence[str],
) -> Markup:
    title = f"{method}: {name}" if len(cloud.methods) > 1 else name
    rule = METHODS[method].setting_type.parameters.get(name.split(" ")[0])
    values = [value for _, value in known]
    is_log = rule is not None and rule.logarithmic and min(values) > 0
    drawn = [math.log10(value) for value in values] if is_log else values
    reach = max(drawn) - min(drawn)
    x = Axis(min(drawn) - 0.04 * reach, max(drawn) + 0.04 * reach)
    colours = colours_of(map(_first, cloud.points))
    by_run = len(cloud.groups) > 1
    marks = joined(
        Markup('<circle class="point c{}" cx="{}%" cy="{}%" r="3.5"><title>{}</title></circle>').format(
            colours[_first(point)] if by_run else 0,
            x.place(at),
            place,
            f"{point.name}: {name} {value:.4g}, {tick_text(mean_change(point.test, out))}",
        )
        for (point, value), at in zip(known, drawn, strict=True)
        if (place := _place(y, mean_change(point.test, out))) is not None
    )
    found = x.ticks(4)
    texts = _distinct([10**value if is_log else value for value, _ in found], digits=2 if is_log else 4)
    ticks = [(text, place) for text, (_, place) in zip(texts, found, strict=True)]
    named = f"{title} against the {axis_label(cloud.metric)} out of domain"
    return Markup('<figure class="plot">{}</figure>').format(
        plot(x, y, title, "", marks, named, x_ticks=ticks)
    )


def progress_plot(cloud: Cloud) -> Drawing | None:
    """Draw what each setting changed on validation sets in the order of the search, and the best so far."""
    validated = cloud.scored["validation"]
    of = cloud.out_of_domain("validation") or validated
    searches = cloud.searches
    longest = max(map(len, searches.values()))
    if longest < 2 or not of:
        return None
    colours = colours_of(map(_first, cloud.points))
    x = Axis(0, longest + 1)
    changes = (mean_change(point.validation, of) for point in cloud.points)
    y = axis_of(changes, is_reversed=not cloud.is_reversed)
    marks = []
    for name, found in searches.items():
        best, path = 0.0, []
        for place, point in enumerate(found, start=1):
            change = mean_change(point.validation, of)
            if math.isfinite(change):
                tip = f"{name}, {place}: {point.name}, {tick_text(change)}"
                marks.append(
                    Markup(
                        '<circle class="point c{}" cx="{}%" cy="{}%" r="3.5"><title>{}</title></circle>'
                    ).format(colours[_first(point)], x.place(place), y.place(change), tip)
                )
                best = min(best, change) if cloud.is_reversed else max(best, change)
            path.append((x.place(place), y.place(best)))
        if path:
            steps = f"M0 {y.place(0)}" + "".join(f"H{at}V{height}" for at, height in path) + "H100"
            marks.append(
                Markup(
                    '<svg viewBox="0 0 100 100" preserveAspectRatio="none" width="100%" height="100%">'
                    '<path class="step" vector-effect="non-scaling-stroke" '
                    'style="stroke:var(--c{})" d="{}"/></svg>'
                ).format(colours[_first(found[0])], steps)
            )
    where = "out of domain" if of != validated or len(of) > 1 else "in domain"
    title = (
        f"The search: change on validation sets {where}, in the order of trials; the line is the best so far"
    )
    picture = plot(x, y, "settings measured", axis_label(cloud.metric), joined(marks), title)
    caption = f"Mean over {', '.join(of)}; better is up. No test set is looked at.{bent_text(up=y)}"
    return Drawing(figure(title, caption, picture, legend(colours)))


def _free_side(across: float, up: float, taken: list[tuple[float, float]]) -> int:
    """Return how far below a point its number has room, negative above, and take it; 0 where it has none."""
    for away, height in ((20, up + 6), (-10, up - 5)):
        if all(abs(across - x) >= 2.5 or abs(height - y) >= 5 for x, y in taken):
            taken.append((across, height))
            return away
    return 0


def _distinct(values: Sequence[float], digits: int) -> list[str]:
    """Return values as texts with so many significant digits, or as many as tell them apart."""
    for more in range(digits, 9):
        texts = [f"{value:.{more}g}" for value in values]
        if len(set(texts)) == len(texts):
            break
    return texts


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Return about `MOST_DRAWN` points at most: all that a selection chose, and an even share of the rest."""
    others = sum(not point.is_selected for point in points)
    step = max(1, math.ceil(others / max(1, MOST_DRAWN - (len(points) - others))))
    places = iter(range(others))
    return [point for point in points if point.is_selected or next(places) % step == 0]


def _place(axis: Axis, value: float) -> float | None:
    return axis.place(value) if math.isfinite(value) else None


def _parameters(points: Sequence[Point]) -> dict[str, list[float | None]]:
    names = dict.fromkeys(name for point in points for name in point.values)
    return {
        name: [None if name not in point.values else float(f"{point.values[name]:.4g}") for point in points]
        for name in names
    }


def _labels(points: Sequence[Point]) -> dict[str, list[str]]:
    """Return the labels that points differ in, and the first, by which they are coloured at first."""
    names = list(points[0].labels)
    found = {name: [point.labels[name] for point in points] for name in names}
    return {name: values for name, values in found.items() if name == names[0] or len(set(values)) > 1}


def _first(point: Point) -> str:
    return next(iter(point.labels.values()))


def _data(name: str, value: Any) -> Markup:
    """Return data that a script reads, without what could end its element."""
    written = Markup(json.dumps(value).replace("<", r"\u003c").replace("&", r"\u0026"))
    return Markup('<script class="{}" type="application/json">{}</script>').format(name, written)
