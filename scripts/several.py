"""What the page of several runs on the same data says: models made in several ways, and NV on each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from pandas import DataFrame

from nvreg.metrics import METRICS
from nvreg.report.analysis import NV
from nvreg.report.cells import RESELECTED, number_text, with_decimals
from nvreg.report.findings import OUTCOMES, verdicts
from nvreg.results import PRETRAINED
from scripts.outcome import gain_of
from scripts.quoting import bullets, laid_out, read, section

COMBINED = "combined.md"
"""The page of several runs."""

CHOSEN = "in-domain"
"""The selection that applies to every set."""


def told_of_several(combined: Path) -> Iterator[str]:
    """Yield what the page of several runs says by its first metric, and of NV against the others."""
    page = read(combined)
    yield f"Several runs on the same data: [all tables]({combined.parent.name}/{combined.name})."
    first = page.partition("\n## ")[2].partition(" (")[0]
    yield _models_and_gains(_read_combined(combined.parent), first)
    found = bullets(section(page, first))
    if first != "Would something" and "\n## Would something" in page:
        found += bullets(section(page, "Would something"))
    yield "\n".join(found) or f"By {first} it shows no difference."


def _read_combined(directory: Path) -> DataFrame:
    """Return the table of several runs by their first metric."""
    table = pd.read_csv(directory / "combined.csv")
    return table[table["metric"].eq(table["metric"].iloc[0])]


def _models_and_gains(table: DataFrame, metric: str) -> str:
    """Return the score of each run's own model on each set, and what NV gains on it, chosen in domain."""
    runs = list(table["run"].unique())
    rows = [[metric, *runs, *(f"{NV} on {run}" for run in runs)]]
    shown = with_decimals(table, [RESELECTED])
    for domain in table["domain"].unique():
        cells = shown[shown["domain"].eq(domain)]
        own = cells[cells["method"].eq(PRETRAINED)].set_index("run").loc[runs].to_dict("records")
        scores = [
            " ± ".join(number_text(cell[name], cell["decimals"]) for name in ("score", "deviation"))
            for cell in own
        ]
        gains = [gain_of(table[table["run"].eq(run)], NV, CHOSEN, domain) for run in runs]
        rows.append([str(domain), *scores, *gains])
    return laid_out(rows)


def ways_in_a_sentence(results: Path) -> str:
    """Quote the mean score out of domain of each model, and of how many of its sets NV changes the score."""
    told = [_ways(path.parent) for path in sorted((results / "real").glob(f"*/{COMBINED}"))]
    return f"{'; '.join(told)}." if told else "Nothing is measured yet."


def _ways(directory: Path) -> str:
    table = _read_combined(directory)
    metric = str(table["metric"].iloc[0])
    out = table[table["domain"].ne(table["domain"].iloc[0])]
    means = out[out["method"].eq(PRETRAINED)].groupby("run")["score"].mean()
    scores = [f"{run} {number_text(mean, 3)}" for run, mean in means.items()]
    (better, _), (worse, _) = OUTCOMES[METRICS[metric].higher_is_better]
    chosen = out[out["method"].eq(NV) & out["protocol"].eq(CHOSEN)]
    said = [
        verdict
        for _, cells in chosen.groupby("run")
        for verdict in verdicts(cells, METRICS[metric].higher_is_better)
    ]
    return (
        f"[{directory.name}](results/real/{directory.name}/{COMBINED}) by {metric}: {', '.join(scores)}; "
        f"of these {len(said)} pairs of a way and a set, {NV} {better} {said.count(better)} and {worse} "
        f"{said.count(worse)}"
    )
