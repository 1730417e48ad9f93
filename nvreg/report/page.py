"""The page of a run: what its tables say, the settings that were chosen, and how all was measured."""

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pandas import DataFrame

from nvreg.document import Block, PageSection, Table, Verdict
from nvreg.metrics import randomisation, resampling
from nvreg.protocols import PROTOCOLS
from nvreg.report.analysis import NV, Matching, matching_of
from nvreg.report.cells import time_text
from nvreg.report.findings import keeps_everywhere
from nvreg.report.forest import forest
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
from nvreg.report.verdict import verdict
from nvreg.results import PRETRAINED_NUMBER, RunFiles
from nvreg.tasks import TASKS
from nvreg.text import code_in_markdown, in_markdown

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
    sentences = verdict(metric, scores, in_domain, after, rivals, run.cannot_change(metric))
    blocks: list[Block] = [
        f"# {in_markdown(run.experiment.name)}: {run.experiment.task}",
        Verdict(sentences),
        _progress(run),
    ]
    if plot := forest(metric, scores, in_domain, test_examples(run)):
        blocks.append(plot)
    if lacks_temperatures(run):
        blocks.append(NO_TEMPERATURES)
    sections = {
        name: metric_section(
            name, rows, labels, in_domain,
            after=after, cannot_change=run.cannot_change(name), is_open=name == metric,
            notes=_texts_alone(run, scores["protocol"].unique()) if name == metric else (),
        )
        for name, rows in ((str(name), rows) for name, rows in scores.groupby("metric", sort=False))
    }  # fmt: skip
    blocks += sections.pop(metric, [])
    if rivals is not None and not keeps_everywhere(scores):
        rivals_after = frames.get(f"rivals{AFTER_TEMPERATURE}")
        blocks.append(rivals_section(metric, rivals, {"method": "against"}, in_domain, after=rivals_after))
    blocks += [section for each in sections.values() for section in each]
    if "layers" in frames:
        blocks.append(layers_section(run, frames["layers"]))
    if keeps_everywhere(scores):
        settings = settings[settings["trial"].ne(PRETRAINED_NUMBER)]
    if len(settings):
        blocks.append(PageSection("Settings chosen", [_settings(run, settings)], is_open=False))
    measured = _provenance(run, _matchings(settings))
    again = PageSection("To make it again", [_commands(run)])
    return [*blocks, *more, PageSection("How it was measured", [measured, again], is_open=False)]


def test_examples(run: Run) -> dict[str, int]:
    """Return how many examples each domain's test set has."""
    data = run.manifest["data"]
    return {name: data[name]["test"]["examples"] for name in run.domains if "test" in data.get(name, {})}


def _progress(run: Run) -> str:
    ended = [f"{run.count('completed')} of {run.planned} settings completed"]
    if failed := run.count("failed"):
        ended.append(f"{failed} failed")
    if stopped := run.count("stopped"):
        judged = ", judged before temperature" if run.experiment.races_before_temperature else ""
        ended.append(f"{stopped} stopped early (about {time_text(_saved_seconds(run))} saved{judged})")
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
    if "wanted_change" in numbers and {each.to for each in _matchings(settings)} == {NV}:
        numbers["wanted_change"] = "NV's change"
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


def _provenance(run: Run, matchings: Sequence[Matching]) -> str:
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
    matched = [
        f"- {each.label}: the {each.words} of the same seed that changes attention outputs most nearly as "
        f"much as the choice of {each.to} does; n/a: {each.no_match}"
        for each in matchings
    ]
    several = len({arm.seed for arm in run.sweeps}) > 1
    unscored = len(run.domains_with("test")) < len(run.domains)
    manifest = run.manifest
    versions = ", ".join(f"{name} {version}" for name, version in manifest.get("versions", {}).items())
    hardware = ", ".join(f"{value} {name}" for name, value in manifest.get("hardware", {}).items())
    facts = [
        *(["- ±: standard deviation over the seeds of the search"] if several else []),
        "- in-domain column where a protocol chooses a setting for each domain: the mean over those settings",
        "- n/a: no validation set to choose on" + (", or no labels to score by" if unscored else ""),
        *matched,
        f"- intervals: {resampling.RESAMPLES} resamples, seed {randomisation.SEED}, percentile; strength and "
        "tolerance are not resampled",
        f"- tests: approximate randomisation, two-sided, at most {randomisation.SWAPS} swaps, seed "
        f"{randomisation.SEED}, so p is {1 / (randomisation.SWAPS + 1):g} at least; corrected by Holm's "
        "method",
        f"- seeds of the search: {', '.join(map(str, run.experiment.sweep.seeds))}; sampler: "
        f"{run.experiment.sweep.sampler}",
        f"- examples: {in_markdown(examples)}",
        f"- nvreg {in_markdown(manifest['nvreg'])}, model {code_in_markdown(manifest['model'])}, conditions "
        f"{code_in_markdown(manifest['context'])}",
        *([f"- versions: {in_markdown(versions)}"] if versions else []),
        *([f"- hardware: {in_markdown(hardware)}"] if hardware else []),
    ]
    return "\n".join([*metrics, *facts])


def _commands(run: Run) -> str:
    """Return the commands that make the run, its report and a checkpoint of what was chosen, as code."""
    output = run.experiment.output
    protocol = run.experiment.selection.protocols[0]
    chosen = [f"--protocol {protocol}"]
    if PROTOCOLS[protocol].by_domain:
        chosen.append(f"--domain {shlex.quote(run.out_of_domain[0])}")
    if len(run.methods) > 1:
        chosen.append(f"--method {run.methods[0]}")
    if len(run.experiment.sweep.seeds) > 1:
        chosen.append(f"--seed {run.experiment.sweep.seeds[0]}")
    experiment = shlex.quote(str(Path(output) / RunFiles(Path(output)).experiment.name))
    lines = [
        f"nvreg sweep --config {experiment} --output {shlex.quote(f'{output}-again')}",
        f"nvreg report {shlex.quote(str(output))}",
        f"nvreg export {shlex.quote(str(output))} OUT {' '.join(chosen)}",
    ]
    return "\n".join(["```sh", *lines, "```"])


def _texts_alone(run: Run, protocols: Iterable[str]) -> list[str]:
    """Say how settings are chosen on texts without labels, where a protocol does."""
    by_texts = [name for name in protocols if name in PROTOCOLS and PROTOCOLS[name].reads_texts]
    said = {
        "likelihood": "is out-of-domain-validation, as a text is its own label",
        "confidence": "goes by the accuracy on the validation texts that confidences let expect, without "
        "their labels (mean confidence after a temperature that is fitted on in-domain validation)",
        None: f"is n/a, as nothing tells without references how good {run.experiment.task} is",
    }
    return [f"{name} {said[TASKS[run.experiment.task].unlabelled]}." for name in by_texts]
