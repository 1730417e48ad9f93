"""What each protocol chooses in a run."""

from collections.abc import Iterable

import pandas as pd

from nvreg.report.protocols import ORACLE, PRETRAINED, Choice, Validation, choose, oracle
from nvreg.report.reading import Run
from nvreg.report.statistics import Array, paired_differences, standard_error
from nvreg.tasks.metrics import METRICS


def select(run: Run, protocols: Iterable[str]) -> dict[str, Choice]:
    """Return each protocol's choice by the run's selection metric.

    Raises:
        UserError: if an example file of the in-domain validation set cannot be read.
    """
    validation = _validation(run)
    return {
        protocol: oracle(_oriented(run, "test"), run.in_domain)
        if protocol == ORACLE
        else choose(protocol, validation, run.out_of_domain)
        for protocol in protocols
    }


def _oriented(run: Run, split: str) -> pd.DataFrame:
    metric = run.selection_metric
    scores = run.scores(metric, split)
    return scores if METRICS[metric].higher_is_better else -scores


def _validation(run: Run) -> Validation:
    metric = METRICS[run.selection_metric]

    def statistics(number: int) -> Array:
        return run.statistics(number, run.in_domain, "validation", metric.group)

    pretrained = statistics(PRETRAINED)
    errors = {
        number: standard_error(paired_differences(metric, statistics(number), pretrained, run.in_domain))
        for number in run.trials
    }
    strength = {number: trial.strength for number, trial in run.trials.items()}
    return Validation(run.in_domain, _oriented(run, "validation"), pd.Series(errors), pd.Series(strength))
