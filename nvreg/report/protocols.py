"""Selection protocols: which setting a run would have chosen, after DomainBed (Gulrajani & Lopez-Paz 2021).

Four rules see a `Validation`, which holds nothing that comes from a test set. The fifth, `oracle`, is the
only function that is given test scores. The pretrained model is a candidate throughout, the first. Scores are
arrays of one entry a candidate along their last axis, *higher always better*; the axes before are resamples,
in each of which a rule chooses anew. Of equal candidates the earliest wins, so the pretrained model before
all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvreg.report.statistics import without_last_bits

PRETRAINED = 0
"""The number of the pretrained model's trial, and its position among candidates."""

ORACLE = "oracle"

Scores = NDArray[np.float64]
Positions = NDArray[np.intp]
"""Which candidate, shaped like the scores without their last axis."""

Choice = dict[str, tuple[Positions, ...]]
"""For each domain, the candidates whose mean its column shows; none where the protocol does not apply."""


@dataclass(frozen=True)
class Validation:
    """What a protocol may look at when it chooses.

    Attributes:
        in_domain: name of the in-domain set among ``scores``.
        scores: validation scores by domain that has a validation set, ``[..., candidates]``.
        standard_error: for each candidate, the paired standard error of its in-domain difference from the
            pretrained model, ``[candidates]``.
        strength: for each candidate, how strongly it regularises; 0 for the pretrained model.
    """

    in_domain: str
    scores: Mapping[str, Scores]
    standard_error: Scores
    strength: Scores


def in_domain(validation: Validation, domain: str) -> Positions:
    """Return the best candidate on in-domain validation, whatever the test domain."""
    return _best(validation.scores[validation.in_domain])


def in_domain_tolerance(validation: Validation, domain: str) -> Positions:
    """Return the strongest candidate within one paired standard error of the pretrained model, in domain."""
    scores = validation.scores[validation.in_domain]
    tolerated = scores >= _pretrained(scores) - validation.standard_error
    tolerated[..., PRETRAINED] = True
    return _best(np.where(tolerated, validation.strength, -np.inf))


def leave_one_domain_out(validation: Validation, domain: str) -> Positions | None:
    """Return the best by mean difference from the pretrained model over *other* domains' validation."""
    others = [
        scores for name, scores in validation.scores.items() if name not in (validation.in_domain, domain)
    ]
    if not others:
        return None
    scale = np.mean([np.abs(_pretrained(scores)) for scores in others], axis=0)
    with np.errstate(invalid="ignore"):  # of infinities, a destroyed model's
        differences = np.mean([scores - _pretrained(scores) for scores in others], axis=0)
        return _best(without_last_bits(differences, scale))


def out_of_domain_validation(validation: Validation, domain: str) -> Positions | None:
    """Return the best candidate on the validation set of the test domain itself."""
    return _best(validation.scores[domain]) if domain in validation.scores else None


SINGLE: Mapping[str, Callable[[Validation, str], Positions]] = {
    "in-domain": in_domain,
    "in-domain-tolerance": in_domain_tolerance,
}
"""Rules that choose one setting for all domains."""

PER_DOMAIN: Mapping[str, Callable[[Validation, str], Positions | None]] = {
    "leave-one-domain-out": leave_one_domain_out,
    "out-of-domain-validation": out_of_domain_validation,
}
"""Rules that choose a setting for each out-of-domain test set."""


def choose(protocol: str, validation: Validation, out_of_domain: Sequence[str]) -> Choice:
    """Return what one of the protocols that never look at test scores chooses."""
    if protocol in SINGLE:
        chosen = SINGLE[protocol](validation, validation.in_domain)
        return dict.fromkeys((validation.in_domain, *out_of_domain), (chosen,))
    rule = PER_DOMAIN[protocol]
    return _by_domain({domain: rule(validation, domain) for domain in out_of_domain}, validation.in_domain)


def oracle(test: Mapping[str, Scores], in_domain: str) -> Choice:
    """Return the best candidate on each out-of-domain test set itself: an upper bound, not a selection."""
    return _by_domain(
        {domain: _best(scores) for domain, scores in test.items() if domain != in_domain}, in_domain
    )


def _best(scores: Scores) -> Positions:
    return np.where(np.isnan(scores), -np.inf, scores).argmax(axis=-1)


def _pretrained(scores: Scores) -> Scores:
    return scores[..., PRETRAINED, None]


def _by_domain(chosen: Mapping[str, Positions | None], in_domain: str) -> Choice:
    """Give the in-domain column the mean over the settings chosen for the others."""
    positions = {domain: () if place is None else (place,) for domain, place in chosen.items()}
    return {in_domain: sum(positions.values(), ()), **positions}
