"""What the committed tables of a run say: which choices improve which sets, plain and after temperature."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pandas import DataFrame

from nvreg.errors import UserError
from nvreg.metrics import METRICS
from nvreg.protocols import upper_bounds
from nvreg.report.analysis import NV, matching_of
from nvreg.report.cells import RESELECTED, gain_text, keeps_pretrained, with_decimals
from nvreg.report.findings import KEPT, OUTCOMES, verdicts
from nvreg.report.sections import AFTER_TEMPERATURE
from nvreg.results import PRETRAINED
from scripts.quoting import CHOICE, read, selection_metric

SOFTENING = "output-temperature"
"""The control that divides logits, which no gain after temperature can come from."""

AFTER = AFTER_TEMPERATURE.strip("-")
"""Name of the table after temperature."""

UNMEASURED = "not measured yet"

CONTROLS = "-controls"
"""End of the name of a run that measures other methods of the same experiment."""


@dataclass(frozen=True)
class Outcome:
    """What the tables of one run say by the metric that settings were chosen on.

    Attributes:
        metric: its name.
        plain: the table of methods, of this metric.
        after: the same after temperature; None where no temperature changes the metric, or none was kept.
    """

    metric: str
    plain: DataFrame
    after: DataFrame | None

    @property
    def final(self) -> DataFrame:
        """The table after temperature, or else the plain one."""
        return self.plain if self.after is None else self.after

    @property
    def in_domain(self) -> str:
        """Name of the in-domain set, the first."""
        return str(self.plain["domain"].iloc[0])

    @property
    def others(self) -> list[str]:
        """Names of the sets out of domain."""
        return [str(name) for name in self.plain["domain"].unique() if name != self.in_domain]

    @property
    def methods(self) -> list[str]:
        """Names of the methods that were measured."""
        return [str(name) for name in self.plain["method"].unique() if name != PRETRAINED]

    @property
    def controls(self) -> list[str]:
        """Names of the simple controls: all but forms of NV, what is matched to it, and softening."""
        return [
            name
            for name in self.methods
            if name != SOFTENING and not matching_of(name) and not name.startswith(NV)
        ]

    @property
    def verbs(self) -> tuple[str, str]:
        """The verbs of the verdicts for better and for worse."""
        (better, _), (worse, _) = OUTCOMES[METRICS[self.metric].higher_is_better]
        return better, worse

    @property
    def direction(self) -> str:
        """Which direction of the metric is better, as an arrow."""
        return "↑" if METRICS[self.metric].higher_is_better else "↓"

    def scores(self) -> dict[str, float]:
        """Return the pretrained model's score on each domain, in domain first."""
        cells = self.plain[self.plain["method"].eq(PRETRAINED)]
        return dict(zip(cells["domain"], cells["score"], strict=True))

    def said(self, table: DataFrame, method: str, protocol: str) -> dict[str, str]:
        """Return the verdict on each domain."""
        cells = rows_of(table, method, protocol)
        return dict(zip(cells["domain"], verdicts(cells, METRICS[self.metric].higher_is_better), strict=True))

    def chosen(self, table: DataFrame, method: str, protocol: str) -> list[str]:
        """Return the sets out of domain for which a protocol can choose."""
        cells = rows_of(table, method, protocol)
        return [name for name in self.others if name in set(cells["domain"][cells["score"].notna()])]

    def changed(self, table: DataFrame, method: str, protocol: str) -> tuple[list[str], list[str]]:
        """Return the sets out of domain that a choice improves, and those that it worsens."""
        said = self.said(table, method, protocol)
        better, worse = ([name for name in self.others if said[name] == verb] for verb in self.verbs)
        return better, worse

    def net(self, table: DataFrame, method: str, protocol: str) -> tuple[int, bool]:
        """Return how many sets out of domain improve less those that worsen, and if in domain is spared."""
        better, worse = self.changed(table, method, protocol)
        in_domain = self.said(table, method, protocol)[self.in_domain]
        return len(better) - len(worse), in_domain != self.verbs[1]

    def best_protocol(self, method: str) -> str | None:
        """Return the selection under which most sets out of domain improve, after temperature before as is.

        Upper bounds are no selections. Of equals it is the first. None where no selection applies.
        """
        rows = self.plain[self.plain["method"].eq(method) & self.plain["score"].notna()]
        protocols = [str(name) for name in rows["protocol"].unique() if name not in upper_bounds()]
        ranks = {
            name: (self.net(self.final, method, name), self.net(self.plain, method, name))
            for name in protocols
        }
        return max(ranks, key=lambda name: ranks[name]) if ranks else None

    def best_control(self) -> str | None:
        """Return the simple control whose choices by `CHOICE` gain most out of domain, relatively.

        It is picked by test scores, which flatters the control.
        """
        gains = {name: self._gain(name) for name in self.controls}
        known = {name: gain for name, gain in gains.items() if not pd.isna(gain)}
        return max(known, key=lambda name: known[name]) if known else None

    def _gain(self, method: str) -> float:
        cells = rows_of(self.final, method, CHOICE)
        cells = cells[cells["domain"].isin(self.others)]
        relative = cells["difference"] / (cells["score"] - cells["difference"]).abs()
        return float(relative.mean()) * (1 if METRICS[self.metric].higher_is_better else -1)


