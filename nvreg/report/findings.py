"""What a table says in a few sentences, by the intervals that repeat the choice."""

from collections import defaultdict
from collections.abc import Iterable

from pandas import DataFrame

from nvreg.protocols import upper_bounds
from nvreg.report.matching import MATCHED, NO_MATCH
from nvreg.results import PRETRAINED_NUMBER

OUTCOMES = {
    True: (("improves", "above"), ("worsens", "below")),
    False: (("improves", "below"), ("worsens", "above")),
    None: (("raises", "above"), ("lowers", "below")),
}

MANY = 3
"""Methods of the same outcome; of more that nothing comes of the names are left out."""


def findings(rows: DataFrame, labels: Iterable[str], higher_is_better: bool | None) -> list[str]:
    """Return one sentence for each group of rows of the table with the same outcome, the oracle left out.

    Args:
        rows: the rows of one metric.
        labels: the columns that name a row of the table.
        higher_is_better: the metric's direction.
    """
    shown = rows[~rows["protocol"].isin(upper_bounds())]
    others = [label for label in labels if label != "protocol"]
    outcomes: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for label, cells in shown.groupby([*others, "protocol"], sort=False):
        *names, protocol = map(str, label)
        if cells["score"].isna().all() or cells["difference"].notna().any():
            outcomes[_finding(cells, higher_is_better)][" ".join(names)].append(protocol)
    every = set(shown["protocol"]) - {"pretrained"}
    nothing = _outcome((), (), higher_is_better)
    rest = outcomes.pop(nothing) if len(outcomes.get(nothing, ())) > MANY else {}
    sentences = [
        f"{', '.join(_subject(name, protocols, every) for name, protocols in subjects.items())}: {finding}."
        for finding, subjects in outcomes.items()
    ]
    return [*sentences, f"{'all others' if sentences else 'all'}: {nothing}."] if rest else sentences


def _subject(name: str, protocols: list[str], every: set[str]) -> str:
    if not name or protocols == ["pretrained"]:
        return name or ", ".join(protocols)
    return f"{name} ({'every selection' if every <= set(protocols) else ', '.join(protocols)})"


def _finding(cells: DataFrame, higher_is_better: bool | None) -> str:
    measured = cells.dropna(subset="score")
    if measured.empty:
        is_matched = "method" in cells and cells["method"].eq(MATCHED).all()
        return f"does not apply, {NO_MATCH if is_matched else 'no validation set to choose on'}"
    if "trial" in measured and measured["trial"].eq(PRETRAINED_NUMBER).fillna(False).all():
        return "keeps the pretrained model"
    above, below = measured["low_reselected"] > 0, measured["high_reselected"] < 0
    return _outcome(measured["domain"][above], measured["domain"][below], higher_is_better)


def _outcome(above: Iterable[str], below: Iterable[str], higher_is_better: bool | None) -> str:
    domains = {"above": ", ".join(above), "below": ", ".join(below)}
    return "; ".join(f"{verb} {domains[side] or 'no domain'}" for verb, side in OUTCOMES[higher_is_better])
