"""NV against everything else that was tried: what each protocol chose of either, on the same examples."""

from collections.abc import Iterator, Mapping, Sequence

from pandas import DataFrame

from nvreg.protocols import PROTOCOLS
from nvreg.report.matching import NV
from nvreg.report.reading import Run
from nvreg.report.selection import pretrained
from nvreg.report.tables import Row, Selections, contrasts_table, methods_of, repeated

Repetitions = Sequence[tuple[Run, Selections]]
"""Runs that repeat each other, and what was chosen in each."""


def rivals_table(metric: str, domains: Sequence[str], groups: Mapping[str, Repetitions]) -> DataFrame | None:
    """Return what NV has over each rival, or None where it has none.

    NV is that of the first group that tried it. Its rivals are the other methods of the group and, of every
    other group, the models as they came and all methods; the oracle, which is no selection, is left out.

    Args:
        metric: the one to compare by.
        domains: that all groups have scored the same examples of.
        groups: runs that repeat each other, by name.

    Returns:
        The columns of `nvreg.report.tables.contrasts_table` but trial and setting, with protocol, run and
        method for labels, and other, the rival's score.

    Raises:
        UserError: if an example file of a chosen trial cannot be read.
    """
    rows = list(_rows(groups))
    if not rows:
        return None
    table = contrasts_table([metric], domains, rows).drop(columns=["trial", "setting"])
    table.insert(list(table.columns).index("score"), "other", table["score"] - table["difference"])
    return table


def home_of(groups: Mapping[str, Repetitions]) -> str | None:
    """Return the name of the first group that tried NV."""
    return next((name for name, group in groups.items() if repeated(group, NV)), None)


def _rows(groups: Mapping[str, Repetitions]) -> Iterator[Row]:
    if (home := home_of(groups)) is None:
        return
    for protocol, ours in repeated(groups[home], NV).items():
        if PROTOCOLS[protocol].is_upper_bound:
            continue
        for name, group in groups.items():
            if name != home:
                models = [pretrained(run) for run, _ in group]
                yield Row({"protocol": protocol, "run": name, "method": "pretrained"}, ours, models)
            for method in methods_of(*(selections for _, selections in group)):
                theirs = repeated(group, method).get(protocol)
                if theirs and (name, method) != (home, NV):
                    yield Row({"protocol": protocol, "run": name, "method": method}, ours, theirs)
