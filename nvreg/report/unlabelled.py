"""How good settings seem on texts without labels, for the protocol that chooses by these."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from nvreg.metrics.confidence import Estimate, tempered_confidence
from nvreg.metrics.resampling import Array, resample_counts
from nvreg.protocols import Scores
from nvreg.report.reading import Run
from nvreg.tasks import TASKS

ESTIMATE: Estimate = tempered_confidence
"""The estimate of accuracy that settings are chosen by: the one that ranked them better (docs/reports.md)."""


def unlabelled_scores(
    run: Run, candidates: Sequence[int], scores: Mapping[str, Scores], *, is_resampled: bool
) -> dict[str, Scores]:
    """Return how good candidates seem on the validation texts of each out-of-domain set that has some.

    By accuracy that is estimated from confidences, for tasks whose models have one; the labels of these texts
    are not read. Where a text is its own label, the scores themselves. Nothing where texts tell nothing, or
    the run has not kept the probabilities of classes.

    Args:
        run: where the candidates were measured.
        candidates: the numbers of their trials.
        scores: the scores of validation sets, by domain, ``[..., candidates]``.
        is_resampled: on each resample, ``[RESAMPLES, candidates]``, or once, ``[candidates]``.

    Raises:
        UserError: if an example file cannot be read.
    """
    known_by = TASKS[run.experiment.task].unlabelled
    if known_by == "likelihood":
        return {domain: scores[domain] for domain in run.out_of_domain if domain in scores}
    if known_by is None or len(run.temperatures) == 1:
        return {}
    domains = _with_texts(run)

    def accuracy(number: int) -> dict[str, Array]:
        return estimated_accuracy(run, number, domains, is_resampled=is_resampled)

    what = ("estimated accuracy", *domains, is_resampled)
    by_candidate = [run.once(each, what, partial(accuracy, each)) for each in candidates]
    return {domain: np.stack([each[domain] for each in by_candidate], axis=-1) for domain in domains}


def unlabelled_temperatures(run: Run, scores: Mapping[str, Scores]) -> dict[str, Scores]:
    """Return what output temperatures are chosen by where labels are not read: `unlabelled_scores` for them.

    No temperature changes which class a model chooses, and texts do not tell how often it is right at which
    confidence. So classifiers have the temperature that is best in domain.

    Args:
        run: where they are chosen.
        scores: the scores of validation sets, by domain, ``[..., temperatures]``.
    """
    if TASKS[run.experiment.task].unlabelled == "confidence":
        return dict.fromkeys(_with_texts(run), scores[run.in_domain])
    return unlabelled_scores(run, (), scores, is_resampled=False)


def estimated_accuracy(
    run: Run,
    number: int,
    domains: Sequence[str],
    *,
    is_resampled: bool = False,
    estimate: Estimate = ESTIMATE,
) -> dict[str, Array]:
    """Return the accuracy of a trial on the validation texts of domains, as its confidences let expect it.

    Args:
        run: where the trial was measured.
        number: its number.
        domains: out of domain, with a validation set; its labels are not read.
        is_resampled: on each resample, ``[RESAMPLES]``, or once, a number ``[]``.
        estimate: fitted to the in-domain validation set.

    Raises:
        UserError: if an example file cannot be read.
    """

    def counts(domain: str, examples: int) -> Array:
        return resample_counts(f"{domain}.validation", examples) if is_resampled else np.ones((1, examples))

    known = run.log_probabilities(number, run.in_domain, "validation")
    labels, chosen = run.statistics(number, run.in_domain, "validation", "classes").T
    fitted = estimate(known, labels == chosen, counts(run.in_domain, len(known)))
    found = {}
    for domain in domains:
        asked = run.log_probabilities(number, domain, "validation")
        accuracy = fitted(asked, counts(domain, len(asked)))
        found[domain] = accuracy if is_resampled else accuracy[0]
    return found


def _with_texts(run: Run) -> list[str]:
    """Return the names of the out-of-domain sets with a validation set, labelled or not."""
    return [domain.name for domain in run.experiment.data.out_of_domain if domain.validation]
