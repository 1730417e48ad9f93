"""The page of a run: what its tables say, the settings that were chosen, and how all was measured."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from pandas import DataFrame

from nvreg.document import Block, PageSection, Table, Verdict
from nvreg.report.analysis import Matching, matching_of
from nvreg.report.findings import keeps_everywhere
from nvreg.report.forest import forest
from nvreg.report.layers import layers_section
from nvreg.report.provenance import completed_text, measured_section, test_examples, texts_alone
from nvreg.report.reading import Run
from nvreg.report.sections import (
    AFTER_TEMPERATURE,
    NO_TEMPERATURES,
    PROTOCOL,
    PROTOCOL_AND_METHOD,
    metric_section,
    protocol_label,
    rivals_section,
)
from nvreg.report.selection import setting_text
from nvreg.report.temperature import lacks_temperatures
from nvreg.report.verdict import verdict
from nvreg.results import PRETRAINED_NUMBER
from nvreg.text import in_markdown

CHANGES = {"change": "change", "wanted_change": "wanted change"}
"""Headers of the columns of how much a setting changes attention outputs."""


def run_page(
    run: Run, frames: Mapping[str, DataFrame], settings: DataFrame, more: Sequence[PageSection] = ()
) -> list[Block]:
    """Return the page of a run.

    Args:
        run: where the tables are from.
        frames: its tables (see `nvreg.report.writing.run_tables`).
        settings: the table of `nvreg.report.tables.settings_table`.
        more: sections that stand before how it was measured.
    """
    labels = PROTOCOL if len(run.sweeps) == 1 else PROTOCOL_AND_METHOD
    scores, after, rivals = (frames.get(name) for name in ("methods", "after-temperature", "rivals"))
    scores = frames["scores"] if scores is None else scores
    metric, in_domain = run.selection_metric, run.in_domain
    rivals_after = frames.get(f"rivals{AFTER_TEMPERATURE}")
    unchanging = run.cannot_change(metric)
    sentences = verdict(metric, scores, in_domain, after, rivals, rivals_after, unchanging)
    blocks: list[Block] = [
        f"# {in_markdown(run.experiment.name)}: {run.experiment.task}",
        Verdict(sentences),
        completed_text(run),
    ]
    if plot := forest(metric, scores, in_domain, test_examples(run)):
        blocks.append(plot)
    if lacks_temperatures(run):
        blocks.append(NO_TEMPERATURES)
    sections = {
        name: metric_section(
            name, rows, labels, in_domain,
            after=after, cannot_change=run.cannot_change(name), is_open=name == metric,
            notes=texts_alone(run, scores["protocol"].unique()) if name == metric else (),
        )
        for name, rows in ((str(name), rows) for name, rows in scores.groupby("metric", sort=False))
    }  # fmt: skip
    blocks += sections.pop(metric, [])
    if rivals is not None and not keeps_everywhere(scores):
        blocks.append(rivals_section(metric, rivals, {"method": "against"}, in_domain, after=rivals_after))
    blocks += [section for each in sections.values() for section in each]
    if "layers" in frames:
        blocks.append(layers_section(run, frames["layers"]))
    if keeps_everywhere(scores):
        settings = settings[settings["trial"].ne(PRETRAINED_NUMBER)]
    if len(settings):
        blocks.append(PageSection("Settings chosen", [_settings(run, settings)], is_open=False))
    return [*blocks, *more, measured_section(run, _matchings(settings))]


def _settings(run: Run, settings: DataFrame) -> Table:
    labels = {"method": "method", "seed": "seed"} if len(run.sweeps) > 1 else {}
    numbers = {"prior_weight": "prior weight", "strength": "strength"}
    numbers |= {name: header for name, header in CHANGES.items() if settings[name].notna().any()}
    matched_to = {each.to for each in _matchings(settings)}
    if "wanted_change" in numbers and len(matched_to) == 1:
        numbers["wanted_change"] = f"{matched_to.pop()}'s change"
    body = [
        [
            *(str(row[label]) for label in labels),
            protocol_label(row["protocol"]),
            row["domain"],
            *_trial_and_setting(run, row["trial"], row["method"], beside_method=bool(labels)),
            *("" if math.isnan(row[name]) else f"{row[name]:.4f}" for name in numbers),
        ]
        for row in settings.to_dict("records")
    ]
    columns = ["selection", "test domain", "trial", "setting", *numbers.values()]
    return Table([*labels.values(), *columns], body, len(labels) + 2)


def _matchings(settings: DataFrame) -> list[Matching]:
    """Return the matchings that stand for methods in the table of settings."""
    return [each for label in settings["method"].unique() if (each := matching_of(str(label)))]


def _trial_and_setting(run: Run, number: Any, method: str, beside_method: bool) -> tuple[str, str]:
    """Return the cells of a trial's number and setting; the name of its method is not said again."""
    if pd.isna(number):
        matching = matching_of(method)
        return "n/a", matching.no_match if matching else ""
    trial = run.trials[number]
    return str(number), setting_text(trial, with_method=beside_method).removeprefix(f"{trial.method} ")
