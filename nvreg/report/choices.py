"""What selections chose, as sentences tell of them: where it helps and harms, and by how much."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pandas import DataFrame

from nvreg.metrics import METRICS
from nvreg.protocols import upper_bounds
from nvreg.report.cells import interval_text, with_decimals
from nvreg.report.findings import INAPPLICABLE, OUTCOMES, verdicts
from nvreg.results import PRETRAINED
from nvreg.rounding import number_text

TOLD = (
    "leave-one-domain-out",
    "out-of-domain-validation",
    "unlabelled",
    "in-domain-tolerance",
    "in-domain",
)
"""Which selection a verdict tells of: the first that applies, and never one that test scores have picked."""


@dataclass(frozen=True)
class Choice:
    """What a selection chose of a method, and what it does on each domain.

    Attributes:
        method: its name.
        run: the name of the run, empty on the page of one.
        protocol: what chose.
        records: a row of the table for each domain, with decimals.
        said: the verdict on each domain.
        better: the verdict of what is better.
        worse: the verdict of what is worse.
        after: the same choice after temperature; None where no temperature changes the metric or none were
            kept.
    """

    method: str
    run: str
    protocol: str
    records: Mapping[str, Mapping[Any, Any]]
    said: Mapping[str, str]
    better: str
    worse: str
    after: Choice | None = None

    @property
    def name(self) -> str:
        """The name of the method, with its run's."""
        return f"{self.method} on {self.run}" if self.run else self.method

    def helped(self, domains: Sequence[str]) -> list[str]:
        """Return which domains are better."""
        return [name for name in domains if self.said.get(name) == self.better]

    def harmed(self, domains: Sequence[str]) -> list[str]:
        """Return which domains are worse."""
        return [name for name in domains if self.said.get(name) == self.worse]

    @property
    def differs(self) -> bool:
        """Whether any domain is better or worse."""
        return not {self.better, self.worse}.isdisjoint(self.said.values())

    def left(self, domains: Iterable[str]) -> list[str] | None:
        """Return on which domains the verdict is the same after temperature; None where that is unknown."""
        if self.after is None:
            return None
        return [name for name in domains if self.after.said.get(name) == self.said.get(name)]

    def exceeds(self, other: Choice, domain: str) -> bool:
        """Return whether the gain on a domain is larger than another choice's: their intervals are apart.

        They are of differences from one model. Where two such intervals do not meet, the choices differ,
        however their differences hang together.
        """
        mine, theirs = self.records.get(domain), other.records.get(domain)
        if mine is None or theirs is None or self.said.get(domain) != self.better:
            return False
        if mine["low_reselected"] > 0:
            return bool(mine["low_reselected"] > theirs["high_reselected"])
        return bool(mine["high_reselected"] < theirs["low_reselected"])

    def change(self, domain: str) -> str:
        """Return a domain's difference with its interval."""
        record = self.records[domain]
        return f"{number_text(record['difference'], record['decimals'], '+')} {interval_text(record)}".strip()

    def step(self, domain: str) -> str:
        """Say from which score to which a domain goes."""
        record = self.records[domain]
        before, after = (
            number_text(score, record["decimals"])
            for score in (record["score"] - record["difference"], record["score"])
        )
        return f"from {before} to {after} ({self.change(domain)}) on {domain}"


def listing(names: Sequence[str]) -> str:
    """Return names as a sentence lists them."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def choices_in(metric: str, table: DataFrame, after: DataFrame | None = None) -> Iterator[Choice]:
    """Yield what each selection chose in a table; upper bounds and models as they came are left out.

    Args:
        metric: the one that is told of.
        table: the table.
        after: the same after temperature; None where there is none.
    """
    tempered = () if after is None else choices_in(metric, after)
    left = {(each.name, each.protocol): each for each in tempered}
    higher_is_better = METRICS[metric].higher_is_better
    (better, _), (worse, _) = OUTCOMES[higher_is_better]
    rows = table[table["metric"].eq(metric) & ~table["protocol"].isin([PRETRAINED, *upper_bounds()])]
    if rows.empty:
        return
    labels = [name for name in ("run", "method", "protocol") if name in rows]
    for label, cells in with_decimals(rows).groupby(labels, sort=False):
        named = dict(zip(labels, map(str, label), strict=True))
        records = {str(record["domain"]): record for record in cells.to_dict("records")}
        said = dict(zip(records, verdicts(cells, higher_is_better), strict=True))
        choice = Choice(
            named["method"], named.get("run", ""), named["protocol"], records, said, better, worse
        )
        yield replace(choice, after=left.get((choice.name, choice.protocol)))


def told_of(choices: Sequence[Choice]) -> list[Choice]:
    """Return what the selection chose that a verdict tells of, of every method and run."""
    applied = [each for each in choices if set(each.said.values()) != {INAPPLICABLE}] or choices
    protocol = told_protocol(each.protocol for each in applied)
    return [each for each in applied if each.protocol == protocol]


def told_protocol(protocols: Iterable[str]) -> str:
    """Return the name of the selection that a page tells of first, among some."""
    known = dict.fromkeys(protocols)
    return next((name for name in TOLD if name in known), next(iter(known)))
