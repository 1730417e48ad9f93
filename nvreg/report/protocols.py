"""Selection protocols: which setting a run would have chosen, after DomainBed (Gulrajani & Lopez-Paz 2021).

Four rules see a `Validation`, which holds nothing that comes from a test set. The fifth, `oracle`, is the
only function that is given test scores. The pretrained model is a candidate throughout. Scores are tables of
one row a trial, in the order of the trials' numbers, and one column a domain, *higher always better*; of
equal candidates the earliest trial wins, so the pretrained model (trial 0) before all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

PRETRAINED = 0
ORACLE = "oracle"

Choice = dict[str, tuple[int, ...]]
"""For each domain, the trials whose scores its column is the mean of; none: the protocol does not apply."""


@dataclass(frozen=True)
class Validation:
    """What a protocol may look at when it chooses.

    Attributes:
        in_domain: name of the in-domain column of ``scores``.
        scores: validation scores, trials x domains that have a validation set, higher is better.
        standard_error: for each trial, the paired standard error of its in-domain difference from the
            pretrained model.
        strength: for each trial, how strongly it regularises; 0 for the pretrained model.
    """

    in_domain: str
    scores: pd.DataFrame
    standard_error: pd.Series
    strength: pd.Series


def in_domain(validation: Validation, domain: str) -> int:
    """Return the best trial on in-domain validation, whatever the test domain."""
    return _best(validation.scores[validation.in_domain])


def in_domain_tolerance(validation: Validation, domain: str) -> int:
    """Return the strongest trial within one paired standard error of the pretrained model, in domain."""
    scores = validation.scores[validation.in_domain]
    tolerated = scores >= scores[PRETRAINED] - validation.standard_error
    tolerated[PRETRAINED] = True
    return _best(validation.strength[tolerated])


def leave_one_domain_out(validation: Validation, domain: str) -> int | None:
    """Return the best trial by mean difference from the pretrained model over *other* domains' validation."""
    others = validation.scores.drop(columns=[validation.in_domain, domain], errors="ignore")
    if others.columns.empty:
        return None
    return _best((others - others.loc[PRETRAINED]).mean(axis="columns", skipna=False))


def out_of_domain_validation(validation: Validation, domain: str) -> int | None:
    """Return the best trial on the validation set of the test domain itself."""
    return _best(validation.scores[domain]) if domain in validation.scores else None


SINGLE: Mapping[str, Callable[[Validation, str], int]] = {
    "in-domain": in_domain,
    "in-domain-tolerance": in_domain_tolerance,
}
"""Rules that choose one setting for all domains."""

PER_DOMAIN: Mapping[str, Callable[[Validation, str], int | None]] = {
    "leave-one-domain-out": leave_one_domain_out,
    "out-of-domain-validation": out_of_domain_validation,
}
"""Rules that choose a setting for each out-of-domain test set."""


def choose(protocol: str, validation: Validation, out_of_domain: Sequence[str]) -> Choice:
    """Return what one of the protocols that never look at test scores chooses."""
    if protocol in SINGLE:
        trial = SINGLE[protocol](validation, validation.in_domain)
        return dict.fromkeys((validation.in_domain, *out_of_domain), (trial,))
    rule = PER_DOMAIN[protocol]
    return _by_domain({domain: rule(validation, domain) for domain in out_of_domain}, validation.in_domain)


def oracle(test: pd.DataFrame, in_domain: str) -> Choice:
    """Return the best trial on each out-of-domain test set itself: an upper bound, not a selection."""
    out_of_domain = test.columns.drop(in_domain)
    return _by_domain({domain: _best(test[domain]) for domain in out_of_domain}, in_domain)


def _best(scores: pd.Series) -> int:
    return int(scores.index[int(scores.fillna(float("-inf")).argmax())])


def _by_domain(chosen: Mapping[str, int | None], in_domain: str) -> Choice:
    """Give the in-domain column the mean over the settings chosen for the others."""
    trials = {domain: () if trial is None else (trial,) for domain, trial in chosen.items()}
    return {in_domain: sum(trials.values(), ()), **trials}
