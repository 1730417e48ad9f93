"""The scores of several runs and methods on every domain, as a figure."""

from itertools import cycle
from typing import TYPE_CHECKING

from pandas import DataFrame

from nvreg.metrics import METRICS
from nvreg.protocols import upper_bounds
from nvreg.report.figures import STYLES
from nvreg.report.page import DIRECTIONS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKS = (("#000000", "*"), *STYLES)
"""Of the models as they came, which are first, and of protocols."""


def overview_figure(table: DataFrame, metric: str, in_domain: str) -> "Figure":
    """Draw a panel a domain, a line a run and method, and a mark for what each protocol chose.

    Bars reach one standard deviation over repetitions to either side. A vertical line is at the first model,
    as it came. The oracle, which is no selection, is left out.

    Args:
        table: that of `nvreg.report.combined.combined`.
        metric: the one to draw.
        in_domain: name of the domain to mark as such.
    """
    from matplotlib.figure import Figure

    shown = table[(table["metric"] == metric) & ~table["protocol"].isin(upper_bounds())].dropna(
        subset="score"
    )
    names = shown["run"].where(shown["method"] == "pretrained", shown["run"] + " + " + shown["method"])
    rows, runs = shown.assign(line=names), list(shown["run"].unique())
    places = rows.drop_duplicates("line").sort_values(
        "run", key=lambda run: run.map(runs.index), kind="stable"
    )
    lines, domains, protocols = list(places["line"]), list(rows["domain"].unique()), rows["protocol"].unique()
    figure = Figure(figsize=(3 + 2 * len(domains), 1.5 + 0.4 * len(lines)), layout="constrained", dpi=150)
    panels = figure.subplots(1, len(domains), sharey=True, squeeze=False)[0]
    for axes, domain in zip(panels, domains, strict=True):
        cells = rows[rows["domain"] == domain]
        for place, (protocol, style) in enumerate(zip(protocols, cycle(MARKS), strict=False)):
            chosen, (colour, marker) = cells[cells["protocol"] == protocol], style
            below = 0.16 * (place - len(protocols) / 2) if place else 0
            heights = [lines.index(line) + below for line in chosen["line"]]
            bars = chosen["deviation"].fillna(0)
            axes.errorbar(
                chosen["score"], heights, xerr=bars, fmt=marker, color=colour, ms=4, lw=0.8, label=protocol
            )
        axes.axvline(cells.loc[cells["line"] == lines[0], "score"].iloc[0], color="0.6", lw=0.8, zorder=0)
        axes.set_title(f"{domain} (in domain)" if domain == in_domain else domain, size=9)
        axes.tick_params(labelsize=8)
    panels[0].set_yticks(range(len(lines)), lines)
    panels[0].invert_yaxis()
    direction = DIRECTIONS[METRICS[metric].higher_is_better]
    figure.supxlabel(f"{metric} on test sets ({direction}); mean ± standard deviation of repetitions", size=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    return figure
