"""Samplers: how the settings that a sweep tries are drawn from a space."""

from __future__ import annotations

import itertools
import math
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from nvreg.errors import UserError
from nvreg.files import check_regular
from nvreg.parameters import ROLES, Parameter, Setting, Value
from nvreg.registry import Registry
from nvreg.space import Dimension, OneOf, Range, Space, draw, key_of, product, setting_values

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.study import StudyDirection

Layers = Mapping[str, int]
"""Number of layers by role of a model."""

Scores = Sequence[float]
"""What a setting scores on each validation set, the greater the better."""

WORST = -1e6
"""What a score that is not finite counts as: Optuna takes finite numbers."""

Key = tuple[str, str | None]


class Sampler(ABC):
    """Draws settings from a space.

    Args:
        space: what to draw from.
        setting_type: the type of the settings.
        layers: number of layers by role of the model.
        seed: decides the draws.
        objectives: how many validation sets a setting is scored on.

    Attributes:
        name: as in an experiment file.
        needs_trials: whether it goes on without end, so that the file has to say how many to draw.
        takes_trials: whether the file may say how many to draw.
        takes_ranges: whether a space may have ranges.
        combines: whether a setting has values of several dimensions.
    """

    name: ClassVar[str]
    needs_trials: ClassVar[bool] = True
    takes_trials: ClassVar[bool] = True
    takes_ranges: ClassVar[bool] = True
    combines: ClassVar[bool] = True

    def __init__(
        self, space: Space, setting_type: type[Setting], layers: Layers, seed: int, objectives: int
    ) -> None:
        self._space, self._setting_type, self._layers, self._seed = space, setting_type, layers, seed

    @classmethod
    def check(cls, space: Space, setting_type: type[Setting]) -> None:
        """Check that it can draw settings of a type from a space.

        Raises:
            ValueError: if it cannot; the message begins with the key of the dimension.
        """
        if cls.combines:
            _check_together(space, setting_type)
        for (parameter, role), dimension in space.items():
            if isinstance(dimension, Range) and not cls.takes_ranges:
                raise ValueError(
                    f"{key_of(parameter, role)}: expected {{values: [...]}} or a fixed value, which "
                    f"sampler: {cls.name} needs, got a range"
                )

    @abstractmethod
    def listed(self) -> Iterator[Setting]:
        """Yield the settings that are known before the first is measured."""


class Grid(Sampler):
    """Every combination of the space's values."""

    name = "grid"
    needs_trials = takes_ranges = False

    def listed(self) -> Iterator[Setting]:
        """Yield every combination, the last dimension varying fastest."""
        return (self._setting_type.from_dict(values) for values in product(self._space))


class Alone(NamedTuple):
    """What a setting changes, where that is one parameter in one layer of one role."""

    parameter: str
    role: str
    layer: int
    value: float


class OneAtATime(Sampler):
    """Every value of each parameter in every layer of each role by itself, all else at identity.

    Parameters without values by layer, as the seed of weight noise, are the same throughout.
    """

    name = "one-at-a-time"
    needs_trials = takes_trials = takes_ranges = combines = False

    @classmethod
    def check(cls, space: Space, setting_type: type[Setting]) -> None:
        """Check that some parameter has values by layer, and all others one (see `Sampler.check`)."""
        super().check(space, setting_type)
        parameters = setting_type.parameters
        if not any(_is_by_layer(parameters[name]) for name, _ in space):
            raise ValueError(f"expected a parameter with values by layer, which sampler: {cls.name} sets")
        for (name, role), values in _choices(space).items():
            if any(isinstance(value, tuple) for value in values):
                raise ValueError(
                    f"{key_of(name, role)}: expected values for each layer by itself, got one a layer"
                )
            if not _is_by_layer(parameters[name]) and len(values) > 1:
                raise ValueError(
                    f"{key_of(name, role)}: expected one value, the same for all settings of sampler: "
                    f"{cls.name}, got {len(values)}"
                )

    def listed(self) -> Iterator[Setting]:
        """Yield the settings, parameter by parameter, role by role and layer by layer."""
        parameters = self._setting_type.parameters
        shared = {key: each for key, each in self._space.items() if not _is_by_layer(parameters[key[0]])}
        (everywhere,) = product(shared)
        for (name, role), values in _choices(self._space).items():
            if (name, role) in shared:
                continue
            identity = parameters[name].identity
            strengths = [value for value in values if value != identity]
            for each in self._layers if role is None else [role]:
                for layer, strength in itertools.product(range(self._layers[each]), strengths):
                    by_layer: list[Value] = [identity] * self._layers[each]
                    by_layer[layer] = strength
                    yield self._setting_type.from_dict({**everywhere, name: {each: by_layer}})


