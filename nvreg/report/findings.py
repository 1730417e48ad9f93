"""What a table says in words: which domains a choice improves or worsens, also after temperature."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

import numpy as np
from pandas import DataFrame, Series

from nvreg.document import Tone
from nvreg.protocols import upper_bounds
from nvreg.report.analysis import matching_of
from nvreg.report.cells import CANNOT, keeps_pretrained
from nvreg.results import PRETRAINED

OUTCOMES = {
    True: (("improves", "above"), ("worsens", "below")),
    False: (("improves", "below"), ("worsens", "above")),
    None: (("raises", "above"), ("lowers", "below")),
}
"""The verbs for domains whose interval is above or below zero, by the metric's direction."""

KEPT, NOTHING, INAPPLICABLE = "keeps the pretrained model", "shows no difference", "does not apply"
UNKNOWN = "has no interval"
"""The verdicts on a domain beside these verbs."""

ROUNDING = 1e-6
"""How close to zero the end of an interval is taken for zero, in units of the score: models compute in
float32 at best."""

MANY = 3
"""The most methods of which nothing comes that are named; more are left out together."""


def findings(
    rows: DataFrame,
    labels: Iterable[str],
    higher_is_better: bool | None,
    after: DataFrame | None = None,
    cannot_change: Collection[str] = (),
) -> list[str]:
    """Return one sentence for each group of rows of the table with the same outcome, upper bounds left out.

    Args:
        rows: the rows of one metric.
        labels: the columns that name a row of the table.
        higher_is_better: the metric's direction.
        after: the rows of the metric after temperature, of which the sentences then tell too.
        cannot_change: the methods no setting of which can change the metric.
    """
    shown = rows[~rows["protocol"].isin(upper_bounds())]
    others = [label for label in labels if label != "protocol"]
    outcomes: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for label, cells in shown.groupby([*others, "protocol"], sort=False):
        *names, protocol = map(str, label)
        if cells["score"].isna().all() or cells["difference"].notna().any():
            finding = _finding(cells, higher_is_better, None if after is None else _same_row(after, cells))
            if "method" in cells and cells["method"].isin(cannot_change).all():
                finding = CANNOT
            outcomes[finding][" ".join(names)].append(protocol)
    every = set(shown["protocol"]) - {PRETRAINED}
    nothing = _outcome({}, higher_is_better)
    rest = outcomes.pop(nothing) if len(outcomes.get(nothing, ())) > MANY else {}
    sentences = [
        f"{', '.join(_subject(name, protocols, every) for name, protocols in subjects.items())}: {finding}."
        for finding, subjects in outcomes.items()
    ]
    return [*sentences, f"{'all others' if sentences else 'all'}: {nothing}."] if rest else sentences


def keeps_everywhere(rows: DataFrame) -> bool:
    """Return whether every selection chooses the pretrained model for all domains, upper bounds left out."""
    chosen = rows[_are_selections(rows) & rows["score"].notna()]
    return len(chosen) > 0 and bool(keeps_pretrained(chosen).all())


def _are_selections(rows: DataFrame) -> Series:
    return ~rows["protocol"].isin([PRETRAINED, *upper_bounds()])


def verdicts(cells: DataFrame, higher_is_better: bool | None) -> list[str]:
    """Return what the cells of one row of a table say of each domain.

    A verb of `OUTCOMES` where the interval that repeats the choice excludes zero by more than rounding,
    `UNKNOWN` where there is none. A row keeps the pretrained model where it chooses it for all domains, at
    the temperature of what it is compared with.
    """
    measured, kept = cells["score"].notna(), keeps_pretrained(cells)
    if measured.any() and kept[measured].all():
        return [KEPT if each else INAPPLICABLE for each in measured]
    verbs = {side: verb for verb, side in OUTCOMES[higher_is_better]}
    low, high = (cells[f"{end}_reselected"].to_numpy() for end in ("low", "high"))
    least = ROUNDING * _scale(cells)
    said = np.where(low >= least, verbs["above"], np.where(high <= -least, verbs["below"], NOTHING))
    said = np.where(np.isnan(low) & ~kept.to_numpy(), UNKNOWN, said)
    return [str(verdict) for verdict in np.where(measured, said, INAPPLICABLE)]


def _scale(cells: DataFrame) -> np.ndarray:
    """Return the smaller of two scores that are compared, or 1 where neither is a number above 0."""
    score, other = (
        each.abs().where(np.isfinite(each) & each.ne(0))
        for each in (cells["score"], cells["score"] - cells["difference"])
    )
    return np.nan_to_num(np.fmin(score.to_numpy(), other.to_numpy()), nan=1.0)


def tones(cells: DataFrame, higher_is_better: bool | None) -> list[Tone]:
    """Return which cells of one row of a table are better or worse, as `verdicts` tells."""
    if higher_is_better is None:
        return [""] * len(cells)
    (better, _), (worse, _) = OUTCOMES[higher_is_better]
    known: dict[str, Tone] = {better: "better", worse: "worse"}
    return [known.get(verdict, "") for verdict in verdicts(cells, higher_is_better)]


def _subject(name: str, protocols: list[str], every: set[str]) -> str:
    if not name or protocols == [PRETRAINED]:
        return name or ", ".join(protocols)
    return f"{name} ({'every selection' if every <= set(protocols) else ', '.join(protocols)})"


def _finding(cells: DataFrame, higher_is_better: bool | None, after: DataFrame | None) -> str:
    said = dict(zip(cells["domain"], verdicts(cells, higher_is_better), strict=True))
    if set(said.values()) == {INAPPLICABLE}:
        matching = matching_of(str(cells["method"].iloc[0])) if "method" in cells else None
        return f"{INAPPLICABLE}, {matching.no_match if matching else 'nothing to choose by'}"
    if KEPT in said.values():
        return KEPT
    if after is None or after.empty:
        return _outcome(said, higher_is_better)
    then = dict(zip(after["domain"], verdicts(after, higher_is_better), strict=True))
    return _outcome(said, higher_is_better, then)


def _same_row(table: DataFrame, cells: DataFrame) -> DataFrame:
    """Return the cells of another table with the labels that these have."""
    labels = [name for name in ("run", "method", "protocol") if name in cells]
    return table[(table[labels] == cells[labels].iloc[0]).all(axis=1)]


def _outcome(
    said: Mapping[str, str], higher_is_better: bool | None, after: Mapping[str, str] | None = None
) -> str:
    def domains(verb: str, verdicts: Mapping[str, str]) -> str:
        return ", ".join(domain for domain, verdict in verdicts.items() if verdict == verb)

    unknown = domains(UNKNOWN, said)
    if unknown and set(said.values()) <= {UNKNOWN, INAPPLICABLE}:
        return f"no interval on {unknown}"
    parts = []
    for verb, _ in OUTCOMES[higher_is_better]:
        named = domains(verb, said)
        parts.append(f"{verb} {named or 'no domain'}")
        then = named if after is None else domains(verb, after)
        if after is not None and (words := left_in_words(named, then)):
            parts[-1] += f"{', ' if named == then else '; '}{words}"
    if unknown:
        parts.append(f"no interval on {unknown}")
    return "; ".join(parts)


def left_in_words(named: str, after: str) -> str:
    """Say what becomes of the domains of a verb after temperature; nothing where there are none.

    Args:
        named: the domains.
        after: those of the same verb after temperature.
    """
    if named == after:
        return "also after temperature" if named else ""
    return f"after temperature {after}" if after else "not after temperature"
