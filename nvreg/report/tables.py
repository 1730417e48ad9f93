"""A run as tidy tables: what each protocol's choice scores, what it chose, and what the search cost."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from pandas import DataFrame

from nvreg.protocols import PROTOCOLS
from nvreg.report.contrasts import Contrast, contrast
from nvreg.report.matching import MATCHED, NOISE, NV, change, is_match, nearest
from nvreg.report.reading import Arm, Run
from nvreg.report.selection import Pick, Selection, pretrained
from nvreg.report.significance import holm

Selections = Mapping[Arm, Mapping[str, Selection]]
"""Each protocol's choice among the trials of each arm, and what matches it (`nvreg.report.matching`)."""


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
    model = Row({"method": "pretrained", "protocol": "pretrained"}, [pretrained(run)], [])
    return contrasts_table(run.metrics, run.domains, [model, *rows]).astype({"seed": "Int64"})


def methods_table(run: Run, selections: Selections) -> DataFrame:
    """Return one row for each metric, method, protocol and domain: the mean over the seeds of the sweep.

    Columns: those of `scores_table` without seed, and those of `costs`.

    Raises:
        UserError: if an example file of a chosen trial cannot be read.
    """
    return contrasts_table(run.metrics, run.domains, list(method_rows([(run, selections)])))


def method_rows(repetitions: Sequence[tuple[Run, Selections]], **labels: Any) -> Iterator[Row]:
    """Yield the rows of runs that repeat each other: the pretrained model's, then each protocol and method.

    Every selection is compared with the pretrained models of the runs.
    """
    runs = [run for run, _ in repetitions]
    models, labels = [pretrained(run) for run in runs], {**labels, "method": "pretrained"}
    yield Row({**labels, "protocol": "pretrained", **costs(runs)}, models, [])
    methods = methods_of(*(selections for _, selections in repetitions))
    chosen = {method: repeated(repetitions, method) for method in methods}
    for protocol in dict.fromkeys(protocol for selections in chosen.values() for protocol in selections):
        for method in methods:
            if protocol in chosen[method]:
                cost = costs(runs, NOISE if method == MATCHED else method)
                row = {**labels, "method": method, "protocol": protocol, **cost}
                yield Row(row, chosen[method][protocol], models)


def methods_of(*repetitions: Selections) -> list[str]:
    """Return the names of the methods of which something was chosen, or matches what was."""
    return list(dict.fromkeys(arm.method for selections in repetitions for arm in selections))


def repeated(repetitions: Sequence[tuple[Run, Selections]], method: str) -> dict[str, list[Selection]]:
    """Return what each protocol chooses with a method, in every run and with every seed."""
    found: dict[str, list[Selection]] = defaultdict(list)
    for _, selections in repetitions:
        for arm, by_protocol in selections.items():
            for protocol, selection in by_protocol.items() if arm.method == method else ():
                found[protocol].append(selection)
    return found


def settings_table(run: Run, selections: Selections) -> DataFrame:
    """Return one row for each setting chosen, or that matches one: what chose it, and the trial.

    Columns: method, seed, protocol, domain, trial, settings, prior_weight, strength, change, nv_change. The
    domain is ``all`` where a protocol chooses one setting for all. For what is matched, nv_change is the
    change that it is to have; where nothing matches there is no trial, and change is the nearest there is.
    """
    rows = []
    for arm, by_protocol in selections.items():
        is_matched = arm.method == MATCHED
        chosen = selections[Arm(NV, arm.seed)] if is_matched else by_protocol
        for protocol in by_protocol:
            for domain, pick in _by_test_set(run, protocol, chosen[protocol]).items():
                labels = {**arm._asdict(), "protocol": protocol, "domain": domain}
                for number in pick.trials:
                    found = _match(run, arm.seed, number) if is_matched else _described(run, number)
                    rows.append(labels | found)
    numbers = ["prior_weight", "strength", "change", "nv_change"]
    columns = ["method", "seed", "protocol", "domain", "trial", "settings", *numbers]
    table = DataFrame(rows, columns=columns)
    return table.astype({"trial": "Int64", **dict.fromkeys(numbers, float)})


def _by_test_set(run: Run, protocol: str, selection: Selection) -> Selection:
    if PROTOCOLS[protocol].by_domain:
        return {name: selection[name] for name in run.out_of_domain if name in selection}
    return {"all": selection[run.in_domain]}


def _described(run: Run, number: int) -> dict[str, Any]:
    trial = run.trials[number]
    facts = {"prior_weight": trial.prior_weight, "strength": trial.strength, "change": trial.change}
    return {"trial": number, "settings": trial.settings, **facts}


def _match(run: Run, seed: int | None, number: int) -> dict[str, Any]:
    noise, wanted = nearest(run, seed, number), {"nv_change": change(run, number)}
    if noise is None:
        return wanted
    if is_match(run, number, noise):
        return _described(run, noise) | wanted
    return wanted | {"change": change(run, noise)}


def costs(runs: Sequence[Run], method: str | None = None) -> dict[str, float | None]:
    """Return what one search of a method cost, the mean over runs and seeds.

    Keys: tried, the settings; search_seconds, the time of measuring them; both None without a method.
    training_seconds, the time of fine-tuning the model; None where it was not by ``nvreg finetune``.
    """
    searches = [trials for run in runs for arm, trials in run.sweeps.items() if arm.method == method]
    seconds = [sum(trial.seconds for trial in trials) for trials in searches]
    training = [took for run in runs if (took := training_seconds(run)) is not None]
    return {
        "tried": fmean(map(len, searches)) if searches else None,
        "search_seconds": fmean(seconds) if searches else None,
        "training_seconds": fmean(training) if training else None,
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
