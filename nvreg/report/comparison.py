"""Several runs on the same test sets: all in one table, or two of them paired example by example."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from pandas import DataFrame

from nvreg.document import Block, Verdict
from nvreg.errors import UserError
from nvreg.report.analysis import Analysis
from nvreg.report.compared import compared
from nvreg.report.contrasts import Row, contrasts_table, pairs_table
from nvreg.report.explore import explore
from nvreg.report.forest import forest
from nvreg.report.points import Cloud
from nvreg.report.provenance import completed_text, measured_together, test_examples, texts_alone
from nvreg.report.reading import Run
from nvreg.report.sections import (
    AFTER_TEMPERATURE,
    NO_TEMPERATURES,
    PROTOCOL,
    PROTOCOL_AND_METHOD,
    metric_section,
    rivals_section,
)
from nvreg.report.selection import pretrained
from nvreg.report.tables import (
    MODELS,
    after_temperature,
    home_of,
    methods_of,
    repeated,
    rivals_table,
    rows_of,
    tempered_table,
)
from nvreg.report.temperature import lacks_temperatures
from nvreg.report.verdict import verdict
from nvreg.results import PRETRAINED
from nvreg.text import in_markdown

AGAINST = " against "
"""What stands between two methods that are compared."""


def combine(analyses: Sequence[Analysis]) -> tuple[list[Block], dict[str, DataFrame]] | None:
    """Return a page and the tables it shows, or None where the runs share no test set or no metric.

    A run is named after its directory. Runs in directories seed-1, seed-2 and so on of one directory are
    repetitions, with models of other seeds, and named after that one.

    Tables: ``combined`` has the columns metric, run, and those of `nvreg.report.tables.methods_table`, where
    each run is compared with its own pretrained model; ``rivals``, where NV was tried and has rivals, is that
    of `nvreg.report.tables.rivals_table`. Both have another with ``-after-temperature`` behind the name where
    all runs kept temperatures.

    Raises:
        UserError: if an example file of a chosen trial cannot be read.
    """
    runs = [each.run for each in analyses]
    domains = [domain for domain in _common_domains(runs) if _scored_alike(runs, domain)]
    metrics = _common_metrics(runs)
    if not domains or not metrics:
        return None
    groups = _by_name(analyses)
    rows = rows_of(groups)
    frames = {"combined": contrasts_table(metrics, domains, rows)}
    methods = {row.labels["method"] for row in rows} - {PRETRAINED}
    labels = {**PROTOCOL, "run": "run", **({"method": "method"} if len(methods) > 1 else {})}
    chosen_by, in_domain, tempered = runs[0].selection_metric, runs[0].in_domain, after_temperature(groups)
    metric = chosen_by if chosen_by in metrics else metrics[0]
    after = tempered_table(metrics, domains, tempered)
    rivals = rivals_table(chosen_by, domains, groups) if chosen_by in metrics else None
    rivals_after = rivals_table(chosen_by, domains, tempered) if rivals is not None else None
    combined, unchanging = frames["combined"], _cannot_change(runs, metric)
    blocks: list[Block] = [
        f"# {len(runs)} runs",
        Verdict(verdict(metric, combined, in_domain, after, rivals, rivals_after, unchanging)),
        "Each is compared with its own pretrained model. Repetitions are shown by their mean, ± the standard "
        "deviation of their scores. Intervals and tests are over examples, for these models: how much other "
        "seeds of training would change shows in ± alone.",
        *_unfinished(analyses),
    ]
    if plot := forest(metric, combined, in_domain, test_examples(runs[0])):
        blocks.append(plot)
    if after is not None:
        frames[f"combined{AFTER_TEMPERATURE}"] = after
    if any(lacks_temperatures(run) for run in runs):
        blocks.append(NO_TEMPERATURES)
    sections = {
        each: metric_section(
            each, combined[combined["metric"] == each], labels, in_domain,
            after=after, cannot_change=_cannot_change(runs, each), is_open=each == metric,
            notes=texts_alone(runs[0], combined["protocol"].unique()) if each == metric else (),
        )
        for each in metrics
    }  # fmt: skip
    blocks += sections.pop(metric)
    if rivals is not None:
        frames["rivals"] = rivals
        if rivals_after is not None:
            frames[f"rivals{AFTER_TEMPERATURE}"] = rivals_after
        names = {"run": "against run", "method": "method"}
        blocks.append(
            rivals_section(metric, rivals, names, in_domain, f"nv on {home_of(groups)}", rivals_after)
        )
    blocks += [section for each in sections.values() for section in each]
    cloud = Cloud(metric, in_domain, domains, groups)
    if more := explore(cloud):
        blocks.append(more)
    blocks.append(measured_together(cloud.runs, metrics, "nvreg report"))
    return blocks, frames


def compare(first: Analysis, second: Analysis) -> tuple[list[Block], dict[str, DataFrame]]:
    """Return a page and the tables it shows: how the second run's scores differ from the first's.

    The pretrained models are compared, and what each protocol chooses with each method that both runs tried;
    where each tried one method, these two.

    Columns of the table: those of `nvreg.report.contrasts.pairs_table`, with method and protocol for labels.
    There is a second one after temperature where both runs kept temperatures.

    Raises:
        UserError: if the runs have no domain or no metric in common, or differ in the examples of a domain.
    """
    runs = (first.run, second.run)
    domains, metrics = _common_domains(runs), _common_metrics(runs)
    for what, common in {"a domain": domains, "a metric of one signature": metrics}.items():
        if not common:
            raise UserError(
                f"expected runs that have {what} in common, got {_named(runs)}; "
                "sweep one of them again as the other"
            )
    for domain in domains:
        if not _scored_alike(runs, domain):
            raise UserError(
                f"expected the same examples of {domain} in both runs, got others in each of "
                f"{_named(runs)}; sweep one of them again on the data of the other"
            )
    table = pairs_table(metrics, domains, list(_paired(first, second)))
    frames = {"comparison": table}
    tempered = after_temperature({"": [first, second]}).get("", [])
    shown = [name for name in metrics if all(name in each.metrics for each in tempered)]
    if tempered and shown:
        frames[f"comparison{AFTER_TEMPERATURE}"] = pairs_table(shown, domains, list(_paired(*tempered)))
    methods = table["method"].unique()
    is_said = len(methods) > 2 or any(AGAINST in method for method in methods)
    labels = PROTOCOL_AND_METHOD if is_said else PROTOCOL
    names = [run.experiment.name for run in runs]
    if len(set(names)) == 1:
        names = _ends([run.directory for run in runs])
    directories = " → ".join(in_markdown(str(run.directory)) for run in runs)
    chosen_by, in_domain = runs[0].selection_metric, runs[0].in_domain
    first_metric = chosen_by if chosen_by in metrics else metrics[0]
    after = frames.get(f"comparison{AFTER_TEMPERATURE}")
    blocks: list[Block] = [
        f"# {in_markdown(names[1])} against {in_markdown(names[0])}",
        Verdict(compared(first_metric, table, in_domain, names[0], names[1], after)),
        f"Each cell is {directories} and the difference, paired by example.",
    ]
    if plot := forest(first_metric, table, in_domain, test_examples(runs[0]), "other run"):
        blocks.append(plot)
    for metric in sorted(metrics, key=lambda name: name != first_metric):
        rows, is_open = table[table["metric"] == metric], metric == first_metric
        blocks += metric_section(metric, rows, labels, in_domain, "other run", after, is_open=is_open)
    cloud = Cloud(first_metric, in_domain, domains, dict(zip(names, ([first], [second]), strict=True)))
    if more := explore(cloud):
        blocks.append(more)
    blocks.append(measured_together(cloud.runs, metrics, "nvreg compare"))
    return blocks, frames


def _paired(first: Analysis, second: Analysis) -> Iterator[Row]:
    yield Row(MODELS, [pretrained(second.run)], [pretrained(first.run)])
    tried = methods_of([second])
    methods = [(method, method) for method in methods_of([first]) if method in tried]
    if len(first.run.methods) == len(second.run.methods) == 1:
        at_temperatures = [pair for pair in methods if PRETRAINED in pair]
        methods = [*at_temperatures, (first.run.methods[0], second.run.methods[0])]
    for theirs, ours in methods:
        name = ours if ours == theirs else f"{ours}{AGAINST}{theirs}"
        others = repeated([first], theirs)
        for protocol, choices in repeated([second], ours).items():
            if protocol in others:
                yield Row({"method": name, "protocol": protocol}, choices, others[protocol])


def _unfinished(analyses: Sequence[Analysis]) -> Iterator[str]:
    """Say which runs have settings left to measure, or searches that have not begun."""
    for each in analyses:
        run = each.run
        has_left = sum(map(len, run.sweeps.values())) < run.planned
        if has_left or not all(map(run.is_measured, run.sweeps)):
            yield f"{in_markdown(str(run.directory))}: {completed_text(run)}"


def _common_domains(runs: Sequence[Run]) -> list[str]:
    """Return the names of the domains that all runs have, in the order of the first."""
    return [name for name in runs[0].domains if all(name in run.domains for run in runs)]


def _scored_alike(runs: Sequence[Run], domain: str) -> bool:
    """Whether the runs scored the same examples of a domain's test set, in the same order."""
    return len({run.manifest["data"][domain]["test"]["fingerprint"] for run in runs}) == 1


