"""A run as tidy tables: what each protocol's choice scores, what it chose, and what the search cost."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pandas import DataFrame

from nvreg.report.contrasts import Contrast, contrast
from nvreg.report.protocols import SINGLE
from nvreg.report.reading import Arm, Run
from nvreg.report.selection import Pick, Selection, pretrained
from nvreg.report.significance import holm

Selections = Mapping[Arm, Mapping[str, Selection]]
"""Each protocol's choice among the trials of each arm."""


class Row(NamedTuple):
    """A row of a table for each metric: labels, and repetitions of what is compared with what."""

    labels: Mapping[str, Any]
    ours: Sequence[Selection]
    theirs: Sequence[Selection]


def scores_table(run: Run, selections: Selections) -> DataFrame:
    """Return one row for each metric, method, seed, protocol and domain, on the test sets.

    Columns: metric, method, seed, protocol (method and protocol are ``pretrained`` for the model as it came),
    domain; the fields of `Contrast` with the pretrained model; p_holm, p corrected over the domains; trial
    and setting (JSON). Trial and setting are empty where the score is the mean over several settings, and all
    is where the protocol does not apply.

    Raises:
        UserError: if an example file of a chosen trial cannot be read.
    """
    rows = [
        Row({"method": arm.method, "seed": arm.seed, "protocol": protocol}, [selection], [pretrained(run)])
        for arm, by_protocol in selections.items()
        for protocol, selection in by_protocol.items()
    ]
    return contrasts_table(run.metrics, run.domains, [_pretrained_row(run), *rows]).astype({"seed": "Int64"})


def methods_table(run: Run, selections: Selections) -> DataFrame:
    """Return one row for each metric, method, protocol and domain: the mean over the seeds of the sweep.

    Columns: those of `scores_table` without seed, and those of `costs`.

    Raises:
        UserError: if an example file of a chosen trial cannot be read.
    """
    rows = []
    for method in run.methods:
        arms = [by_protocol for arm, by_protocol in selections.items() if arm.method == method]
        for protocol in arms[0]:
            labels = {"method": method, "protocol": protocol, **costs(run, method)}
            rows.append(Row(labels, [arm[protocol] for arm in arms], [pretrained(run)] * len(arms)))
    return contrasts_table(run.metrics, run.domains, [_pretrained_row(run), *rows])


def settings_table(run: Run, selections: Selections) -> DataFrame:
    """Return one row for each setting chosen: what chose it, and the trial.

    Columns: method, seed, protocol, domain, trial, settings, prior_weight, strength. The domain is ``all``
    where a protocol chooses one setting for all.
    """
    rows = []
    for arm, by_protocol in selections.items():
        for protocol, selection in by_protocol.items():
            one_for_all = {"all": selection[run.in_domain]} if protocol in SINGLE else {}
            picks = one_for_all or {name: selection[name] for name in run.out_of_domain if name in selection}
            for domain, pick in picks.items():
                for trial in map(run.trials.__getitem__, pick.trials):
                    found = (trial.number, trial.settings, trial.prior_weight, trial.strength)
                    rows.append((*arm, protocol, domain, *found))
    columns = ["method", "seed", "protocol", "domain", "trial", "settings", "prior_weight", "strength"]
    return DataFrame(rows, columns=columns)


def costs(run: Run, method: str) -> dict[str, float | None]:
    """Return what one search of a method cost.

    Keys: tried, the settings; search_seconds, the time of measuring them; training_seconds, the time of
    fine-tuning the model, where it was by ``nvreg finetune``. Of several seeds the means are.
    """
    searches = [trials for arm, trials in run.sweeps.items() if arm.method == method]
    seconds = sum(trial.seconds for trials in searches for trial in trials)
    return {
        "tried": sum(map(len, searches)) / len(searches),
        "search_seconds": seconds / len(searches),
        "training_seconds": training_seconds(run),
    }


def training_seconds(run: Run) -> float | None:
    """Return how long ``nvreg finetune`` took to train the model of a run; None if it was not trained so."""
    record = Path(run.experiment.model.path) / "training.json"
    return float(json.loads(record.read_text(encoding="utf-8"))["seconds"]) if record.is_file() else None


def contrasts_table(metrics: Sequence[str], domains: Sequence[str], rows: Sequence[Row]) -> DataFrame:
    """Return one row for each metric, row and domain, without numbers where a selection does not apply.

    Raises:
        UserError: if an example file of a chosen trial cannot be read.
    """
    table = DataFrame([cell for metric in metrics for row in rows for cell in _cells(metric, domains, row)])
    return table.reindex(columns=_columns(rows)).astype({"trial": "Int64"})


def _pretrained_row(run: Run) -> Row:
    return Row({"method": "pretrained", "protocol": "pretrained"}, [pretrained(run)], [])


def _columns(rows: Sequence[Row]) -> list[str]:
    labels = dict.fromkeys(label for row in rows for label in row.labels)
    return ["metric", *labels, "domain", *Contrast._fields, "p_holm", "trial", "setting"]


def _cells(metric: str, domains: Sequence[str], row: Row) -> Iterator[dict[str, Any]]:
    contrasts = {
        domain: contrast(metric, [each[domain] for each in row.ours], [each[domain] for each in row.theirs])
        for domain in domains
        if all(domain in each for each in (*row.ours, *row.theirs))
    }
    corrected = holm([cell.p for cell in contrasts.values()])
    p_values = dict(zip(contrasts, corrected, strict=True))
    for domain in domains:
        cell = {"metric": metric, **row.labels, "domain": domain}
        if domain in contrasts:
            cell |= contrasts[domain]._asdict() | {"p_holm": p_values[domain]}
            cell |= _trial([each[domain] for each in row.ours])
        yield cell


def _trial(picks: Sequence[Pick]) -> dict[str, Any]:
    """Return the trial and its setting where all picks are of the same one."""
    run, *others = {pick.run for pick in picks}
    number, *more = {number for pick in picks for number in pick.trials}
    return {} if others or more else {"trial": number, "setting": json.dumps(run.trials[number].settings)}
