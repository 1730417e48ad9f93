"""Runs as tidy tables: what each protocol's choice scores, what that has over others, settings and costs."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pandas import DataFrame

from nvreg.protocols import PROTOCOLS
from nvreg.report.analysis import NV, Analysis, change, is_match, matching_of, nearest
from nvreg.report.contrasts import Row, contrasts_table, pairs_table
from nvreg.report.reading import Arm, Run
from nvreg.report.selection import ProtocolChoice, pretrained
from nvreg.results import PRETRAINED
from nvreg.trained import training_seconds

MODELS = {"method": PRETRAINED, "protocol": PRETRAINED}
"""The labels of the models as they came."""

Repetitions = Sequence[Analysis]
"""Runs that repeat each other, with models of other seeds for one."""


def scores_table(analysis: Analysis) -> DataFrame:
    """Return one row for each metric, method, seed, protocol and domain, on the test sets.

    Columns: those of `nvreg.report.contrasts.contrasts_table`, where the labels are method, protocol (both
    are ``pretrained`` for the model as it came) and seed, and what each is compared with is that model.

    Raises:
        UserError: if an example file of a chosen trial cannot be read.
    """
    run = analysis.run
    as_it_came = [pretrained(run)]
    rows = [
        Row({"method": arm.method, "seed": arm.seed, "protocol": protocol}, [choice], as_it_came)
        for arm, by_protocol in analysis.choices.items()
        for protocol, choice in by_protocol.items()
    ]
    model = Row({**MODELS, "seed": None}, as_it_came, [])
    return contrasts_table(run.metrics, run.domains, [model, *rows]).astype({"seed": "Int64"})


def methods_table(analysis: Analysis) -> DataFrame:
    """Return one row for each metric, method, protocol and domain: the mean over the seeds of the sweep.

    Columns: those of `scores_table` without seed, and those of `costs`.

    Raises:
        UserError: if an example file of a chosen trial cannot be read.
    """
    return contrasts_table(analysis.metrics, analysis.run.domains, list(method_rows([analysis])))


def after_temperature(groups: Mapping[str, Repetitions]) -> Mapping[str, Repetitions]:
    """Return the same runs after temperature; none where one of them has no temperatures."""
    found = {
        name: [after for each in group if (after := each.after_temperature)] for name, group in groups.items()
    }
    return found if all(len(found[name]) == len(group) for name, group in groups.items()) else {}


def tempered_table(
    metrics: Sequence[str], domains: Sequence[str], groups: Mapping[str, Repetitions]
) -> DataFrame | None:
    """Return the scores of runs after temperature, or None where there are none.

    Args:
        metrics: those to show, as far as a temperature changes them.
        domains: the names of those to show.
        groups: what `after_temperature` returns.

    Returns:
        One row for each metric, run, protocol, method and domain: the columns of `methods_table` without
        costs, with run among the labels, and those of the temperatures. What a protocol chose is compared
        with the pretrained model at the temperature that the same protocol chose for it, and that, of method
        ``pretrained``, with the model as it came.

    Raises:
        UserError: if an example file of a chosen trial cannot be read.
    """
    shown = [name for name in metrics if _have(groups, name)]
    if not groups or not shown:
        return None
    return contrasts_table(shown, domains, rows_of(groups)).drop(columns=list(costs([])))


def rows_of(groups: Mapping[str, Repetitions]) -> list[Row]:
    """Return the rows of several runs, labelled with their names: all models first, then by protocol."""
    rows = [row for name, group in groups.items() for row in method_rows(group, run=name)]
    protocols = list(dict.fromkeys(row.labels["protocol"] for row in rows))
    return sorted(rows, key=lambda row: protocols.index(row.labels["protocol"]))


def method_rows(repetitions: Repetitions, **labels: Any) -> Iterator[Row]:
    """Yield the rows of runs that repeat each other: the pretrained model's, then each protocol and method.

    Every choice is compared with the pretrained models of the runs; after temperature, with these at their
    own temperatures, which are compared with the models as they came.
    """
    runs = [each.run for each in repetitions]
    as_they_came = [pretrained(run) for run in runs]
    yield Row({**labels, **MODELS, **costs(runs)}, as_they_came, [])
    methods = methods_of(repetitions)
    chosen = {method: repeated(repetitions, method) for method in methods}
    for protocol in dict.fromkeys(protocol for choices in chosen.values() for protocol in choices):
        models = [each.model(protocol) for each in repetitions]
        for method in methods:
            if protocol in chosen[method]:
                matching = matching_of(method)
                cost = costs(runs, matching.method if matching else method)
                row = {**labels, "method": method, "protocol": protocol, **cost}
                yield Row(row, chosen[method][protocol], as_they_came if method == PRETRAINED else models)


def methods_of(repetitions: Repetitions) -> list[str]:
    """Return the names of the methods of which something was chosen, or matches what was."""
    return list(dict.fromkeys(arm.method for each in repetitions for arm in each.choices))


def repeated(repetitions: Repetitions, method: str) -> dict[str, list[ProtocolChoice]]:
    """Return what each protocol chooses with a method, in every run and with every seed."""
    found: dict[str, list[ProtocolChoice]] = defaultdict(list)
    for each in repetitions:
        for arm, by_protocol in each.choices.items():
            for protocol, choice in by_protocol.items() if arm.method == method else ():
                found[protocol].append(choice)
    return found


def _have(groups: Mapping[str, Repetitions], metric: str) -> bool:
    return all(metric in each.metrics for group in groups.values() for each in group)


def rivals_table(metric: str, domains: Sequence[str], groups: Mapping[str, Repetitions]) -> DataFrame | None:
    """Return what NV has over each rival, or None where it has none or there is no such metric.

    NV is that of the first group that tried it. Its rivals are the other methods of the group and, of every
    other group, the models as they came and all methods; upper bounds, which are no selection, are left out.

    Args:
        metric: the one to compare by.
        domains: the names of those whose examples all groups have scored.
        groups: runs that repeat each other, by name.

    Returns:
        The columns of `nvreg.report.contrasts.pairs_table`, with protocol, run and method for labels.

    Raises:
        UserError: if an example file of a chosen trial cannot be read.
    """
    rows = list(_rivals(groups)) if _have(groups, metric) else []
    return pairs_table([metric], domains, rows) if rows else None


def home_of(groups: Mapping[str, Repetitions]) -> str | None:
    """Return the name of the first group that tried NV."""
    return next((name for name, group in groups.items() if repeated(group, NV)), None)


def _rivals(groups: Mapping[str, Repetitions]) -> Iterator[Row]:
    if (home := home_of(groups)) is None:
        return
    for protocol, ours in repeated(groups[home], NV).items():
        if PROTOCOLS[protocol].is_upper_bound:
            continue
        for name, group in groups.items():
            if name != home:
                models = [each.model(protocol) for each in group]
                yield Row({"protocol": protocol, "run": name, "method": PRETRAINED}, ours, models)
            for method in methods_of(group):
                theirs = repeated(group, method).get(protocol)
                if theirs and method != PRETRAINED and (name, method) != (home, NV):
                    yield Row({"protocol": protocol, "run": name, "method": method}, ours, theirs)


def settings_table(analysis: Analysis) -> DataFrame:
    """Return one row for each setting chosen, or that matches one: what chose it, and the trial.

    Columns: method, seed, protocol, domain, trial, settings, prior_weight, strength, change, wanted_change.
    The domain is ``all`` where a protocol chooses one setting for all. For what is matched, wanted_change is
    the change that it is to have; where nothing matches there is no trial, and change is the nearest.
    """
    rows, run, choices = [], analysis.run, analysis.choices
    for arm, by_protocol in choices.items():
        matching = matching_of(arm.method)
        chosen = choices[Arm(matching.to, arm.seed)] if matching else by_protocol
        for protocol in by_protocol:
            for domain, pick in _by_test_set(run, protocol, chosen[protocol]).items():
                labels = {**arm._asdict(), "protocol": protocol, "domain": domain}
                for number in pick.trials:
                    found = (
                        _match(run, Arm(matching.method, arm.seed), number)
                        if matching
                        else _described(run, number)
                    )
                    rows.append(labels | found)
    numbers = ["prior_weight", "strength", "change", "wanted_change"]
    columns = ["method", "seed", "protocol", "domain", "trial", "settings", *numbers]
    table = DataFrame(rows, columns=columns)
    return table.astype({"trial": "Int64", **dict.fromkeys(numbers, float)})


def _by_test_set(run: Run, protocol: str, choice: ProtocolChoice) -> ProtocolChoice:
    if PROTOCOLS[protocol].by_domain:
        return {name: choice[name] for name in run.out_of_domain if name in choice}
    return {"all": choice[run.in_domain]}


def _described(run: Run, number: int) -> dict[str, Any]:
    trial = run.trials[number]
    facts = {"prior_weight": trial.prior_weight, "strength": trial.strength, "change": trial.change}
    return {"trial": number, "settings": trial.settings, **facts}


def _match(run: Run, matched: Arm, number: int) -> dict[str, Any]:
    near, wanted = nearest(run, matched, number), {"wanted_change": change(run, number)}
    if near is None:
        return wanted
    if is_match(run, number, near):
        return _described(run, near) | wanted
    return wanted | {"change": change(run, near)}


def costs(runs: Sequence[Run], method: str | None = None) -> dict[str, float | None]:
    """Return what one search of a method cost, the mean over runs and seeds.

    Keys: tried, the settings; search_seconds, the time of measuring them; both None without a method.
    training_seconds, the time of fine-tuning the model; None where it was not by ``nvreg finetune``.
    """
    searches = [trials for run in runs for arm, trials in run.sweeps.items() if arm.method == method]
    seconds = [sum(trial.seconds for trial in trials) for trials in searches]
    models = (Path(run.experiment.model.path).expanduser() for run in runs)
    training = [took for model in models if (took := training_seconds(model)) is not None]
    return {
        "tried": fmean(map(len, searches)) if searches else None,
        "search_seconds": fmean(seconds) if searches else None,
        "training_seconds": fmean(training) if training else None,
    }
