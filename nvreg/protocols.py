"""Selection protocols: which setting a run would have chosen, after DomainBed (Gulrajani & Lopez-Paz 2021).

A rule sees `Evidence` and nothing else: scores on validation sets, or what their texts alone tell, and only
an upper bound those on test sets. The pretrained model is a candidate throughout, the first. Scores are
arrays of one entry a candidate along their last axis, *higher always better*; the axes before are resamples,
in each of which a rule chooses anew. Of equal candidates the earliest wins, so the pretrained model before
all.

To add a protocol, write its rule and register it: one entry of `PROTOCOLS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nvreg.registry import Registry, instance_of

Scores = NDArray[np.float64]
Positions = NDArray[np.intp]
"""Which candidate, shaped like the scores without their last axis."""


@dataclass(frozen=True)
class Evidence:
    """What a protocol may look at when it chooses.

    Attributes:
        in_domain: name of the in-domain set among ``scores``.
        scores: scores by domain that has a set of the protocol's split, ``[..., candidates]``.
        standard_error: for each candidate, the paired standard error of its in-domain difference from the
            pretrained model, ``[candidates]``.
        strength: for each candidate, how strongly it regularises; 0 for the pretrained model.
        unlabelled: by domain with validation texts, how good they let a candidate seem without their labels,
            ``[..., candidates]``. Empty for a protocol that does not ask, or where texts tell nothing.
        pretrained: the pretrained model's in-domain scores, ``[..., 1]``, where the first candidate is not
            that model but stands for doing nothing more to another; None where it is.
    """

    in_domain: str
    scores: Mapping[str, Scores]
    standard_error: Scores
    strength: Scores
    unlabelled: Mapping[str, Scores] = field(default_factory=dict)
    pretrained: Scores | None = None


Rule = Callable[[Evidence, str], Positions | None]
"""Takes evidence and the name of a test domain, and returns the candidate for it, or None where the rule has
nothing to choose by."""


@dataclass(frozen=True)
class Protocol:
    """A way to choose among the settings that a run tried.

    Attributes:
        rule: chooses for one domain.
        by_domain: whether it chooses for each out-of-domain test set by itself, or once for all domains.
        in_domain_alone: whether of all scores it sees those of the in-domain set alone.
        split: the sets whose scores it sees. A protocol that sees test sets is no selection.
        reads_texts: whether it asks for `Evidence.unlabelled`.
    """

    rule: Rule
    by_domain: bool = False
    in_domain_alone: bool = False
    split: Literal["validation", "test"] = "validation"
    reads_texts: bool = False

    @property
    def is_upper_bound(self) -> bool:
        """Whether it chooses on the test sets themselves: no selection, but a bound on what one can gain."""
        return self.split == "test"

    @property
    def sees_validation_elsewhere(self) -> bool:
        """Whether it sees scores of validation sets out of domain, for which these need labels."""
        return not (self.is_upper_bound or self.reads_texts or self.in_domain_alone)

    def choose(self, evidence: Evidence, out_of_domain: Sequence[str]) -> dict[str, tuple[Positions, ...]]:
        """Return, for each domain, the candidates whose mean is its column in a table.

        A column has no candidate where the protocol does not apply. The in-domain column of a protocol that
        chooses by domain is the mean over all that it chooses for the others.
        """
        in_domain = evidence.in_domain
        places = {
            name: self.rule(evidence, name) for name in (out_of_domain if self.by_domain else [in_domain])
        }
        columns = {name: () if place is None else (place,) for name, place in places.items()}
        if self.by_domain:
            return {in_domain: sum(columns.values(), ()), **columns}
        return dict.fromkeys((in_domain, *out_of_domain), columns[in_domain])


def best_in_domain(evidence: Evidence, domain: str) -> Positions:
    """Return the best candidate on the in-domain set, whatever the test domain."""
    return _best(evidence.scores[evidence.in_domain])


def strongest_tolerated(evidence: Evidence, domain: str) -> Positions:
    """Return the strongest candidate within one paired standard error of the pretrained model, in domain."""
    scores = evidence.scores[evidence.in_domain]
    pretrained = _pretrained(scores) if evidence.pretrained is None else evidence.pretrained
    tolerated = scores >= pretrained - evidence.standard_error
    tolerated[..., 0] = True
    return _best(np.where(tolerated, evidence.strength, -np.inf))


def best_elsewhere(evidence: Evidence, domain: str) -> Positions | None:
    """Return the best by mean difference from the pretrained model over the *other* out-of-domain sets."""
    others = [scores for name, scores in evidence.scores.items() if name not in (evidence.in_domain, domain)]
    if not others:
        return None
    scale = np.mean([np.abs(_pretrained(scores)) for scores in others], axis=0)
    with np.errstate(invalid="ignore"):  # infinite scores are a destroyed model's
        differences = np.mean([scores - _pretrained(scores) for scores in others], axis=0)
        return _best(without_last_bits(differences, scale))


def best_there(evidence: Evidence, domain: str) -> Positions | None:
    """Return the best candidate on the test domain's own set."""
    return _best(evidence.scores[domain]) if domain in evidence.scores else None


def best_by_texts(evidence: Evidence, domain: str) -> Positions | None:
    """Return the candidate that seems the best on the texts of the test domain's validation set."""
    return _best(evidence.unlabelled[domain]) if domain in evidence.unlabelled else None


PROTOCOLS: Registry[Protocol] = Registry(
    "protocol",
    {
        "in-domain": Protocol(best_in_domain, in_domain_alone=True),
        "in-domain-tolerance": Protocol(strongest_tolerated, in_domain_alone=True),
        "leave-one-domain-out": Protocol(best_elsewhere, by_domain=True),
        "out-of-domain-validation": Protocol(best_there, by_domain=True),
        "unlabelled": Protocol(best_by_texts, by_domain=True, reads_texts=True),
        "oracle": Protocol(best_there, by_domain=True, split="test"),
    },
    group="nvreg.protocols",
    check=instance_of(Protocol),
)
"""Every protocol by its name in an experiment file."""


def upper_bounds() -> set[str]:
    """Return the names of the protocols that are no selections, as they see test scores."""
    return {name for name, protocol in PROTOCOLS.items() if protocol.is_upper_bound}


def without_last_bits(differences: Scores, scale: Scores | float) -> Scores:
    """Return differences of means in units of ``scale``, 1 where it is 0, so that equal ones are equal.

    They have 12 digits after the point.
    """
    rounded: Scores = np.round(differences / np.where(np.asarray(scale) > 0, scale, 1), 12)
    return rounded


def _best(scores: Scores) -> Positions:
    return np.where(np.isnan(scores), -np.inf, scores).argmax(axis=-1)


def _pretrained(scores: Scores) -> Scores:
    return scores[..., :1]
