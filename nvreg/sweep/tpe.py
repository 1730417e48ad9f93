"""Optuna's tree-structured Parzen estimator as a sampler (Bergstra et al., 2011)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from nvreg.parameters import ROLES, Setting, Value
from nvreg.space import Choices, Dimension, Range, Space, setting_values
from nvreg.sweep.samplers import Layers, random

WORST = -1e6
"""What a score that is not finite counts as: Optuna takes finite numbers."""

Scores = Sequence[float]
"""Of a setting on each validation set, the greater the better."""

Key = tuple[str, str | None]


class TPE:
    """Learns from the scores on all validation sets at once, one objective each.

    A search that looked at one domain alone would leave the protocols that look at the others with little to
    choose from. The study is kept on disk for Optuna's tools; it is made anew from what the sampler is told,
    so that nothing depends on it.

    Args:
        space: what to draw from.
        kind: of the settings.
        layers: number of layers by role of the model.
        seed: with the number of settings asked for so far it decides a draw.
        domains: how many validation sets there are.
        file: the database that the study is kept in.
        name: of the study.
    """

    def __init__(
        self,
        space: Space,
        kind: type[Setting],
        layers: Layers,
        seed: int,
        domains: int,
        file: Path,
        name: str,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space, self._kind, self._layers, self._seed = space, kind, layers, seed
        self._distributions = dict(self._named_distributions())
        storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
        if name in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=name, storage=storage)
        self._study = optuna.create_study(storage=storage, study_name=name, directions=["maximize"] * domains)
        self._asked: dict[Setting, optuna.Trial] = {}

    def ask(self, known: Set[Setting]) -> Setting:
        """Return a draw that the results so far make promising; the first ten are random.

        Where it is the pretrained model or known, the draw is a random one that is neither.

        Args:
            known: settings that have been asked for before; there is one more in the space.
        """
        # A sampler of its own for each draw: a search that is continued draws what it would have drawn.
        sequence = np.random.SeedSequence([self._seed, len(known)])
        self._study.sampler = optuna.samplers.TPESampler(seed=int(sequence.generate_state(1)[0]))
        trial = self._study.ask(self._distributions)
        setting = self._drawn(trial.params)
        if not setting.is_identity and setting not in known:
            self._asked[setting] = trial
            return setting
        self._study.tell(trial, state=TrialState.FAIL)
        others = random(self._space, self._kind, self._layers, self._seed)
        return next(other for other in others if not other.is_identity and other not in known)

    def tell(self, setting: Setting, scores: Scores | None) -> None:
        """Add what came of a setting to the study, drawn here or not, if the space has it."""
        values = None if scores is None else [_finite(score) for score in scores]
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        if setting in self._asked:
            self._study.tell(self._asked.pop(setting), values, state)
            return
        params = dict(self._params(setting))
        if params.keys() == self._distributions.keys() and self._are_alike(self._drawn(params), setting):
            trial = optuna.trial.create_trial(
                state=state, params=params, distributions=self._distributions, values=values
            )
            self._study.add_trial(trial)

    def _named_distributions(self) -> Iterator[tuple[str, BaseDistribution]]:
        for key, dimension in self._space.items():
            for name in self._names(key, dimension):
                if isinstance(dimension, Range):
                    yield name, FloatDistribution(dimension.low, dimension.high, log=dimension.logarithmic)
                else:
                    yield name, CategoricalDistribution(range(len(dimension.values)))

    def _names(self, key: Key, dimension: Dimension) -> list[str]:
        parameter, role = key
        name = f"{parameter}.{role}" if role else parameter
        if role and isinstance(dimension, Range) and dimension.each_layer:
            return [f"{name}.{layer}" for layer in range(self._layers[role])]
        return [name]

    def _drawn(self, params: Mapping[str, Any]) -> Setting:
        values = [self._value(key, dimension, params) for key, dimension in self._space.items()]
        return self._kind.from_dict(setting_values(self._space, values))

    def _are_alike(self, one: Setting, other: Setting) -> bool:
        """Whether two settings are the same in every layer, however they are written."""
        return all(
            one.value(parameter, role, layer) == other.value(parameter, role, layer)
            for parameter in self._kind.parameters
            for role, layers in self._layers.items()
            for layer in range(layers)
        )

    def _value(self, key: Key, dimension: Dimension, params: Mapping[str, Any]) -> Value:
        drawn = [params[name] for name in self._names(key, dimension)]
        if isinstance(dimension, Choices):
            return dimension.values[drawn[0]]
        return tuple(drawn) if dimension.each_layer else float(drawn[0])

    def _params(self, setting: Setting) -> Iterator[tuple[str, Any]]:
        """Yield what a study would have drawn for this setting, as far as the space has it."""
        for key, dimension in self._space.items():
            names, value = self._names(key, dimension), setting.values(key[0], key[1] or ROLES[0])
            if isinstance(dimension, Choices):
                if value in dimension.values:
                    yield names[0], dimension.values.index(value)
                continue
            by_name = value if isinstance(value, tuple) else [value] * len(names)
            if len(by_name) == len(names) and all(
                dimension.low <= each <= dimension.high for each in by_name
            ):
                yield from zip(names, by_name, strict=True)


def _finite(score: float) -> float:
    return max(score, WORST) if math.isfinite(score) else WORST
