"""A run as tidy tables: what each protocol's choice scores, and what it chose."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from nvreg.report.protocols import PRETRAINED, SINGLE, Choice
from nvreg.report.reading import Run
from nvreg.report.statistics import interval, paired_differences
from nvreg.tasks.metrics import METRICS

Choices = Mapping[str, Choice]


def scores_table(run: Run, choices: Choices) -> pd.DataFrame:
    """Return one row for each metric, protocol and domain, on the test sets.

    Columns: metric, protocol (``pretrained`` for the model as it came), domain, score, difference from the
    pretrained model with the ends low and high of its interval, trial and setting (JSON). Trial and setting
    are empty where the score is the mean over several settings, and all is where the protocol does not apply.

    Raises:
        UserError: if an example file of a chosen trial cannot be read.
    """
    table = pd.DataFrame([row for metric in run.metrics for row in _rows(run, metric, choices)])
    return table.astype({"trial": "Int64"})


def settings_table(run: Run, choices: Choices) -> pd.DataFrame:
    """Return one row for each setting chosen: protocol, domain, trial, settings, prior_weight, strength.

    The domain is ``all`` where a protocol chooses one setting for all.
    """
    rows = []
    for protocol, choice in choices.items():
        chosen = (
            {"all": choice[run.in_domain]}
            if protocol in SINGLE
            else {d: choice[d] for d in run.out_of_domain}
        )
        rows += [
            {"protocol": protocol, "domain": domain, "trial": number, **vars(run.trials[number])}
            for domain, trials in chosen.items()
            for number in trials
        ]
    return pd.DataFrame(rows, columns=["protocol", "domain", "trial", "settings", "prior_weight", "strength"])


def _rows(run: Run, metric_name: str, choices: Choices) -> Iterator[dict[str, Any]]:
    scores = run.scores(metric_name, "test")
    everything: Choices = {"pretrained": dict.fromkeys(run.domains, (PRETRAINED,)), **choices}
    for protocol, choice in everything.items():
        for domain in run.domains:
            row = {"metric": metric_name, "protocol": protocol, "domain": domain}
            yield row | (_cell(run, metric_name, scores[domain], choice[domain]) if choice[domain] else {})


def _cell(run: Run, metric_name: str, scores: pd.Series, trials: tuple[int, ...]) -> dict[str, Any]:
    metric = METRICS[metric_name]
    domain = str(scores.name)
    statistics = {
        number: run.statistics(number, domain, "test", metric.group) for number in {*trials, PRETRAINED}
    }
    resampled = np.mean(
        [paired_differences(metric, statistics[number], statistics[PRETRAINED], domain) for number in trials],
        axis=0,
    )
    score = scores[list(trials)].mean()
    low, high = interval(resampled)
    cell = {"score": score, "difference": score - scores[PRETRAINED], "low": low, "high": high}
    if len(set(trials)) == 1:
        cell |= {"trial": trials[0], "setting": json.dumps(run.trials[trials[0]].settings)}
    return cell
