"""Which estimate of accuracy without labels ranks the settings of a run as their true accuracy does.

    python -m scripts.unlabelled results/runs/real/sentiment

For each out-of-domain validation set with labels, over all completed settings of a run: the rank correlation
(Spearman) of the estimated accuracy with the accuracy on those texts, the mean distance of the two, and the
accuracy there of the setting that the estimate chooses, between the pretrained model's and the best one's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pandas import DataFrame
from scipy.stats import spearmanr

from nvreg.document import Table, markdown
from nvreg.errors import UserError
from nvreg.metrics import METRICS
from nvreg.metrics.confidence import Estimate, average_thresholded_confidence, tempered_confidence
from nvreg.report.reading import Run, read_run
from nvreg.report.unlabelled import estimated_accuracy
from nvreg.results import PRETRAINED_NUMBER

ESTIMATES: Mapping[str, Estimate] = {
    "average thresholded confidence": average_thresholded_confidence,
    "confidence after temperature": tempered_confidence,
}


def measure(run: Run) -> DataFrame:
    """Return one row for each estimate and domain.

    Columns: estimate, domain, settings, how many there are; correlation; distance; chosen, pretrained and
    best, accuracies.

    Raises:
        UserError: if the run has kept no probabilities of classes, or its examples cannot be read.
    """
    if len(run.temperatures) == 1:
        raise UserError(
            "expected a run that keeps probabilities of classes (evaluation.temperatures), got "
            f"{run.directory} without"
        )
    domains = run.domains_with("validation")[1:]
    numbers = list(run.trials)  # the pretrained model first, as where settings are chosen
    rows = []
    for name, estimate in ESTIMATES.items():
        estimates = [estimated_accuracy(run, number, domains, estimate=estimate) for number in numbers]
        for domain in domains:
            seeming = np.array([each[domain] for each in estimates])
            true = np.array([_accuracy(run, number, domain) for number in numbers])
            rows.append(
                {
                    "estimate": name,
                    "domain": domain,
                    "settings": len(numbers) - 1,
                    "correlation": float(spearmanr(seeming, true).statistic),
                    "distance": float(np.abs(seeming - true).mean()),
                    "chosen": true[seeming.argmax()],
                    "pretrained": true[numbers.index(PRETRAINED_NUMBER)],
                    "best": true.max(),
                }
            )
    return DataFrame(rows)


def _accuracy(run: Run, number: int, domain: str) -> float:
    return float(METRICS["accuracy"].score(run.statistics(number, domain, "validation", "classes")))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables of runs; the exit code is 2 where one cannot be read."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="directories that nvreg sweep wrote")
    for directory in parser.parse_args(arguments).runs:
        try:
            rows = measure(read_run(directory))
        except UserError as error:
            print(error, file=sys.stderr)
            return 2
        body = [
            [f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row]
            for row in rows.itertuples(index=False)
        ]
        print(markdown([f"# {directory}", Table(list(rows.columns), body)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
