"""Two runs on the same test sets, paired example by example."""

from collections.abc import Iterator, Sequence

from pandas import DataFrame

from nvreg.document import Blocks, Table
from nvreg.errors import UserError
from nvreg.report import Analysis
from nvreg.report.common import common_domains, common_metrics, scored_alike
from nvreg.report.page import SELECTION, SELECTION_AND_METHOD, intervals, metric_section
from nvreg.report.reading import Run
from nvreg.report.selection import pretrained
from nvreg.report.tables import Row, contrasts_table, methods_of, repeated


def compare(first: Analysis, second: Analysis) -> tuple[Blocks, dict[str, DataFrame]]:
    """Return a page and the one table it shows: how the second run's scores differ from the first's.

    The pretrained models are compared, and what each protocol chooses with each method that both runs tried;
    where each tried one method, these two.

    Columns of the table: metric, method, protocol, domain; other, the first run's score; the fields of
    `nvreg.report.contrasts.Contrast`, and p_holm, p corrected over the domains.

    Raises:
        UserError: if the runs have no domain or no metric in common, or differ in the examples of a domain.
    """
    runs = (first.run, second.run)
    domains, metrics = common_domains(runs), common_metrics(runs)
    for what, common in {"a domain": domains, "a metric of one signature": metrics}.items():
        if not common:
            raise UserError(
                f"expected runs that have {what} in common, got {_named(runs)}; "
                "sweep one of them again as the other"
            )
    for domain in domains:
        if not scored_alike(runs, domain):
            raise UserError(
                f"expected the same examples of {domain} in both runs, got others in each of "
                f"{_named(runs)}; sweep one of them again on the data of the other"
            )
    table = contrasts_table(metrics, domains, list(_rows(first, second))).drop(columns=["trial", "setting"])
    table.insert(list(table.columns).index("score"), "other", table["score"] - table["difference"])
    labels = SELECTION_AND_METHOD if table["method"].nunique() > 2 else SELECTION
    blocks: list[str | Table] = [
        f"# {runs[1].experiment.name} against {runs[0].experiment.name}",
        f"Each cell is {runs[0].directory} → {runs[1].directory} and the difference, paired by example.",
    ]
    for metric, rows in table.groupby("metric", sort=False):
        blocks += metric_section(str(metric), rows, labels, runs[0].in_domain)
        blocks.append(intervals("other run"))
    return blocks, {"comparison": table}


def _rows(first: Analysis, second: Analysis) -> Iterator[Row]:
    models = {"method": "pretrained", "protocol": "pretrained"}
    yield Row(models, [pretrained(second.run)], [pretrained(first.run)])
    tried = methods_of(second.selections)
    methods = [(method, method) for method in methods_of(first.selections) if method in tried]
    if len(first.run.methods) == len(second.run.methods) == 1:
        methods = [(first.run.methods[0], second.run.methods[0])]
    for theirs, ours in methods:
        name = ours if ours == theirs else f"{ours} against {theirs}"
        others = repeated([first], theirs)
        for protocol, selections in repeated([second], ours).items():
            if protocol in others:
                yield Row({"method": name, "protocol": protocol}, selections, others[protocol])


def _named(runs: Sequence[Run]) -> str:
    return " and ".join(str(run.directory) for run in runs)
