"""What the drawings of a page share: axes in percent of a side, so that text keeps its size on any screen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from nvreg.metrics import METRICS

EDGE = 0.04
"""The share of an axis that is left free at either end."""

COLOURS = 7
"""How many colours the style sheet has."""

NEAREST = 7
"""Ticks nearer to each other than so many percent of a side are left out, unless a drawing says otherwise."""


@dataclass(frozen=True)
class Axis:
    """A scale from values to percent of the side of a drawing.

    Attributes:
        low: the least value that is drawn.
        high: the greatest.
        middle: half the width of the linear middle, beyond which the axis is logarithmic; infinite: all of it
            is linear.
        is_reversed: whether values fall along the side.
    """

    low: float
    high: float
    middle: float = math.inf
    is_reversed: bool = False

    def place(self, value: float) -> float:
        """Return where a value stands; beyond an end, the end."""
        low, high = self._bent(self.low), self._bent(self.high)
        share = (self._bent(min(max(value, self.low), self.high)) - low) / (high - low)
        return round(100 * (1 - share if self.is_reversed else share), 2)

    def has(self, value: float) -> bool:
        """Return whether a value is within the ends."""
        return self.low <= value <= self.high

    def ticks(self, most: int = 6, apart: float = NEAREST) -> list[tuple[float, float]]:
        """Return a few round values and where they stand, so many percent apart or more."""
        from matplotlib.ticker import MaxNLocator

        if math.isinf(self.middle):
            values = np.asarray(MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(self.low, self.high))
        else:
            steps = self.middle * np.array([0.5, 1, 4, 10, 40, 100, 400, 1000, 4000, 10000])
            values = np.array([*-steps[::-1], 0, *steps])
        found = [(float(value), self.place(float(value))) for value in values if self.has(value)]
        kept = [tick for tick in found if tick[0] == 0]
        for tick in sorted(found, key=lambda tick: abs(tick[0])):
            if all(abs(tick[1] - other) >= apart for _, other in kept):
                kept.append(tick)
        return sorted(kept)

    @property
    def is_bent(self) -> bool:
        """Whether a part of it is logarithmic."""
        return not math.isinf(self.middle)

    def _bent(self, value: float) -> float:
        size = abs(value)
        if size <= self.middle:
            return value
        return math.copysign(self.middle * (1 + math.log10(size / self.middle) / 2), value)


def axis_of(values: Iterable[float], *, is_reversed: bool = False, is_linear: bool = False) -> Axis:
    """Return an axis that shows all finite values and 0, bent where a few would squash the others."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    if low == high:
        low, high = -1.0, 1.0
    middle = math.inf if is_linear else linear_middle(finite)
    straight = Axis(low, high, middle)
    reach = straight._bent(high) - straight._bent(low)
    ends = [
        _unbent(straight._bent(end) + side * EDGE * reach, middle) for end, side in ((low, -1), (high, 1))
    ]
    return Axis(ends[0], ends[1], middle, is_reversed)


def linear_middle(changes: Sequence[float]) -> float:
    """Return up to which size changes are drawn linearly: infinite unless a few are far from most.

    What changes nothing, such as a choice of the pretrained model, is none of the most.
    """
    sizes = np.abs(np.asarray(changes, dtype=float))
    sizes = sizes[sizes > 0]
    middle = round_up(2 * float(np.median(sizes))) if sizes.size else 0.0
    return middle if 0 < 4 * middle < sizes.max(initial=0) else math.inf


def round_up(value: float) -> float:
    """Return the next of ..., 0.5, 1, 2, 5, 10, 20, ... for a value above 0, and 0 for 0."""
    if value == 0:
        return value
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= value))


def is_relative(metric: str) -> bool:
    """Return whether changes are drawn in percent of the pretrained model's score.

    Likelihoods differ from domain to domain by more than any change, and have no upper end.
    """
    return METRICS[metric].group == "likelihood"


def change_of(metric: str, difference: float, other: float) -> float:
    """Return a difference from another score as it is drawn; from a score of 0 it has no percentage."""
    return 100 * difference / abs(other) if is_relative(metric) and other else difference


def axis_label(metric: str) -> str:
    """Return what an axis of changes says."""
    return (
        f"change in {metric}, % of the pretrained model's" if is_relative(metric) else f"change in {metric}"
    )


def tick_text(value: float) -> str:
    """Return the text of a tick of changes."""
    return f"{value:+.4g}" if value else "0"


