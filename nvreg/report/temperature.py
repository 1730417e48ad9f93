"""Choices, and the pretrained model, at output temperatures: what is left of a gain if both may be softened.

Dividing the logits by one number costs nothing and makes a model less sure, which alone improves likelihood
and calibration on many a set out of domain. So each protocol chooses a temperature for the setting that it
chose, and one for the pretrained model, by the same rule on the same sets, and both are compared at theirs.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple, TypeVar

import numpy as np

from nvreg.metrics import METRICS
from nvreg.metrics.resampling import RESAMPLES, Array, resample_counts
from nvreg.metrics.temperature import SHOWN, softening
from nvreg.protocols import PROTOCOLS
from nvreg.report.reading import Arm, Run
from nvreg.report.selection import ChoicesByArm, Numbers, Pick, ProtocolChoice, Score, always, choose_among
from nvreg.report.unlabelled import unlabelled_temperatures
from nvreg.results import PRETRAINED, PRETRAINED_NUMBER

T = TypeVar("T")

TEMPERED = Arm(PRETRAINED, None)
"""The pretrained model at the temperatures that protocols choose for it, as if it were what they chose."""


Columns = Mapping[str, Sequence[T]]
"""Something for each domain that a protocol applies to, and there for each trial of its pick."""


class Temperatures(NamedTuple):
    """The temperatures that a protocol chooses for one trial.

    Attributes:
        observed: by all examples.
        redrawn: on each resample, ``(RESAMPLES,)``; none for an upper bound.
    """

    observed: Columns[float]
    redrawn: Columns[Array]


def tempered_metrics(run: Run) -> list[str]:
    """Return the names of the metrics of a run that have a table after temperature, in their order."""
    return [name for name in run.metrics if METRICS[name].group in SHOWN]


def lacks_temperatures(run: Run) -> bool:
    """Return whether a run kept no temperatures, though it has metrics that they change."""
    return len(run.temperatures) < 2 and bool(tempered_metrics(run))


def tempered(run: Run, choices: ChoicesByArm) -> ChoicesByArm:
    """Return choices at the temperature that each protocol chooses for them.

    Where a choice is redrawn, the temperature of what is chosen on a resample is chosen on that resample too.

    Args:
        run: where the choices are from.
        choices: what was chosen of each arm, as it was scored.

    Returns:
        The arm `TEMPERED`, then the others.

    Raises:
        UserError: if an example file of a chosen trial cannot be read.
    """
    protocols = dict.fromkeys(protocol for by_protocol in choices.values() for protocol in by_protocol)

    @cache
    def chosen(number: int) -> dict[str, Temperatures]:
        return _chosen(run, number, protocols)

    models = {protocol: _models(run, protocol, chosen(PRETRAINED_NUMBER)[protocol]) for protocol in protocols}
    return {
        arm: {
            protocol: {domain: _at_temperatures(pick, protocol, chosen) for domain, pick in choice.items()}
            for protocol, choice in by_protocol.items()
        }
        for arm, by_protocol in {TEMPERED: models, **choices}.items()
    }


def _chosen(run: Run, number: int, protocols: Iterable[str]) -> dict[str, Temperatures]:
    """Let each protocol choose among the temperatures of a trial by nll.

    1 stands where the pretrained model does among settings. The milder of two that score alike wins; of two
    that are as far from 1, the one that softens. No rule that looks for a strong setting sharpens a model,
    and tolerance is from the pretrained model as it came: what only softens is softened as far, in all, as
    that model is.
    """
    candidates = sorted(run.temperatures, key=lambda each: (round(abs(math.log(each)), 12), -each))

    place = (PRETRAINED_NUMBER, run.in_domain, "validation")
    once = np.array([-METRICS["nll"].score(run.statistics(*place, "likelihood"))])
    drawn = -run.resampled(*place, "nll")[:, None]

    @cache
    def nats(domain: str, split: str) -> tuple[Array, Array]:
        of_examples, scored = run.likelihoods(number, domain, split)
        return of_examples[:, [run.temperatures.index(each) for each in candidates]], scored

    def scores(domain: str, split: str, counts: Array) -> Array:
        of_examples, scored = nats(domain, split)
        with np.errstate(invalid="ignore"):  # infinite nats are a destroyed model's
            return -(counts @ of_examples) / (counts @ scored)[..., None]

    def whole(domain: str, split: str) -> Array:
        return scores(domain, split, np.ones(len(nats(domain, split)[1])))

    @cache
    def resampled(domain: str, split: str) -> Array:
        return scores(domain, split, resample_counts(f"{domain}.{split}", len(nats(domain, split)[1])))

    def columns(protocol: str, score: Score) -> dict[str, tuple[Array, ...]]:
        by_texts, strengths = partial(unlabelled_temperatures, run), list(map(softening, candidates))
        reference = (drawn if score is resampled else once), drawn
        places = choose_among(run, protocol, strengths, score, resampled, by_texts, reference)
        return {domain: tuple(np.array(candidates)[each] for each in of) for domain, of in places.items()}

    return {
        each: Temperatures(
            {domain: tuple(map(float, of)) for domain, of in columns(each, whole).items()},
            {} if PROTOCOLS[each].is_upper_bound else columns(each, resampled),
        )
        for each in protocols
    }


def _models(run: Run, protocol: str, chosen: Temperatures) -> ProtocolChoice:
    """Return the pretrained model, as often in each column as a protocol chooses a temperature for it."""
    redrawn = () if PROTOCOLS[protocol].is_upper_bound else (always(PRETRAINED_NUMBER),)
    return {
        domain: Pick(run, domain, (PRETRAINED_NUMBER,) * len(of), redrawn * len(of))
        for domain, of in chosen.observed.items()
        if of
    }


def _at_temperatures(pick: Pick, protocol: str, chosen: Callable[[int], Mapping[str, Temperatures]]) -> Pick:
    """Return a pick at what its protocol chooses for each of its trials, and for each that is redrawn."""

    def at(place: int, numbers: Numbers) -> Array:
        temperatures = np.empty(RESAMPLES)
        for number in np.unique(numbers):
            drawn = numbers == number
            temperatures[drawn] = chosen(int(number))[protocol].redrawn[pick.domain][place][drawn]
        return temperatures

    return replace(
        pick,
        temperatures=tuple(
            chosen(number)[protocol].observed[pick.domain][place] for place, number in enumerate(pick.trials)
        ),
        redrawn_temperatures=tuple(at(*each) for each in enumerate(pick.redrawn)),
    )
