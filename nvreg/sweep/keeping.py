"""What a sweep writes to its directory, and how it ends where someone else removes that meanwhile."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import yaml

from nvreg.config.yaml import read_yaml, write_yaml
from nvreg.errors import DamagedError, UserError
from nvreg.experiment import Experiment
from nvreg.files import write_text
from nvreg.results import RunFiles, Trial, is_changed_yaml, sealed_manifest, sealed_yaml
from nvreg.sweep.ledger import Ledger
from nvreg.sweep.workbench import Priors
from nvreg.sweep.worker import Frames


class Keeper:
    """Writes the directory of a sweep, and notices before every trial whether all is still there.

    Args:
        files: the paths.
        manifest: what is written as such.
        experiment: the same; the methods that an earlier sweep tried in the directory stay in it.
        priors: by space.
    """

    def __init__(
        self, files: RunFiles, manifest: Mapping[str, Any], experiment: Experiment, priors: Priors
    ) -> None:
        self._files, self._priors, self._kept = files, priors, set[str]()
        written = experiment.model_dump()
        methods = _methods_in(files, written["sweep"]["sampler"]) | written["sweep"]["methods"]
        written["sweep"]["methods"] = methods
        self._experiment = sealed_yaml(write_yaml(written))
        self._manifest = json.dumps(sealed_manifest(manifest), indent=1) + "\n"

    def write(self) -> None:
        """Write everything but trials; the manifest first, which makes the directory this experiment's."""
        write_text(self._files.manifest, self._manifest)
        write_text(self._files.experiment, self._experiment)
        for space, prior in self._priors.items():
            prior.save(self._files.prior_of(space))

    def keep(self, ledger: Ledger, trial: Trial, frames: Frames) -> None:
        """Write a trial, its examples first.

        Raises:
            UserError: if someone else has removed or emptied the directory. What is in memory is then written
                there again, this trial with it, unless that would replace what they have written.
        """
        self._restore(ledger, damage := _damage(ledger))
        digests: dict[str, dict[str, str]] = defaultdict(dict)
        for (domain, split), frame in frames.items():
            digests[domain][split] = ledger.store.save_examples(trial.key, domain, split, frame)
        ledger.append(replace(trial, examples=dict(digests) or None))
        self._kept.add(trial.key)
        self._stop(damage)

    def check(self, ledger: Ledger, trials: Iterable[Trial]) -> None:
        """Check, at the end, that those of some trials that this sweep has measured are still there.

        Raises:
            UserError: as `keep`.
        """
        self._restore(ledger, damage := _damage(ledger))
        if damage is None:
            for trial in ledger.store.lost(trial for trial in trials if trial.key in self._kept)[:1]:
                damage = DamagedError(f"the examples of trial {trial.number} are gone or changed")
        self._stop(damage)

    def _restore(self, ledger: Ledger, damage: DamagedError | None) -> None:
        """Write again what is in memory, where that replaces nothing of someone else.

        Raises:
            UserError: if it does, or cannot be written.
        """
        if damage is None:
            return
        manifest = self._files.manifest
        try:
            if manifest.exists() and manifest.read_bytes() != self._manifest.encode():
                raise DamagedError(f"{manifest} was changed by someone else")
            self._files.directory.mkdir(parents=True, exist_ok=True)
            self.write()
            ledger.store.restore()
        except DamagedError as theirs:
            raise UserError(
                f"{self._disturbed(theirs)}; nothing is written over it, and the trial under way is lost; "
                "move it away and run the sweep again"
            ) from theirs
        except OSError as error:
            raise UserError(f"{self._disturbed(damage)}, and cannot write it again: {error}") from error

    def _stop(self, damage: DamagedError | None) -> None:
        if damage is not None:
            raise UserError(
                f"{self._disturbed(damage)}; what was in memory is written there again; run the sweep again, "
                "which measures what is missing"
            )

    def _disturbed(self, damage: DamagedError) -> str:
        return f"expected {self._files.directory} to be left alone during the sweep, got: {damage}"


def _damage(ledger: Ledger) -> DamagedError | None:
    """Return what someone else has done to the directory of a ledger's store."""
    try:
        ledger.store.check()
    except DamagedError as damage:
        return damage
    return None


def _methods_in(files: RunFiles, sampler: str) -> dict[str, Any]:
    """Return the methods that an earlier sweep by a sampler tried here: its trials are there to be chosen."""
    try:
        text = files.experiment.read_text(encoding="utf-8")
        sweep = {} if is_changed_yaml(text) else read_yaml(text)["sweep"]
        return dict(sweep["methods"]) if sweep["sampler"] == sampler else {}
    except (OSError, LookupError, TypeError, ValueError, yaml.YAMLError):
        return {}
