"""The page of a run: what its tables say, the settings that were chosen, and how all was measured."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from pandas import DataFrame

from nvreg.document import Block, Table
from nvreg.metrics import randomisation
from nvreg.protocols import PROTOCOLS
from nvreg.report import statistics
from nvreg.report.analysis import MATCHED, NO_MATCH
from nvreg.report.cells import time_text
from nvreg.report.findings import keeps_everywhere
from nvreg.report.layers import layers_section
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
from nvreg.results import PRETRAINED_NUMBER
from nvreg.tasks import TASKS
from nvreg.text import code_in_markdown, in_markdown

CHANGES = {"change": "change", "nv_change": "NV's change"}
"""Headers of the columns of how much a setting changes attention outputs."""


def run_page(run: Run, frames: Mapping[str, DataFrame], settings: DataFrame) -> list[Block]:
    """Return the page of a run.

    Args:
        run: where the tables are from.
        frames: its tables (see `nvreg.report.writing.run_tables`).
        settings: the table of `nvreg.report.tables.settings_table`.
    """
    blocks: list[Block] = [f"# {in_markdown(run.experiment.name)}: {run.experiment.task}", _progress(run)]
    labels = PROTOCOL if len(run.sweeps) == 1 else PROTOCOL_AND_METHOD
    scores, after = frames.get("methods", frames["scores"]), frames.get("after-temperature")
    if lacks_temperatures(run):
        blocks.append(NO_TEMPERATURES)
    if "layers" in frames:
        blocks += layers_section(run, frames["layers"])
    if "rivals" in frames and not keeps_everywhere(scores):
        rivals, rivals_after = frames["rivals"], frames.get(f"rivals{AFTER_TEMPERATURE}")
        against = {"method": "against"}
        blocks += rivals_section(run.selection_metric, rivals, against, run.in_domain, after=rivals_after)
    for metric, rows in scores.groupby("metric", sort=False):
        unchanged = run.cannot_change(str(metric))
        blocks += metric_section(
            str(metric), rows, labels, run.in_domain, after=after, cannot_change=unchanged
        )
    if keeps_everywhere(scores):
        settings = settings[settings["trial"].ne(PRETRAINED_NUMBER)]
    if len(settings):
        blocks += ["## Settings chosen", _settings(run, settings)]
    return [
        *blocks,
        "## How it was measured",
        _provenance(run, scores["protocol"].unique(), has_matched=MATCHED in settings["method"].array),
    ]


def _progress(run: Run) -> str:
    ended = [f"{run.count('completed')} of {run.planned} settings completed"]
    if failed := run.count("failed"):
        ended.append(f"{failed} failed")
    if stopped := run.count("stopped"):
        ended.append(f"{stopped} stopped early (about {time_text(_saved_seconds(run))} saved)")
    unmeasured = [run.label(arm) for arm in run.sweeps if not run.is_measured(arm)]
    finished = sum(map(len, run.sweeps.values())) >= run.planned
    return (
        f"{', '.join(ended)}, chosen on {run.selection_metric}; the pretrained model is always a candidate."
        + ("" if finished else " The sweep has not finished: this is a preview.")
        + (f" Not measured yet: {'; '.join(unmeasured)}." if unmeasured else "")
    )


def _saved_seconds(run: Run) -> float:
    """Return what the stopped settings would have taken more, had they taken as long as the completed."""
    trials = [trial for each in run.sweeps.values() for trial in each]
    completed = [trial.seconds for trial in trials if trial.status == "completed"]
    stopped = [trial.seconds for trial in trials if trial.status == "stopped"]
    return len(stopped) * sum(completed) / max(1, len(completed)) - sum(stopped)


def _settings(run: Run, settings: DataFrame) -> Table:
    labels = {"method": "method", "seed": "seed"} if len(run.sweeps) > 1 else {}
    numbers = {"prior_weight": "prior weight", "strength": "strength"}
    numbers |= {name: header for name, header in CHANGES.items() if settings[name].notna().any()}
    body = [
        [
            *(str(row[label]) for label in labels),
            protocol_label(row["protocol"]),
            row["domain"],
            *_trial_and_setting(run, row["trial"], beside_method=bool(labels)),
            *("" if math.isnan(row[name]) else f"{row[name]:.4f}" for name in numbers),
        ]
        for row in settings.to_dict("records")
    ]
    columns = ["selection", "test domain", "trial", "setting", *numbers.values()]
    return Table([*labels.values(), *columns], body)


def _trial_and_setting(run: Run, number: Any, beside_method: bool) -> tuple[str, str]:
    """Return the cells of a trial's number and setting; the name of its method is not said again."""
    if pd.isna(number):
        return "n/a", NO_MATCH
    trial = run.trials[number]
    return str(number), setting_text(trial, with_method=beside_method).removeprefix(f"{trial.method} ")


def _provenance(run: Run, protocols: Iterable[str], has_matched: bool) -> str:
    metrics = [
        f"- {in_markdown(name)}: {code_in_markdown(signature)}"
        for name, signature in run.manifest["metrics"].items()
    ]
    examples = ", ".join(
        f"{domain} {split} {facts['examples']}"
        + (f" ({facts['truncated']} cut to fit)" if facts["truncated"] else "")
        for domain, splits in run.manifest["data"].items()
        for split, facts in splits.items()
    )
    matched = (
        f"- {MATCHED}: the weight noise of the same seed that changes attention outputs most nearly as "
        f"much as the choice of nv does; n/a: {NO_MATCH}"
    )
    several = len({arm.seed for arm in run.sweeps}) > 1
    unscored = len(run.domains_with("test")) < len(run.domains)
    facts = [
        *(["- ±: standard deviation over the seeds of the search"] if several else []),
        "- in-domain column where a protocol chooses a setting for each domain: the mean over those settings",
        "- n/a: no validation set to choose on" + (", or no labels to score by" if unscored else ""),
        *_texts_alone(run, protocols),
        *([matched] if has_matched else []),
        f"- intervals: {statistics.RESAMPLES} resamples, seed {randomisation.SEED}, percentile; strength and "
        "tolerance are not resampled",
        f"- tests: approximate randomisation, two-sided, at most {randomisation.SWAPS} swaps, seed "
        f"{randomisation.SEED}, so p is {1 / (randomisation.SWAPS + 1):g} at least; corrected by Holm's "
        "method",
        f"- examples: {in_markdown(examples)}",
        f"- nvreg {in_markdown(run.manifest['nvreg'])}, model {code_in_markdown(run.manifest['model'])}",
    ]
    return "\n".join([*metrics, *facts])


def _texts_alone(run: Run, protocols: Iterable[str]) -> list[str]:
    """Say how settings are chosen on texts without labels, where a protocol does."""
    by_texts = [name for name in protocols if name in PROTOCOLS and PROTOCOLS[name].reads_texts]
    said = {
        "likelihood": "a text is its own label, so it is out-of-domain-validation",
        "confidence": "by the accuracy on the validation texts that confidences let expect, without their "
        "labels (mean confidence after a temperature that is fitted on in-domain validation)",
        None: f"n/a, as nothing tells without references how good {run.experiment.task} is",
    }
    return [f"- {name}: {said[TASKS[run.experiment.task].unlabelled]}" for name in by_texts]
