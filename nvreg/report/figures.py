"""Figures: what each setting changes in domain and out of domain, where, and the scores of several runs."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from nvreg.metrics import METRICS
from nvreg.parameters import ROLES
from nvreg.protocols import upper_bounds
from nvreg.report.analysis import Analysis
from nvreg.report.choices import told_protocol
from nvreg.report.forest import Line, forest_axis, forest_lines
from nvreg.report.plot import axis_label, linear_middle, tick_text
from nvreg.report.reading import Run
from nvreg.report.sections import DIRECTIONS
from nvreg.report.selection import ProtocolChoice
from nvreg.results import PRETRAINED, PRETRAINED_NUMBER
from nvreg.text import in_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES = (
    ("#0072B2", "o"),
    ("#E69F00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#56B4E9", "v"),
    ("#D55E00", "P"),
    ("#000000", "X"),
)
"""Colours of Okabe & Ito (2008), told apart with every common colour blindness, and shapes for grey."""

COLUMN, WIDE = 3.3, 6.8
"""The width of a column of a paper, and of its text, in inches."""

SIZE, SMALL = 7, 6
"""Sizes of text in points."""

TALLEST = 50
"""The most lines of a forest plot that fit on a page of a paper; of more, one selection is drawn."""

DPI = 300

MARKS = (("#000000", "*"), *STYLES)
"""The styles of the models as they came, which are first, and of protocols."""

RINGS = {"chosen (trial)": "solid", "upper bound only": "dotted"}
"""The lines around chosen points, by what chose them."""


def changes_figure(analysis: Analysis, method: str) -> "Figure":
    """Draw one point for each setting of a method and out-of-domain test set; the origin is pretrained.

    Points that a protocol chose, with any seed, are ringed and carry the trial's number. An axis on which a
    destroyed model would squash all others is logarithmic outside a linear middle.
    """
    from matplotlib.figure import Figure

    run, choices = analysis.run, analysis.choices
    arms = [arm for arm in run.sweeps if arm.method == method]
    numbers = sorted({number for arm in arms for number in run.candidates(arm)} - {PRETRAINED_NUMBER})
    points = _points(run, numbers, [choices[arm] for arm in arms if arm in choices])
    figure = Figure(figsize=(COLUMN, 0.9 * COLUMN), layout="constrained", dpi=DPI)
    axes = figure.add_subplot()
    for domain, (colour, marker) in zip(run.out_of_domain, cycle(STYLES), strict=False):
        x, y = points.loc[points["domain"] == domain, ["x", "y"]].to_numpy().T
        axes.scatter(x, y, c=colour, marker=marker, s=12, alpha=0.75, linewidth=0, label=domain, zorder=3)
    _ring(axes, points)
    axes.scatter(0, 0, s=50, c="black", marker="*", label="pretrained", zorder=5)
    axes.tick_params(labelsize=SMALL)
    direction = METRICS[run.selection_metric].higher_is_better
    change, better = f"change in {run.selection_metric}", DIRECTIONS[direction]
    axes.set_xlabel(
        f"{change} on {run.in_domain} (in domain; {better}{_scale(axes, 'x', points['x'])})", size=SMALL
    )
    axes.set_ylabel(f"{change} out of domain\n({better}{_scale(axes, 'y', points['y'])})", size=SMALL)
    _shade(axes, max if direction else min)
    drawn, tried = points["trial"].nunique(), len(numbers)
    left_out = f" ({tried - drawn} more are not finite)" if drawn < tried else ""
    of = f" of {method}" if len(run.methods) > 1 else ""
    title = f"{in_figure(run.experiment.name)}: test sets, {drawn} settings{of}{left_out}"
    axes.set_title(title, loc="left", size=SIZE)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=SMALL)
    return figure


def forest_figure(metric: str, rows: pd.DataFrame, in_domain: str, examples: Mapping[str, int]) -> "Figure":
    """Draw what each selection changes on each domain, better on the right whatever the metric's direction.

    Thick bars are the intervals that repeat the choice, thin ones take it as given. Hollow marks keep the
    pretrained model, or are upper bounds, which are no selections. Where not all selections fit on a page,
    only the one is drawn that the verdict tells of.

    Args:
        metric: whose changes are drawn.
        rows: a table of `nvreg.report.contrasts`.
        in_domain: name of the domain to mark as such.
        examples: how many test examples each domain has.
    """
    from matplotlib.figure import Figure

    found = forest_lines(metric, rows, examples)
    domains = list(dict.fromkeys(line.labels["domain"] for line in found))
    if len(found) + len(domains) > TALLEST:
        told = told_protocol(line.labels["protocol"] for line in found)
        found = [line for line in found if line.labels["protocol"] == told]
    axis = forest_axis(metric, found)
    lines: list[str | Line] = []
    for domain in domains:
        lines += [domain, *(line for line in found if line.labels["domain"] == domain)]
    figure = Figure(figsize=(COLUMN, 0.7 + 0.125 * len(lines)), layout="constrained", dpi=DPI)
    axes = figure.add_subplot()
    for place, line in enumerate(lines):
        if isinstance(line, str):
            continue
        colour = {"better": STYLES[0][0], "worse": STYLES[5][0], "": "0.35"}[line.tone]
        for ends, width, alpha in ((line.as_chosen, 0.7, 0.8), (line.reselected, 3, 0.45)):
            axes.plot(np.clip(ends, axis.low, axis.high), [place] * 2, color=colour, lw=width, alpha=alpha)
        is_hollow = line.is_kept or line.labels["protocol"] in upper_bounds()
        dot = np.clip(line.change, axis.low, axis.high)
        axes.plot(dot, place, "o", ms=3, mew=0.7, color=colour, mfc="white" if is_hollow else colour)
    axes.axvline(0, color="0.4", lw=0.8, zorder=1)
    names = [
        f"{in_figure(line)}{' (in domain)' if line == in_domain else ''}"
        if isinstance(line, str)
        else in_figure(line.name)
        for line in lines
    ]
    axes.set_yticks(range(len(lines)), names, size=SMALL)
    for label, line in zip(axes.get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if isinstance(line, str) else "normal")
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=SMALL)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    if axis.is_bent:
        axes.set_xscale("symlog", linthresh=axis.middle, linscale=2)
    ends = (axis.low, axis.high)
    axes.set_xlim(*(ends[::-1] if axis.is_reversed else ends))
    bent = f"; log beyond {axis.middle:g}" if axis.is_bent else ""
    ticks = [value for value, _ in axis.ticks(5, apart=20)]
    axes.set_xticks(ticks, [tick_text(value) for value in ticks])
    axes.minorticks_off()
    figure.supxlabel(f"{axis_label(metric)}\n(better on the right{bent})", size=SMALL)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    return figure


def layers_figure(run: Run, rows: pd.DataFrame) -> "Figure":
    """Draw a row of panels for each parameter and value, a panel a role, a line a domain over the layers.

    Bars are the intervals of the table. A row on which a destroyed model would squash all others is
    logarithmic outside a linear middle.

    Args:
        run: where the rows are from.
        rows: those of one method in the table of `nvreg.report.layers.layers_table`.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    roles = [role for role in ROLES if role in set(rows["role"])]
    changes = list(rows.groupby(["parameter", "value"], sort=False))
    size = (min(WIDE, 1.2 + 2 * len(roles)), 0.9 + 1.3 * len(changes))
    figure = Figure(figsize=size, layout="constrained", dpi=DPI)
    panels = figure.subplots(len(changes), len(roles), squeeze=False, sharey="row", sharex="col")
    domains = rows["domain"].unique()
    styles = dict(zip(domains, (MARKS[0], *islice(cycle(STYLES), len(domains) - 1)), strict=True))
    for line, ((parameter, value), of_value) in zip(panels, changes, strict=True):
        finite = of_value[np.isfinite(of_value["difference"])]
        for axes, role in zip(line, roles, strict=True):
            for place, (domain, (colour, marker)) in enumerate(styles.items()):
                cells = finite[(finite["role"] == role) & (finite["domain"] == domain)]
                bars = np.abs(cells[["low", "high"]].sub(cells["difference"], axis=0)).fillna(0).to_numpy().T
                axes.errorbar(
                    cells["layer"] + 0.12 * (place - (len(styles) - 1) / 2), cells["difference"], yerr=bars,
                    fmt=f"{marker}-", color=colour, ms=2.5, lw=0.6, elinewidth=0.5, label=domain,
                )  # fmt: skip
            axes.axhline(0, color="0.4", lw=0.8, zorder=1)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.tick_params(labelsize=SMALL)
        scales = [_scale(axes, "y", finite["difference"]) for axes in line]
        line[0].set_ylabel(f"{parameter} {value:g}{scales[0]}", size=SMALL)
    for axes, role in zip(panels[0], roles, strict=True):
        axes.set_title(role, size=SIZE)
    better = DIRECTIONS[METRICS[run.selection_metric].higher_is_better]
    figure.supylabel(f"change in {run.selection_metric} ({better})", size=SMALL)
    figure.supxlabel(f"{in_figure(run.experiment.name)}: the one layer that is changed, from 0", size=SMALL)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=SMALL)
    return figure