def rows_of(table: DataFrame, method: str, protocol: str) -> DataFrame:
    """Return what a protocol chose of a method, a row a domain."""
    return table[table["method"].eq(method) & table["protocol"].eq(protocol)]


def controls_of(directory: Path) -> Path:
    """Return where the tables of the other run of the same experiment are, if there is one."""
    return directory.with_name(directory.name + CONTROLS)


def gain_of(table: DataFrame, method: str, protocol: str, domain: str) -> str:
    """Return the difference that a choice makes on a domain, with the interval that repeats the choice."""
    shown = with_decimals(table.assign(p_holm=float("nan")), [RESELECTED])
    cells = rows_of(shown, method, protocol)
    found = cells[cells["domain"].eq(domain)]
    if found.empty:
        return UNMEASURED
    return KEPT if keeps_pretrained(found).all() else gain_text(found.to_dict("records")[0])


def read_outcome(directory: Path) -> Outcome:
    """Return what the committed tables of a run say, and those of the run of its controls.

    Raises:
        UserError: if a report is missing, or the two runs measured the pretrained model differently.
    """
    outcome = read_tables(directory)
    if not (controls := controls_of(directory)).is_dir():
        return outcome
    other = read_tables(controls)
    same = outcome.metric == other.metric and outcome.scores().keys() == other.scores().keys()
    if not same or not np.allclose(
        [*outcome.scores().values()], [*other.scores().values()], rtol=0, atol=1e-6
    ):
        raise UserError(
            f"{controls}: expected the pretrained model's scores of {directory.name} ({outcome.scores()} by "
            f"{outcome.metric}), got {other.scores()} by {other.metric}: run both on the same model and data"
        )
    after = None if outcome.after is None or other.after is None else _joined(outcome.after, other.after)
    return Outcome(outcome.metric, _joined(outcome.plain, other.plain), after)


def _joined(table: DataFrame, other: DataFrame) -> DataFrame:
    """Return a table with the rows of those methods of another that it has not."""
    return pd.concat([table, other[~other["method"].isin(table["method"])]], ignore_index=True)


def read_tables(directory: Path) -> Outcome:
    """Return what the committed tables of one run say.

    Raises:
        UserError: if its report is missing.
    """
    metric = selection_metric(read(directory / "report.md"))
    tables = {}
    for name in ("methods", "scores", AFTER):
        if (path := directory / f"{name}.csv").is_file():
            table = pd.read_csv(path, dtype={"temperature": str, "other_temperature": str})
            tables[name] = table[table["metric"].eq(metric)]
    after = tables.get(AFTER)
    plain = tables.get("methods", tables.get("scores"))
    if plain is None:
        raise UserError(f"expected {directory / 'methods.csv'}, got none: nvreg report writes it")
    return Outcome(metric, plain, None if after is None or after.empty else after)


def outcomes(committed: Path) -> Iterator[tuple[Path, Outcome | None]]:
    """Yield the directory of every experiment and every other run, and what it says if it is there."""
    planned = {path.stem for path in (committed / "experiments").glob("*.yaml")}
    taken = {path.parent.name for path in committed.glob("*/*.md")}
    taken -= {controls_of(committed / name).name for name in planned | taken}
    for name in sorted(planned | taken):
        directory = committed / name
        yield directory, read_outcome(directory) if (directory / "report.md").is_file() else None
