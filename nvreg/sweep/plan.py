"""What a sweep tries on a model: methods made, spaces read and settings listed, once for all that ask."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from nvreg.errors import UserError
from nvreg.experiment import Sweep
from nvreg.methods import METHODS, Method
from nvreg.methods.section import MethodSpace
from nvreg.models.site import Space as AttentionSpace
from nvreg.parameters import Setting
from nvreg.results import PRETRAINED
from nvreg.samplers import SAMPLERS, TPE, Layers, Sampler
from nvreg.space import OneOf, Range, check_space, product
from nvreg.sweep.search import Search


@dataclass(frozen=True)
class Plan:
    """The plan of a sweep.

    Attributes:
        methods: made with their options, by name.
        searches: what is tried of each, method by method and seed by seed.
    """

    methods: Mapping[str, Method]
    searches: Sequence[Search]

    @property
    def planned(self) -> int:
        """How many settings are tried in all, the pretrained model not counted."""
        return sum(search.planned for search in self.searches)

    @property
    def spaces(self) -> list[AttentionSpace]:
        """The spaces that some method needs a prior of."""
        spaces = {method.space for method in self.methods.values()}
        return sorted((space for space in spaces if space is not None), reverse=True)

    @property
    def matched(self) -> frozenset[str]:
        """The methods of which one is matched to another by how much both change attention outputs."""
        pairs = ((name, method.matched_to) for name, method in self.methods.items())
        return frozenset(
            each
            for name, other in pairs
            if other is not None and other in self.methods
            for each in (name, other)
        )


def make_plan(sweep: Sweep, layers: Layers, objectives: int) -> Plan:
    """Return the plan of a sweep.

    Args:
        sweep: what is asked for.
        layers: number of layers by role of the model.
        objectives: how many validation sets a setting is scored on.

    Raises:
        UserError: if the space or an enqueued setting names what a model of these layers has not.
    """
    methods = {name: written.make() for name, written in sweep.methods.items()}
    searches = []
    for name, written in sweep.methods.items():
        where = f"sweep.methods.{name}." if len(sweep.methods) > 1 else "sweep."
        check_space(written.dimensions, layers, f"{where}space")
        _check_choices(written, layers, f"{where}space")
        for place, setting in enumerate(written.enqueued):
            try:
                setting.check(layers)
            except ValueError as error:
                raise UserError(f"{where}enqueue.{place}.{error}") from error
        kind = written.method.setting_type
        for seed in sweep.seeds:
            sampler = SAMPLERS[sweep.sampler](written.dimensions, kind, layers, seed, objectives)
            settings = _listed(sweep, name, sampler)
            draws = _drawable(sweep, written, settings) if isinstance(sampler, TPE) else 0
            searches.append(Search(name, kind, seed, settings, sampler, draws))
    return Plan(methods, searches)


def _check_choices(written: MethodSpace, layers: Layers, where: str) -> None:
    """Check that a model of these layers may have each value that a space names.

    Raises:
        UserError: if it may not; the message begins with the key of the space.
    """
    kind = written.method.setting_type
    for (parameter, role), dimension in written.dimensions.items():
        if not isinstance(dimension, OneOf) or not kind.parameters[parameter].by_role:
            continue
        for value in dimension.values:
            try:
                kind.from_dict({parameter: value if role is None else {role: value}}).check(layers)
            except ValueError as error:
                raise UserError(f"{where}.{error}") from error


def _listed(sweep: Sweep, method: str, sampler: Sampler) -> list[Setting]:
    """Return the settings of a search that are known beforehand: the enqueued, then the sampler's.

    Settings that come twice are tried once, and the pretrained model is no setting. Those that share the
    encoder's values follow each other, so that the encoder's work serves all of them.
    """
    settings = dict.fromkeys(islice(chain(sweep.methods[method].enqueued, sampler.listed()), sweep.trials))
    groups: dict[str, list[Setting]] = {}
    for setting in settings:
        if not setting.is_identity:
            groups.setdefault(encoder_key(method, setting), []).append(setting)
    return list(chain.from_iterable(groups.values()))


def _drawable(sweep: Sweep, written: MethodSpace, listed: Sequence[Setting]) -> int:
    """Return how many settings are drawn beside those listed with TPE.

    With them there are ``sweep.trials``, or all there are where no dimension is a range and they are fewer.
    """
    wanted = sweep.trials or 0
    if not any(isinstance(dimension, Range) for dimension in written.dimensions.values()):
        every = set(listed)
        for values in product(written.dimensions):
            if len(every) == wanted:
                break
            if not (setting := written.method.setting_type.from_dict(values)).is_identity:
                every.add(setting)
        wanted = len(every)
    return wanted - len(listed)


def encoder_key(method: str, setting: Setting) -> str:
    """Return what decides, on one model, what the encoder computes by itself."""
    values = setting.of_role("encoder") if METHODS[method].space else {}
    return json.dumps([method, values], sort_keys=True) if values else PRETRAINED