def overview_figure(table: pd.DataFrame, metric: str, in_domain: str) -> "Figure":
    """Draw a panel a domain, a line a run and method, and a mark for what each protocol chose.

    Bars reach one standard deviation over repetitions to either side. A vertical line is at the first model,
    as it came. Upper bounds, which are no selection, are left out.

    Args:
        table: the table ``combined`` of `nvreg.report.comparison.combine`.
        metric: which of its metrics to draw.
        in_domain: name of the domain to mark as such.
    """
    from matplotlib.figure import Figure

    shown = table[(table["metric"] == metric) & ~table["protocol"].isin(upper_bounds())].dropna(
        subset="score"
    )
    names = shown["run"].where(shown["method"] == PRETRAINED, shown["run"] + " + " + shown["method"])
    rows, runs = shown.assign(line=names), list(shown["run"].unique())
    places = rows.drop_duplicates("line").sort_values(
        "run", key=lambda run: run.map(runs.index), kind="stable"
    )
    lines, domains, protocols = list(places["line"]), list(rows["domain"].unique()), rows["protocol"].unique()
    figure = Figure(figsize=(WIDE, 0.9 + 0.22 * len(lines)), layout="constrained", dpi=DPI)
    panels = figure.subplots(1, len(domains), sharey=True, squeeze=False)[0]
    for axes, domain in zip(panels, domains, strict=True):
        cells = rows[rows["domain"] == domain]
        for place, (protocol, style) in enumerate(zip(protocols, cycle(MARKS), strict=False)):
            chosen, (colour, marker) = cells[cells["protocol"] == protocol], style
            below = 0.16 * (place - len(protocols) / 2) if place else 0
            heights = [lines.index(line) + below for line in chosen["line"]]
            bars = chosen["deviation"].fillna(0)
            axes.errorbar(
                chosen["score"], heights, xerr=bars, fmt=marker, color=colour, ms=2.5, lw=0.6, label=protocol
            )
        axes.axvline(cells.loc[cells["line"] == lines[0], "score"].iloc[0], color="0.6", lw=0.8, zorder=0)
        axes.set_title(f"{domain} (in domain)" if domain == in_domain else domain, size=SIZE)
        axes.tick_params(labelsize=SMALL)
    panels[0].set_yticks(range(len(lines)), map(in_figure, lines), size=SMALL)
    panels[0].invert_yaxis()
    direction = DIRECTIONS[METRICS[metric].higher_is_better]
    figure.supxlabel(
        f"{metric} on test sets ({direction}); mean ± standard deviation of repetitions", size=SMALL
    )
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=SMALL)
    return figure