def lines(texts: Iterable[str]) -> str:
    """Return the lines of a tip."""
    return "\n".join(filter(None, texts))


def bent_text(**axes: Axis) -> str:
    """Return what a caption says of axes that are logarithmic; nothing where none is.

    Args:
        axes: by what the page calls them.
    """
    bent = [f"{name} beyond {axis.middle:g}" for name, axis in axes.items() if axis.is_bent]
    return f" Logarithmic {' and '.join(bent)}." if bent else ""


def joined(parts: Iterable[Markup]) -> Markup:
    """Return pieces of markup after each other."""
    return Markup("").join(parts)


def plot(
    x: Axis,
    y: Axis,
    x_label: str,
    y_label: str,
    marks: Markup,
    name: str,
    *,
    x_ticks: Sequence[tuple[str, float]] | None = None,
) -> Markup:
    """Return axes with marks, in a drawing that is as wide as there is room."""
    across = [(tick_text(value) if x.low < 0 else f"{value:g}", place) for value, place in x.ticks()]
    grid = joined(
        Markup(
            '<line class="grid" x1="{}%" x2="{}%" y1="0" y2="100%"/>'
            '<text x="{}%" y="100%" dy="1.3em" text-anchor="middle">{}</text>'
        ).format(place, place, place, text)
        for text, place in (across if x_ticks is None else x_ticks)
    )
    grid += joined(
        Markup(
            '<line class="{}" y1="{}%" y2="{}%" x1="0" x2="100%"/>'
            '<text x="-.5em" y="{}%" dy=".32em" text-anchor="end">{}</text>'
        ).format("grid" if value else "zero", place, place, place, tick_text(value))
        for value, place in y.ticks()
    )
    if x_ticks is None and x.low < 0 < x.high:
        grid += Markup('<line class="zero" x1="{0}%" x2="{0}%" y1="0" y2="100%"/>').format(x.place(0))
    return Markup(
        '<svg role="list" data-marks aria-label="{}"><g class="axis" aria-hidden="true">{}'
        '<text x="50%" y="100%" dy="2.7em" text-anchor="middle">{}</text>'
        '<text class="up" y="-.7em">{}</text></g>{}</svg>'
    ).format(name, grid, x_label, y_label, marks)


NO_MARKUP = Markup("")


def figure(
    title: str, caption: str, body: Markup, controls: Markup = NO_MARKUP, attributes: Markup = NO_MARKUP
) -> Markup:
    """Return a drawing with its caption.

    Args:
        title: what it shows.
        caption: how it is read.
        body: the drawing, and data that its script reads.
        controls: what stands between; a script adds menus to it.
        attributes: attributes of the element, for the script.
    """
    head = Markup("<figcaption><b>{}</b>. {}</figcaption>").format(title, caption)
    menus = Markup('<div class="controls">{}</div>').format(controls)
    return Markup('<figure class="plot"{}>{}{}{}</figure>').format(attributes, head, menus, body)


def colours_of(names: Iterable[str]) -> dict[str, int]:
    """Return the number of each name's colour."""
    return {name: place % COLOURS for place, name in enumerate(dict.fromkeys(names))}


def legend(colours: Mapping[str, int]) -> Markup:
    """Return which colour is whose; nothing where there is one alone."""
    if len(colours) < 2:
        return NO_MARKUP
    sample = Markup(
        '<span class="legend"><svg aria-hidden="true">'
        '<circle class="c{}" cx="50%" cy="50%" r="45%"/></svg>{}</span>'
    )
    samples = joined(sample.format(colour, name) for name, colour in colours.items())
    return Markup('<span class="samples">{}</span>').format(samples)


def panels_of(title: str, caption: str, panels: Iterable[Markup], controls: Markup = NO_MARKUP) -> Markup:
    """Return small drawings side by side, under one caption."""
    head = Markup('<p><b>{}</b>. <span class="soft">{}</span></p>').format(title, caption)
    menus = Markup('<div class="controls">{}</div>').format(controls) if controls else NO_MARKUP
    side_by_side = Markup('<div class="panels">{}</div>').format(joined(panels))
    return Markup('<div role="group" class="plot" aria-label="{}">{}{}{}</div>').format(
        title, head, menus, side_by_side
    )


def _unbent(value: float, middle: float) -> float:
    size = abs(value)
    if size <= middle:
        return value
    return math.copysign(middle * 10 ** (2 * (size / middle - 1)), value)
