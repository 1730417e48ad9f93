"""Several runs on the same data in one table: sweeps of differently trained models, for one."""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from pandas import DataFrame

from nvreg.document import Blocks, Table
from nvreg.report import Analysis
from nvreg.report.common import common_domains, common_metrics, scored_alike
from nvreg.report.page import SELECTION, intervals, metric_section, rivals_section
from nvreg.report.rivals import home_of, rivals_table
from nvreg.report.tables import contrasts_table, method_rows


def combined(analyses: Sequence[Analysis]) -> tuple[Blocks, dict[str, DataFrame]] | None:
    """Return a page and the tables it shows, or None where the runs share no test set or no metric.

    A run is named after its directory. Runs in directories seed-1, seed-2 and so on of one directory are
    repetitions, with models of other seeds, and named after that one.

    Tables: ``combined`` has the columns metric, run, and those of `nvreg.report.tables.methods_table`, where
    each run is compared with its own pretrained model; ``rivals``, where NV was tried and has rivals, is that
    of `nvreg.report.rivals.rivals_table`.

    Raises:
        UserError: if an example file of a chosen trial cannot be read.
    """
    runs = [run for run, _ in analyses]
    domains = [domain for domain in common_domains(runs) if scored_alike(runs, domain)]
    metrics = common_metrics(runs)
    if not domains or not metrics:
        return None
    groups = _named(analyses)
    rows = [row for name, group in groups.items() for row in method_rows(group, run=name)]
    protocols = list(dict.fromkeys(row.labels["protocol"] for row in rows))
    rows.sort(key=lambda row: protocols.index(row.labels["protocol"]))
    frames = {"combined": contrasts_table(metrics, domains, rows)}
    methods = {row.labels["method"] for row in rows} - {"pretrained"}
    labels = {**SELECTION, "run": "run", **({"method": "method"} if len(methods) > 1 else {})}
    blocks: list[str | Table] = [
        f"# {len(runs)} runs",
        "Each is compared with its own pretrained model. Of repetitions the mean is shown, ± the standard "
        "deviation of their scores. Intervals and tests are over examples, for these models: how much other "
        "seeds of training would change shows in ± alone.",
    ]
    metric, in_domain = runs[0].selection_metric, runs[0].in_domain
    rivals = rivals_table(metric, domains, groups) if metric in metrics else None
    if rivals is not None:
        frames["rivals"] = rivals
        labels_of_rivals = {"run": "against run", "method": "method"}
        blocks += rivals_section(metric, rivals, labels_of_rivals, in_domain, f"nv on {home_of(groups)}")
    for each, cells in frames["combined"].groupby("metric", sort=False):
        blocks += metric_section(str(each), cells, labels, in_domain)
        blocks.append(intervals("pretrained model"))
    return blocks, frames


def _named(analyses: Sequence[Analysis]) -> dict[str, list[Analysis]]:
    """Return the runs by name: the shortest ends of their paths that tell them apart."""
    groups: dict[Path, list[Analysis]] = defaultdict(list)
    for analysis in analyses:
        directory = analysis.run.directory.resolve()
        repeats = re.fullmatch(r"seed-\d+", directory.name)
        groups[directory.parent if repeats else directory].append(analysis)
    shared = os.path.commonpath([directory.parent for directory in groups])
    return {directory.relative_to(shared).as_posix(): group for directory, group in groups.items()}