def _points(
    run: Run, numbers: Sequence[int], choices: Sequence[Mapping[str, ProtocolChoice]]
) -> pd.DataFrame:
    """Return trial, domain, x (change in domain), y (change on the domain) and ring, where all is finite."""

    def score(number: int, domain: str) -> float:
        return run.score(number, domain, "test", run.selection_metric)

    def ring(number: int, domain: str) -> str | None:
        by = {
            protocol
            for by_protocol in choices
            for protocol, choice in by_protocol.items()
            if domain in choice and number in choice[domain].trials
        }
        honest, upper_bound = RINGS
        return honest if by - upper_bounds() else upper_bound if by else None

    rows, scored = [], run.domains_with("test")
    for number in numbers:
        changes = {domain: score(number, domain) - score(PRETRAINED_NUMBER, domain) for domain in scored}
        if np.isfinite(list(changes.values())).all():
            rows += [
                (number, domain, changes[run.in_domain], changes[domain], ring(number, domain))
                for domain in scored[1:]
            ]
    return pd.DataFrame(rows, columns=["trial", "domain", "x", "y", "ring"])


def _ring(axes: "Axes", points: pd.DataFrame) -> None:
    """Mark the points that a protocol chose, and number them."""
    for ring, line in RINGS.items():
        x, y = points.loc[points["ring"] == ring, ["x", "y"]].to_numpy().T
        if x.size:
            axes.scatter(
                x,
                y,
                s=45,
                linewidth=0.7,
                facecolors="none",
                edgecolors="black",
                linestyle=line,
                label=ring,
                zorder=4,
            )
    ringed = points.dropna(subset="ring").sort_values("x")
    # Neighbours' numbers stay apart: above the highest ring, below the lowest, and so on.
    sides = cycle(((max, 4), (min, -9)))
    for (trial, rows), (extreme, away) in zip(ringed.groupby("trial", sort=False), sides, strict=False):
        place = (rows["x"].iloc[0], extreme(rows["y"]))
        axes.annotate(
            str(trial), place, (0, away), textcoords="offset points", ha="center", fontsize=SMALL, zorder=6
        )


def _scale(axes: "Axes", name: Literal["x", "y"], changes: pd.Series) -> str:
    """Make the axis logarithmic away from most changes if few are far off; return how to say so."""
    from matplotlib.ticker import FixedLocator

    axis = axes.xaxis if name == "x" else axes.yaxis
    middle = linear_middle(changes.to_list())
    squashed = not math.isinf(middle)
    if squashed:
        getattr(axes, f"set_{name}scale")("symlog", linthresh=middle, linscale=2)
        ticks = middle * np.array([0.5, 1, 4, 10, 40, 100, 400, 1000])
        axis.set_major_locator(FixedLocator([*-ticks, 0, *ticks]))
        axis.set_minor_locator(FixedLocator([]))
    axis.set_major_formatter(lambda value, _: f"{value:+g}" if value else "0")
    return f"; log beyond {middle:g}" if squashed else ""


def _shade(axes: "Axes", towards: Callable[[tuple[float, float]], float]) -> None:
    """Shade the quadrant that is better both in and out of domain."""
    x, y = axes.get_xlim(), axes.get_ylim()
    axes.axhline(0, color="0.4", linewidth=0.8, zorder=1)
    axes.axvline(0, color="0.4", linewidth=0.8, zorder=1)
    axes.fill_between(
        [0, towards(x)], 0, towards(y), color="0.92", linewidth=0, zorder=0, label="better in both"
    )
    axes.set(xlim=x, ylim=y)
