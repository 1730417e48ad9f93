"""What runs of the embedded suite have in common with the committed tables: ``make reproduce`` ends in this.

    python -m scripts.compare results/embedded results/runs/embedded classification translation --tuned rivals

A score may differ a little on another processor, which rounds sums in its own way. What the tables say, their
verdicts, may not: for every metric, method and selection, whether a domain improves or worsens or the
pretrained model is kept. The exit code is 1 when a verdict flips on a model that comes with nvreg. Models
that are fine-tuned on the spot are others on another processor, as they are with another seed: their scores
are compared with the deviation over seeds, and their verdicts may flip.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from pandas import DataFrame

from nvreg.errors import UserError
from nvreg.metrics import METRICS
from nvreg.protocols import upper_bounds
from nvreg.report.findings import verdicts

LABELS = ("metric", "run", "method", "protocol", "seed", "domain")
"""The columns that name a row of a table, as far as it has them."""

NUMBERS = ("score", "deviation", "difference", "low_reselected", "high_reselected")
"""The columns that are compared."""

ROUNDING = 1e-6
"""The relative difference of scores that comes from rounding alone."""

DEVIATIONS = 2
"""How many standard deviations over seeds the score of a fine-tuned model may be away."""

TUNED = ("combined", "rivals")
"""The tables of runs on fine-tuned models: each against its own model, and NV against everything else."""

Key = tuple[str, ...]
"""The labels of a row."""


class Flip(NamedTuple):
    """A row of which one table says something else than the other, and what either says."""

    row: str
    committed: str
    again: str


class Agreement(NamedTuple):
    """What two tables have in common.

    Attributes:
        scores: The number of scores in the committed table.
        close: The number of them that the other table has within the tolerance.
        largest: The largest relative difference of a score that both have.
        where: The row of that one, and both scores.
        verdicts: The number of verdicts in either table.
        flips: Those that differ.
    """

    scores: int
    close: int
    largest: float
    where: str
    verdicts: int
    flips: list[Flip]


def read_table(path: Path) -> DataFrame:
    """Read a table of scores that ``nvreg report`` wrote, with what names a row as its index.

    Raises:
        UserError: if it is missing, or is no such table.
    """

    def mistake(got: str) -> UserError:
        return UserError(
            f"expected a table of scores in {path}, got {got}: make results writes the committed tables, "
            "make reproduce those of the runs"
        )

    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(LABELS, str) | dict.fromkeys(NUMBERS, float))
    except FileNotFoundError:
        raise mistake("no file") from None
    except (OSError, ValueError) as error:  # of pandas, whose errors of parsing are of values
        raise mistake(str(error).splitlines()[0]) from error
    if missing := [name for name in ("metric", "protocol", "domain", *NUMBERS) if name not in table]:
        raise mistake(f"one without {', '.join(missing)}")
    if table.empty:
        raise mistake("one without rows")
    labels = [name for name in LABELS if name in table]
    table = table.fillna(dict.fromkeys(labels, "")).set_index(labels)
    if unknown := set(table.index.unique("metric")) - METRICS.keys():
        raise mistake(f"the metric {min(unknown)!r}")
    if not table.index.is_unique:
        raise mistake(f"two rows of {_text(table.index[table.index.duplicated()][0])}")
    return table


def verdicts_of(table: DataFrame) -> dict[Key, str]:
    """Return what a table of `read_table` says of every domain for every choice but an upper bound.

    As its report does (`nvreg.report.findings.verdicts`).
    """
    choices = table[table["difference"].notna() | table["score"].isna()]
    choices = choices[~choices.index.get_level_values("protocol").isin(upper_bounds())]
    found: dict[Key, str] = {}
    for _, row in choices.groupby([name for name in table.index.names if name != "domain"], sort=False):
        found |= zip(row.index, verdicts(row, METRICS[row.index[0][0]].higher_is_better), strict=True)
    return found


def compare(committed: DataFrame, again: DataFrame) -> Agreement:
    """Compare two tables of `read_table`."""
    rows = committed[committed["score"].notna()]
    old, new = rows["score"].to_numpy(), again["score"].reindex(rows.index).to_numpy()
    with np.errstate(invalid="ignore"):  # of infinities, a destroyed model's
        differences = np.where(old == new, 0, np.abs(old - new))
    size = np.maximum(np.abs(old), np.abs(new))
    relative = np.nan_to_num(np.divide(differences, size, out=np.zeros_like(size), where=differences != 0))
    close = differences <= np.maximum(ROUNDING * size, DEVIATIONS * rows["deviation"].fillna(0))
    place = int(relative.argmax())
    ours, theirs = verdicts_of(committed), verdicts_of(again)
    return Agreement(
        scores=len(rows),
        close=int(close.sum()),
        largest=float(relative[place]),
        where=f"{_text(rows.index[place])}: {old[place]:.6g} → {new[place]:.6g}",
        verdicts=len(ours.keys() | theirs.keys()),
        flips=[
            Flip(_text(key), _said(committed, ours, key), _said(again, theirs, key))
            for key in dict.fromkeys([*ours, *theirs])
            if ours.get(key) != theirs.get(key)
        ],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what agrees; return 1 where a verdict flips, 2 where a table is missing or cannot be read."""
    parser = argparse.ArgumentParser(prog="compare", description="Compare runs with the committed tables.")
    parser.add_argument("committed", type=Path, help="The folder with a folder of tables for each run.")
    parser.add_argument("runs", type=Path, help="The folder of the runs.")
    parser.add_argument("names", nargs="*", help="Runs on models that come with nvreg.")
    parser.add_argument("--tuned", nargs="*", default=[], help="Runs on models that were fine-tuned here.")
    given = parser.parse_args(arguments)

    def agreement(name: str, table: str) -> Agreement:
        committed, again = given.committed / name, given.runs / name / "tables"
        return compare(*(read_table(folder / f"{table}.csv") for folder in (committed, again)))

    try:
        built_in = {name: agreement(name, "scores") for name in given.names}
        tuned = {f"{name}, {table}": agreement(name, table) for name in given.tuned for table in TUNED}
    except UserError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    print(f"Compared with {given.committed}:")
    for name, found in built_in.items():
        _print(name, found, f"{ROUNDING:g}")
    for name, found in tuned.items():
        _print(f"{name} (fine-tuned here)", found, f"{DEVIATIONS} deviations over seeds")
    flipped = sum(len(found.flips) for found in built_in.values())
    of = sum(found.verdicts for found in built_in.values())
    print(f"{of - flipped} of {of} verdicts on the models that come with nvreg agree.")
    return 1 if flipped else 0


def _print(name: str, found: Agreement, tolerance: str) -> None:
    furthest = f", the furthest by {found.largest:.1g} ({found.where})" if found.largest else ""
    print(
        f"  {name}: {found.close} of {found.scores} scores within {tolerance}{furthest}; "
        f"{found.verdicts - len(found.flips)} of {found.verdicts} verdicts"
    )
    for flip in found.flips:
        print(f"    {flip.row}: {flip.committed} → {flip.again}")


def _said(table: DataFrame, found: Mapping[Key, str], key: Key) -> str:
    """Return a verdict, with the interval that it comes from."""
    if key not in found:
        return "is not there"
    low, high = table.loc[key, ["low_reselected", "high_reselected"]]
    return f"{found[key]} {{{low:+.3g}, {high:+.3g}}}"


def _text(key: Key) -> str:
    return ", ".join(label for label in key if label)


if __name__ == "__main__":
    sys.exit(main())