def alone(setting: Setting) -> Alone | None:
    """Return what a setting of `OneAtATime` changes; None for a setting that changes anything else."""
    found = []
    for name, rule in setting.parameters.items():
        for role in ROLES if _is_by_layer(rule) else ():
            values = setting.values(name, role)
            by_layer = values if isinstance(values, tuple) else ()
            if not by_layer and values != rule.identity:
                return None
            found += [
                Alone(name, role, layer, value)
                for layer, value in enumerate(by_layer)
                if value != rule.identity
            ]
    return found[0] if len(found) == 1 else None


def _check_together(space: Space, setting_type: type[Setting]) -> None:
    """Check that a setting may move all dimensions of a space from identity at once.

    Raises:
        ValueError: if it may not, as of parameters that stand for each other one at most is given.
    """
    moved = []
    for (name, _), dimension in space.items():
        ends = [dimension.low, dimension.high] if isinstance(dimension, Range) else dimension.values
        values = [each for end in ends for each in (end if isinstance(end, tuple) else (end,))]
        identity = setting_type.parameters[name].identity
        moved.append(next((value for value in values if value != identity), identity))
    setting_type.from_dict(setting_values(space, moved))


def _choices(space: Space) -> dict[Key, tuple[Value, ...]]:
    """Return the values of a space without ranges."""
    return {key: each.values for key, each in space.items() if isinstance(each, OneOf)}


def _is_by_layer(parameter: Parameter) -> bool:
    return parameter.by_role and parameter.by_layer


class Random(Sampler):
    """Independent draws; the i-th depends on nothing but the seed and i."""

    name = "random"

    def listed(self) -> Iterator[Setting]:
        """Yield draws without end."""
        for index in itertools.count():
            generator = np.random.default_rng([self._seed, index])
            yield self._setting_type.from_dict(draw(self._space, self._layers, generator))