def _common_metrics(runs: Sequence[Run]) -> list[str]:
    """Return the names of the metrics that all runs measured, with the same signature."""
    signatures = [run.manifest["metrics"] for run in runs]
    return [
        name for name in runs[0].metrics if all(each.get(name) == signatures[0][name] for each in signatures)
    ]


def _cannot_change(runs: Sequence[Run], metric: str) -> set[str]:
    """Return the names of the methods that cannot change a metric in any run that tried them."""
    tried = {name for run in runs for name in run.methods}
    changing = {name for run in runs for name in set(run.methods) - run.cannot_change(metric)}
    return tried - changing


def _by_name(analyses: Sequence[Analysis]) -> dict[str, list[Analysis]]:
    """Return the runs by name: the shortest ends of their paths that tell them apart."""
    groups: dict[Path, list[Analysis]] = defaultdict(list)
    for analysis in analyses:
        directory = analysis.run.directory.resolve()
        repeats = re.fullmatch(r"seed-\d+", directory.name)
        groups[directory.parent if repeats else directory].append(analysis)
    shared = os.path.commonpath([directory.parent for directory in groups])
    return {directory.relative_to(shared).as_posix(): group for directory, group in groups.items()}


def _ends(directories: Sequence[Path]) -> list[str]:
    """Return paths without the directories that all of them are in."""
    paths = [directory.absolute() for directory in directories]
    around = (each for each in paths[0].parents if all(each in path.parents for path in paths))
    shared = next(around, None)
    return [path.relative_to(shared).as_posix() if shared else str(path) for path in paths]


def _named(runs: Sequence[Run]) -> str:
    return " and ".join(str(run.directory) for run in runs)
