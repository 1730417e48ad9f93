"""Several runs on the same data in one table: sweeps of differently trained models, for one."""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from pandas import DataFrame

from nvreg.report import Analysis
from nvreg.report.common import common_domains, common_metrics, scored_alike
from nvreg.report.document import Blocks, Table
from nvreg.report.page import METHOD_AND_SELECTION, SELECTION, intervals, metric_section
from nvreg.report.tables import contrasts_table, method_rows


def combined(analyses: Sequence[Analysis]) -> tuple[Blocks, dict[str, DataFrame]] | None:
    """Return a page and the table it shows, or None where the runs share no test set or no metric.

    A run is named after its directory. Runs in directories seed-1, seed-2 and so on of one directory are
    repetitions, with models of other seeds, and named after that one.

    Columns of the table: metric, run, and those of `nvreg.report.tables.methods_table`, where each run is
    compared with its own pretrained model.

    Raises:
        UserError: if an example file of a chosen trial cannot be read.
    """
    runs = [run for run, _ in analyses]
    domains = [domain for domain in common_domains(runs) if scored_alike(runs, domain)]
    metrics = common_metrics(runs)
    if not domains or not metrics:
        return None
    rows = [row for name, group in _named(analyses).items() for row in method_rows(group, run=name)]
    table = contrasts_table(metrics, domains, rows)
    methods = {row.labels["method"] for row in rows} - {"pretrained"}
    labels = {"run": "run", **(METHOD_AND_SELECTION if len(methods) > 1 else SELECTION)}
    blocks: list[str | Table] = [
        f"# {len(runs)} runs",
        "Each is compared with its own pretrained model. Of repetitions the mean is shown, ± the standard "
        "deviation of their scores.",
    ]
    for metric, cells in table.groupby("metric", sort=False):
        blocks += metric_section(str(metric), cells, labels, runs[0].in_domain)
        blocks.append(intervals("pretrained model"))
    return blocks, {"combined": table}


def _named(analyses: Sequence[Analysis]) -> dict[str, list[Analysis]]:
    """Return the runs by name: the shortest ends of their paths that tell them apart."""
    groups: dict[Path, list[Analysis]] = defaultdict(list)
    for analysis in analyses:
        directory = analysis.run.directory.resolve()
        repeats = re.fullmatch(r"seed-\d+", directory.name)
        groups[directory.parent if repeats else directory].append(analysis)
    shared = os.path.commonpath([directory.parent for directory in groups])
    return {directory.relative_to(shared).as_posix(): group for directory, group in groups.items()}