class TPE(Sampler):
    """Optuna's tree-structured Parzen estimator (Bergstra et al., 2011), which learns from what it is told.

    It learns from the scores on all validation sets at once, one objective each: a search that looked at one
    domain alone would leave the protocols that look at the others with little to choose from.
    """

    name = "tpe"

    def __init__(
        self, space: Space, setting_type: type[Setting], layers: Layers, seed: int, objectives: int
    ) -> None:
        import optuna

        super().__init__(space, setting_type, layers, seed, objectives)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._directions = [optuna.study.StudyDirection.MAXIMIZE] * objectives
        self._study = optuna.create_study(directions=self._directions)
        self._distributions = dict(self._named_distributions())
        self._asked: dict[Setting, Trial] = {}
        self._copy: Study | None = None
        self._say: Callable[[str], None]

    def listed(self) -> Iterator[Setting]:
        """Yield nothing: every draw depends on the results before it."""
        return iter(())

    def ask(self, known: Set[Setting]) -> Setting:
        """Return a draw that the results so far make promising; the first ten are random.

        Where it is the pretrained model or known, the draw is a random one that is neither.

        Args:
            known: settings that have been asked for before; there is one more in the space. With the seed
                their number decides the draw.
        """
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        # A sampler of its own for each draw: a search that is continued draws what it would have drawn.
        sequence = np.random.SeedSequence([self._seed, len(known)])
        self._study.sampler = TPESampler(seed=int(sequence.generate_state(1)[0]))
        trial = self._study.ask(self._distributions)
        setting = self._drawn(trial.params)
        if not setting.is_identity and setting not in known:
            self._asked[setting] = trial
            return setting
        self._study.tell(trial, state=TrialState.FAIL)
        others = Random(self._space, self._setting_type, self._layers, self._seed, len(self._directions))
        return next(other for other in others.listed() if not other.is_identity and other not in known)

    def tell(self, setting: Setting, scores: Scores | None) -> None:
        """Add what came of a setting to the study, drawn here or not, if the space has it."""
        from optuna.trial import TrialState, create_trial

        values = None if scores is None else [_finite(score) for score in scores]
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        if setting in self._asked:
            told = self._study.tell(self._asked.pop(setting), values, state)
        else:
            params = dict(self._params(setting))
            if params.keys() != self._distributions.keys() or not self._are_alike(
                self._drawn(params), setting
            ):
                return
            told = create_trial(state=state, params=params, distributions=self._distributions, values=values)
            self._study.add_trial(told)
        if self._copy is not None:
            try:
                self._copy.add_trial(told)
            except Exception as error:  # Optuna, SQLAlchemy and SQLite raise their own
                self._copy = None
                self._say(f"the study is copied no further, and no result depends on it: {_reason(error)}")

    def copy_to(self, file: Path, name: str, say: Callable[[str], None]) -> None:
        """Copy what the study is told from here on to a database, for Optuna's tools.

        Nothing depends on the copy. A study of the same name is made anew, and so is a database that this
        version of Optuna does not read.

        Args:
            file: the database; it may hold studies of other names.
            name: the study's.
            say: is told in a line what cannot be read or written.
        """
        self._say = say
        try:
            check_regular(file)
        except UserError as error:
            say(f"{error}; the sweep goes without, and no result depends on it")
            return
        for is_last in (False, True):
            try:
                self._copy = _new_study(file, name, self._directions)
                return
            except Exception as error:  # Optuna, SQLAlchemy, Alembic and SQLite raise their own
                outcome = "goes without, and no result depends on it" if is_last else "makes it again"
                say(
                    f"{file}: expected a database of this version of Optuna, got: {_reason(error)}; "
                    f"the sweep {outcome}"
                )
                _remove(file)

    def _named_distributions(self) -> Iterator[tuple[str, BaseDistribution]]:
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        for key, dimension in self._space.items():
            for name in self._names(key, dimension):
                if isinstance(dimension, Range):
                    yield name, FloatDistribution(dimension.low, dimension.high, log=dimension.logarithmic)
                else:
                    yield name, CategoricalDistribution(range(len(dimension.values)))

    def _names(self, key: Key, dimension: Dimension) -> list[str]:
        role, name = key[1], key_of(*key)
        if role and isinstance(dimension, Range) and dimension.each_layer:
            return [f"{name}.{layer}" for layer in range(self._layers[role])]
        return [name]

    def _drawn(self, params: Mapping[str, Any]) -> Setting:
        values = [self._value(key, dimension, params) for key, dimension in self._space.items()]
        return self._setting_type.from_dict(setting_values(self._space, values))

    def _are_alike(self, one: Setting, other: Setting) -> bool:
        """Whether two settings are the same in every layer, however they are written."""
        return all(
            one.value(parameter, role, layer) == other.value(parameter, role, layer)
            for parameter in self._setting_type.parameters
            for role, layers in self._layers.items()
            for layer in range(layers)
        )

    def _value(self, key: Key, dimension: Dimension, params: Mapping[str, Any]) -> Value:
        drawn = [params[name] for name in self._names(key, dimension)]
        if isinstance(dimension, OneOf):
            return dimension.values[drawn[0]]
        return tuple(drawn) if dimension.each_layer else float(drawn[0])

    def _params(self, setting: Setting) -> Iterator[tuple[str, Any]]:
        """Yield what a study would have drawn for this setting, as far as the space has it."""
        for key, dimension in self._space.items():
            names, value = self._names(key, dimension), setting.values(key[0], key[1] or ROLES[0])
            if isinstance(dimension, OneOf):
                if value in dimension.values:
                    yield names[0], dimension.values.index(value)
                continue
            by_name = value if isinstance(value, tuple) else [value] * len(names)
            if len(by_name) == len(names) and all(
                dimension.low <= each <= dimension.high for each in by_name
            ):
                yield from zip(names, by_name, strict=True)


SAMPLERS: Registry[type[Sampler]] = Registry(
    "sampler", {sampler.name: sampler for sampler in (Grid, Random, TPE, OneAtATime)}
)
"""Every sampler by its name in an experiment file."""


def _new_study(file: Path, name: str, directions: Sequence[StudyDirection]) -> Study:
    """Return an empty study in a database.

    Raises:
        Exception: if the database is damaged, or of another version of Optuna.
    """
    import optuna
    from sqlalchemy import URL

    with closing(sqlite3.connect(file)) as database:
        (found,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise ValueError(found)

    address = URL.create("sqlite", database=str(file)).render_as_string()  # what SQLAlchemy reads is escaped
    storage = optuna.storages.RDBStorage(address)
    if name in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=name, storage=storage)
    return optuna.create_study(storage=storage, study_name=name, directions=list(directions))


def _remove(file: Path) -> None:
    """Remove a database, with what SQLite keeps beside one that was being written."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        with suppress(OSError):
            file.with_name(file.name + suffix).unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def _finite(score: float) -> float:
    return max(score, WORST) if math.isfinite(score) else WORST
