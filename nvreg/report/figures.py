"""The scatter of what all settings change in domain against what they change out of domain."""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from nvreg.metrics import METRICS
from nvreg.protocols import upper_bounds
from nvreg.report.page import DIRECTIONS
from nvreg.report.reading import Run
from nvreg.report.selection import Selection
from nvreg.report.tables import Selections
from nvreg.results import PRETRAINED_NUMBER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito (2008): told apart with every common form of colour blindness, and by shape in grey.
STYLES = (
    ("#0072B2", "o"),
    ("#E69F00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#56B4E9", "v"),
    ("#D55E00", "P"),
    ("#000000", "X"),
)
RINGS = {"chosen (trial)": "solid", "oracle only": "dotted"}


def changes_figure(run: Run, method: str, selections: Selections) -> "Figure":
    """Draw one point for each setting of a method and out-of-domain test set; the origin is pretrained.

    Points that a protocol chose, with any seed, are ringed and carry the trial's number. An axis on which a
    destroyed model would squash all others is logarithmic outside a linear middle.
    """
    from matplotlib.figure import Figure

    arms = [arm for arm in run.sweeps if arm.method == method]
    numbers = sorted({number for arm in arms for number in run.candidates(arm)} - {PRETRAINED_NUMBER})
    points = _points(run, numbers, [selections[arm] for arm in arms])
    figure = Figure(figsize=(7.6, 5.2), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    for domain, (colour, marker) in zip(run.out_of_domain, cycle(STYLES), strict=False):
        x, y = points.loc[points["domain"] == domain, ["x", "y"]].to_numpy().T
        axes.scatter(x, y, c=colour, marker=marker, s=34, alpha=0.75, linewidth=0, label=domain, zorder=3)
    _ring(axes, points)
    axes.scatter(0, 0, s=150, c="black", marker="*", label="pretrained", zorder=5)
    direction = METRICS[run.selection_metric].higher_is_better
    change, better = f"change in {run.selection_metric}", DIRECTIONS[direction]
    axes.set_xlabel(
        f"{change} on {run.in_domain} (in domain; {better}{_scale(axes, 'x', points['x'])})", size=9
    )
    axes.set_ylabel(f"{change} out of domain ({better}{_scale(axes, 'y', points['y'])})", size=9)
    _shade(axes, max if direction else min)
    drawn, tried = points["trial"].nunique(), len(numbers)
    left_out = f" ({tried - drawn} more are not finite)" if drawn < tried else ""
    of = f" of {method}" if len(run.methods) > 1 else ""
    axes.set_title(f"{run.experiment.name}: test sets, {drawn} settings{of}{left_out}", loc="left")
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def png(figure: "Figure") -> bytes:
    """Return a figure as the content of a png file."""
    return _drawn(figure, "png")


def svg(figure: "Figure") -> str:
    """Return a figure as the content of an svg file, the same for the same figure."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "nvreg", "svg.fonttype": "none"}):
        return _drawn(figure, "svg", metadata={"Date": None}).decode()


def _drawn(figure: "Figure", form: str, **options: Any) -> bytes:
    content = BytesIO()
    figure.savefig(content, format=form, **options)
    return content.getvalue()


def _points(run: Run, numbers: Sequence[int], selections: Sequence[Mapping[str, Selection]]) -> pd.DataFrame:
    """Return trial, domain, x (change in domain), y (change on the domain) and ring, where all is finite."""

    def score(number: int, domain: str) -> float:
        return run.score(number, domain, "test", run.selection_metric)

    def ring(number: int, domain: str) -> str | None:
        by = {
            protocol
            for by_protocol in selections
            for protocol, selection in by_protocol.items()
            if domain in selection and number in selection[domain].trials
        }
        honest, upper_bound = RINGS
        return honest if by - upper_bounds() else upper_bound if by else None

    rows = []
    for number in numbers:
        changes = {domain: score(number, domain) - score(PRETRAINED_NUMBER, domain) for domain in run.domains}
        if np.isfinite(list(changes.values())).all():
            rows += [
                (number, domain, changes[run.in_domain], changes[domain], ring(number, domain))
                for domain in run.out_of_domain
            ]
    return pd.DataFrame(rows, columns=["trial", "domain", "x", "y", "ring"])


def _ring(axes: "Axes", points: pd.DataFrame) -> None:
    """Mark the points that a protocol chose, and number them."""
    for ring, line in RINGS.items():
        x, y = points.loc[points["ring"] == ring, ["x", "y"]].to_numpy().T
        if x.size:
            axes.scatter(
                x, y, s=130, facecolors="none", edgecolors="black", linestyle=line, label=ring, zorder=4
            )
    ringed = points.dropna(subset="ring").sort_values("x")
    # Neighbours' numbers stay apart: above the highest ring, below the lowest, and so on.
    sides = cycle(((max, 8), (min, -15)))
    for (trial, rows), (extreme, away) in zip(ringed.groupby("trial", sort=False), sides, strict=False):
        place = (rows["x"].iloc[0], extreme(rows["y"]))
        axes.annotate(
            str(trial), place, (0, away), textcoords="offset points", ha="center", fontsize=8, zorder=6
        )


def _scale(axes: "Axes", name: Literal["x", "y"], changes: pd.Series) -> str:
    """Make the axis logarithmic away from most changes if few are far off; return how to say so."""
    from matplotlib.ticker import FixedLocator

    axis = axes.xaxis if name == "x" else axes.yaxis
    sizes = changes.abs().to_numpy()
    middle = _round_up(2 * float(np.median(sizes))) if sizes.size else 0.0
    squashed = 0 < 4 * middle < sizes.max(initial=0)
    if squashed:
        getattr(axes, f"set_{name}scale")("symlog", linthresh=middle, linscale=2)
        ticks = middle * np.array([0.5, 1, 4, 10, 40, 100, 400, 1000])
        axis.set_major_locator(FixedLocator([*-ticks, 0, *ticks]))
        axis.set_minor_locator(FixedLocator([]))
    axis.set_major_formatter(lambda value, _: f"{value:+g}" if value else "0")
    return f"; log beyond {middle:g}" if squashed else ""


def _round_up(value: float) -> float:
    """Return the next of ..., 0.5, 1, 2, 5, 10, 20, ... for a value above 0, and 0 for 0."""
    if value == 0:
        return value
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= value))


def _shade(axes: "Axes", towards: Callable[[tuple[float, float]], float]) -> None:
    """Shade the quadrant that is better both in and out of domain."""
    x, y = axes.get_xlim(), axes.get_ylim()
    axes.axhline(0, color="0.4", linewidth=0.8, zorder=1)
    axes.axvline(0, color="0.4", linewidth=0.8, zorder=1)
    axes.fill_between(
        [0, towards(x)], 0, towards(y), color="0.92", linewidth=0, zorder=0, label="better in both"
    )
    axes.set(xlim=x, ylim=y)
