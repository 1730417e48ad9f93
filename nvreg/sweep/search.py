"""The searches of a sweep: the settings of one method and seed, one at a time."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from nvreg.errors import UserError
from nvreg.experiment import Experiment, Sweep
from nvreg.methods import METHODS
from nvreg.parameters import Setting
from nvreg.results import PRETRAINED
from nvreg.space import Range, check_space, parse_space, product
from nvreg.sweep.samplers import LISTED, Layers
from nvreg.sweep.tpe import TPE, Scores


class Search:
    """What a sweep tries of one method with one seed: a list of settings, then what TPE draws.

    Attributes:
        method: the method's name.
        seed: of the sampler.
        settings: known beforehand.
        planned: how many settings there will be, those drawn included.
    """

    def __init__(
        self, method: str, seed: int, settings: Sequence[Setting], tpe: TPE | None = None, draws: int = 0
    ) -> None:
        self.method, self.seed, self.settings = method, seed, settings
        self.planned = len(settings) + draws
        self._left = deque(settings)
        self._tpe, self._draws = tpe, draws
        self._known = set(settings)

    def ask(self) -> Setting | None:
        """Return the next setting, or None where there is none left."""
        if self._left:
            return self._left.popleft()
        if self._tpe is None or self._draws <= 0:
            return None
        self._draws -= 1
        drawn = self._tpe.ask(self._known)
        self._known.add(drawn)
        return drawn

    def covers(self, setting: Setting) -> bool:
        """Return whether a setting that was measured before belongs to this search."""
        return self._tpe is not None or setting in self.settings

    def tell(self, setting: Setting, scores: Scores | None) -> None:
        """Take note of what came of a setting: of its validation scores, or that it has none."""
        if self._tpe is not None:
            self._tpe.tell(setting, scores)

    def remember(self, setting: Setting, scores: Scores | None) -> None:
        """Take note of a setting that was drawn and measured before this search began anew."""
        if setting not in self.settings:
            self._draws -= 1
            self._known.add(setting)
            self.tell(setting, scores)

    def retry(self, setting: Setting) -> None:
        """Have a setting that was drawn before this search began anew measured again, before others."""
        if setting not in self.settings:
            self._draws -= 1
            self._known.add(setting)
            self._left.append(setting)


def searches(experiment: Experiment, layers: Layers, study: Path) -> Iterator[Search]:
    """Yield the searches of an experiment, method by method.

    Args:
        experiment: the experiment.
        layers: number of layers by role of the model.
        study: the database that a TPE search keeps its study in.
    """
    sweep, data = experiment.sweep, experiment.data
    validated = 1 + sum(domain.validation is not None for domain in data.out_of_domain)
    for name in sweep.methods:
        for seed in sweep.seeds:
            settings = listed_settings(sweep, name, seed, layers)
            if sweep.sampler != "tpe":
                yield Search(name, seed, settings)
                continue
            kind = METHODS[name].setting
            space = parse_space(kind.parameters, sweep.methods[name].space)
            tpe = TPE(space, kind, layers, seed, validated, study, f"{name}-{seed}")
            yield Search(name, seed, settings, tpe, _tried(sweep, name, settings) - len(settings))


def listed_settings(sweep: Sweep, method: str, seed: int, layers: Layers) -> list[Setting]:
    """Return the settings of a search that are known beforehand: the enqueued, then the sampler's.

    Settings that come twice are tried once, and the pretrained model is no setting. Those that share the
    encoder's values follow each other, so that the encoder's work serves all of them.

    Raises:
        UserError: if the space or an enqueued setting names what a model of these layers has not.
    """
    written, kind = sweep.methods[method], METHODS[method].setting
    where = f"sweep.methods.{method}." if len(sweep.methods) > 1 else "sweep."
    space = parse_space(kind.parameters, written.space)
    check_space(space, layers, f"{where}space")
    enqueued = [kind.from_dict(values) for values in written.enqueue]
    for setting in enqueued:
        try:
            setting.check(layers)
        except ValueError as error:
            raise UserError(f"{where}enqueue: {error}") from error
    sampled = LISTED[sweep.sampler](space, kind, layers, seed) if sweep.sampler in LISTED else ()
    settings = dict.fromkeys(islice(chain(enqueued, sampled), sweep.trials))
    groups: dict[str, list[Setting]] = {}
    for setting in settings:
        if not setting.is_identity:
            groups.setdefault(encoder_key(method, setting), []).append(setting)
    return list(chain.from_iterable(groups.values()))


def any_setting(sweep: Sweep, method: str, layers: Layers) -> Setting:
    """Return a setting drawn from a method's space, whatever the sampler."""
    kind = METHODS[method].setting
    space = parse_space(kind.parameters, sweep.methods[method].space)
    return next(LISTED["random"](space, kind, layers, 0))


def encoder_key(method: str, setting: Setting) -> str:
    """Return what decides, on one model, what the encoder computes."""
    values = setting.of_role("encoder")
    return json.dumps([method, values], sort_keys=True) if values else PRETRAINED


def planned(sweep: Sweep, layers: Layers) -> int:
    """Return how many settings a sweep tries in all, the pretrained model not counted.

    Raises:
        UserError: as `listed_settings`.
    """
    return sum(
        _tried(sweep, name, listed_settings(sweep, name, seed, layers))
        for name in sweep.methods
        for seed in sweep.seeds
    )


def _tried(sweep: Sweep, method: str, listed: Sequence[Setting]) -> int:
    """Return how many settings a search tries: those listed and, with TPE, what it draws beside them.

    With TPE that is ``sweep.trials``, or all there are where no dimension is a range and they are fewer.
    """
    if sweep.sampler != "tpe":
        return len(listed)
    kind = METHODS[method].setting
    space = parse_space(kind.parameters, sweep.methods[method].space)
    if any(isinstance(dimension, Range) for dimension in space.values()):
        return sweep.trials or 0
    every = set(listed)
    for values in product(space):
        if len(every) == sweep.trials:
            break
        if not (setting := kind.from_dict(values)).is_identity:
            every.add(setting)
    return len(every)
