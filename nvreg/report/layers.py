"""Where a method acts: what each role and layer by itself changes, in a run of the sampler one-at-a-time.

It tells which roles and layers are worth a search, so its scores are those of validation sets: who reads it
from test sets has chosen by them. A domain without a validation set is left out.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from markupsafe import Markup
from pandas import DataFrame

from nvreg.document import Block, Drawing, PageSection, Table
from nvreg.methods import METHODS
from nvreg.metrics import METRICS
from nvreg.metrics.resampling import FEWEST, interval
from nvreg.parameters import ROLES
from nvreg.report.cells import AS_CHOSEN, with_decimals
from nvreg.report.plot import (
    Axis,
    axis_label,
    axis_of,
    change_of,
    colours_of,
    joined,
    legend,
    panels_of,
    plot,
    tick_text,
)
from nvreg.report.reading import Run
from nvreg.report.sections import DIRECTIONS
from nvreg.results import PRETRAINED_NUMBER
from nvreg.rounding import number_text
from nvreg.samplers import SAMPLERS, OneAtATime, alone

NAMED = 3
"""The most layers that a sentence names."""

SITE = ["role", "layer"]


def layers_table(run: Run) -> DataFrame | None:
    """Return one row for each setting of one layer alone and domain; None for runs of other samplers.

    Columns: metric, the run's selection metric; method; parameter, value, role and layer, what is not at
    identity; trial; domain; score on its validation set; difference from the pretrained model; low and high,
    the ends of its interval by paired bootstrap, NaN for fewer than `FEWEST` examples.

    Raises:
        UserError: if an example file cannot be read.
    """
    if SAMPLERS[run.experiment.sweep.sampler] is not OneAtATime:
        return None
    rows = DataFrame([cell for number in run.trials for cell in _cells(run, number)])
    if rows.empty:
        return None
    places = rows["role"].map(ROLES.index)
    by = ["method", "parameter", "value", "place", "layer", "trial"]
    return rows.assign(place=places).sort_values(by, kind="stable").drop(columns="place")


def layers_section(run: Run, table: DataFrame) -> PageSection:
    """Return what the table of `layers_table` says: the best layers, then every layer."""
    metric, in_domain = run.selection_metric, run.in_domain
    direction = METRICS[metric].higher_is_better
    blocks: list[Block] = [
        "One layer of one role is changed at a time, all else is as pretrained; layers count from 0. Scores "
        "are of validation sets, so that a search may be narrowed by them; a domain without one is left out. "
        "layers.csv has every score, and intervals.",
        _drawn(run, table),
    ]
    for (method, parameter), rows in table.groupby(["method", "parameter"], sort=False):
        values = " / ".join(f"{value:g}" for value in sorted(rows["value"].unique()))
        name = f"{method} {parameter}" if len(run.methods) > 1 else str(parameter)
        blocks += [f"- {name}: {_best(rows, in_domain, 1 if direction else -1)}"]
        body = [
            [*map(str, site), *(_changes(cells) for _, cells in by_site.groupby("domain", sort=False))]
            for site, by_site in with_decimals(rows, [AS_CHOSEN]).groupby(SITE, sort=False)
        ]
        headers = [
            f"{domain}{' (in-domain)' if domain == in_domain else ''}" for domain in rows["domain"].unique()
        ]
        blocks += [f"Change at {name} {values}:", Table([*SITE, *headers], body, len(SITE))]
    return PageSection(f"Where it acts: {metric} ({DIRECTIONS[direction]})", blocks, is_open=False)


def _drawn(run: Run, table: DataFrame) -> Drawing:
    """Draw a panel for each value of a parameter: roles and their layers across, changes by domain up."""
    metric, in_domain = run.selection_metric, run.in_domain
    changes = [
        change_of(metric, difference, score - difference)
        for difference, score in zip(table["difference"], table["score"], strict=True)
    ]
    sites = sorted(
        {*zip(table["role"], table["layer"], strict=True)}, key=lambda at: (ROLES.index(at[0]), at[1])
    )
    x = Axis(-0.6, len(sites) - 0.4)
    y = axis_of(changes, is_reversed=METRICS[metric].higher_is_better is not False)
    firsts = {role: place for place, (role, _) in reversed(list(enumerate(sites)))}
    ticks = [(role, x.place(place)) for role, place in firsts.items()]
    colours = colours_of(table["domain"])
    dot = Markup('<circle class="point c{}" cx="{}%" cy="{}%" r="3.5"><title>{}</title></circle>')
    panels = []
    of_values = table.assign(change=changes).groupby(["method", "parameter", "value"], sort=False)
    for (method, parameter, value), rows in of_values:
        name = f"{method}: {parameter} {value:g}" if len(run.methods) > 1 else f"{parameter} {value:g}"
        marks = joined(
            dot.format(
                colours[cell["domain"]], x.place(sites.index((cell["role"], cell["layer"]))),
                y.place(cell["change"]),
                f"{cell['role']} {cell['layer']}, {cell['domain']}: {tick_text(cell['change'])}",
            )
            for cell in rows[np.isfinite(rows["change"])].to_dict("records")
        )  # fmt: skip
        picture = plot(x, y, name, "", marks, f"{name}, by role and layer", x_ticks=ticks)
        panels.append(Markup('<figure class="plot">{}</figure>').format(picture))
    caption = (
        f"{axis_label(metric)[:1].upper()}{axis_label(metric)[1:]}, on validation sets ({in_domain} is in "
        "domain); roles stand where their layers begin, better is up, the line at 0 is the pretrained model."
    )
    return Drawing(panels_of("By layer", caption, panels, legend(colours)))


def _cells(run: Run, number: int) -> Iterator[dict[str, Any]]:
    """Yield what a trial changes on each domain, if it changes one layer alone."""
    trial, metric = run.trials[number], run.selection_metric
    if number == PRETRAINED_NUMBER:
        return
    site = alone(METHODS[trial.method].setting_type.from_dict(trial.settings))
    if site is None:
        return
    for domain in run.domains_with("validation"):
        score, pretrained = (
            run.score(each, domain, "validation", metric) for each in (number, PRETRAINED_NUMBER)
        )
        cell = {"metric": metric, "method": trial.method, **site._asdict(), "trial": number}
        cell |= {"domain": domain, "score": score, "difference": score - pretrained}
        cell |= {"low": float("nan"), "high": float("nan")}
        if len(run.statistics(number, domain, "validation", METRICS[metric].group)) >= FEWEST:
            both = (run.resampled(each, domain, "validation", metric) for each in (number, PRETRAINED_NUMBER))
            cell |= interval(np.subtract(*both))._asdict()
        yield cell


def _changes(cells: DataFrame) -> str:
    """Return the changes of one layer on one domain, from the smallest value on."""
    rows = cells.sort_values("value").to_dict("records")
    return " / ".join(
        number_text(cell["difference"], cell["decimals"], "+") if cell["difference"] else "0" for cell in rows
    )


def _best(rows: DataFrame, in_domain: str, sign: int) -> str:
    """Say which layers gain most on the mean of the out-of-domain validation sets, each at its best value."""
    elsewhere = rows[rows["domain"] != in_domain]
    if elsewhere.empty:
        return "there is no validation set out of domain, which would say where to search."
    relative = sign * elsewhere["difference"] / (elsewhere["score"] - elsewhere["difference"]).abs()
    gains = relative.groupby([elsewhere[name] for name in (*SITE, "value")]).mean()
    best = gains.reset_index(name="gain").sort_values("gain", ascending=False, kind="stable")
    layers = best.drop_duplicates(SITE)
    gaining = layers[layers["gain"] > 0]
    if gaining.empty:
        return "no layer gains on the mean of the out-of-domain validation sets."
    named = ", ".join(f"{each.role} {each.layer} at {each.value:g}" for each in gaining[:NAMED].itertuples())
    return (
        f"{len(gaining)} of {len(layers)} layers gain on the mean of the out-of-domain validation sets, "
        f"most of them {named}."
    )
