"""What a run was made with: its manifest, and the conditions that decide which trials compare."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from yaml import YAMLError

from nvreg.config.yaml import read_yaml
from nvreg.digests import options_of
from nvreg.environment import environment
from nvreg.errors import UserError
from nvreg.files import check_output, differences
from nvreg.methods import METHODS
from nvreg.results import (
    BatchSize,
    RunFiles,
    digest,
    is_changed_manifest,
    is_changed_yaml,
    is_sealed_yaml,
    read_manifest,
    read_trials,
)
from nvreg.tasks import SCORING_VERSION, TASKS
from nvreg.tasks.base import BATCH_TOKENS, content_of
from nvreg.tasks.sampling import CALIBRATION_EXAMPLES, CALIBRATION_TOKENS

if TYPE_CHECKING:
    from nvreg.sweep.workbench import Priors, ScoredSplit, Workbench


def conditions_of(workbench: Workbench, device: str) -> dict[str, Any]:
    """Return everything but method and settings that can change a trial's numbers, large things as digests.

    The size of batches is left out in float32: no number depends on it, so a sweep that ran out of memory
    continues with smaller ones; in half precision "auto" is the usual size, which it was in every earlier
    version. What only some methods read, the prior and the text that prior weights are
    solved on, is a condition of theirs alone (see `manifest_of`).

    Args:
        workbench: what is measured, and on what.
        device: the kind of device that it is measured on.
    """
    experiment = workbench.experiment
    evaluation = experiment.evaluation.options
    if experiment.model.dtype != "float32" and workbench.model.dtype != torch.float32:
        asked, size = experiment.evaluation.batch_tokens, workbench.task.batch_tokens
        evaluation["batch_tokens"] = "auto" if asked == "auto" and size == BATCH_TOKENS else size
    generation = getattr(workbench.model, "generation_config", None)  # other models have none
    defaults = generation.to_diff_dict() if generation else {}
    return {
        **subject_of(workbench),
        "config": digest(options_of(workbench.model.config)),
        "reading": experiment.data.options,
        "tokens": _by_split(workbench, lambda scored: digest(content_of(scored.encoded))),
        "evaluation": evaluation | {"metrics": sorted(evaluation["metrics"])},
        "generation": {key: value for key, value in defaults.items() if key != "transformers_version"},
        "signatures": dict(workbench.task.conditions),
        "scoring": SCORING_VERSION,
        "device": device,
        **({"package": package} if (package := TASKS.package(experiment.task)) else {}),
        "versions": {name: version(name).split(".")[:2] for name in ("torch", "transformers")},
    }


def manifest_of(workbench: Workbench, priors: Priors, device: str, size: BatchSize) -> dict[str, Any]:
    """Return what goes into ``manifest.json``.

    The digest of the conditions, ``context``, decides which trials compare; ``methods`` has what decides,
    beside it and a setting, what a method does.

    Args:
        workbench: what is measured, and on what.
        priors: the experiment's, by space.
        device: the kind of device that it is measured on.
        size: how much is scored at a time.
    """
    experiment, conditions = workbench.experiment, conditions_of(workbench, device)
    return {
        "name": experiment.name,
        "task": experiment.task,
        "model": workbench.fingerprint,
        **experiment.model.trusted,
        "data": _by_split(workbench, _describe),
        "columns": list(workbench.task.required),
        **{
            RunFiles.name_of_prior(space): {"kind": prior.kind, "fingerprint": prior.fingerprint}
            for space, prior in priors.items()
        },
        "context": digest(conditions),
        "conditions": conditions,
        "batch_tokens": size.model_dump(),
        "metrics": dict(workbench.task.signatures),
        "methods": {name: _fingerprint(workbench, name, priors) for name in workbench.plan.methods},
        "seeds": experiment.sweep.seeds,
        "planned": workbench.plan.planned,
        **environment(device),
    }


def _fingerprint(workbench: Workbench, name: str, priors: Priors) -> str:
    """Return what decides what a method does.

    That is its options, the package that it comes from, its prior, and what its settings are solved on.
    """
    method = workbench.plan.methods[name]
    parts = [method.fingerprint]
    if package := METHODS.package(name):
        parts.append(package)
    if method.space is not None:
        parts.append(priors[method.space].fingerprint)
    if workbench.experiment.sweep.methods[name].calibrated:
        parts.append(digest([workbench.training.fingerprint, CALIBRATION_TOKENS, CALIBRATION_EXAMPLES]))
    return " ".join(parts)


def with_earlier_methods(manifest: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Add what an earlier manifest of the same conditions says of methods, and priors, that this one has not.

    Trials of methods that a sweep does not try now are as good as they were.
    """
    if earlier.get("context") != manifest["context"]:
        return dict(manifest)
    names = map(RunFiles.name_of_prior, ("inputs", "heads"))
    priors = {name: earlier[name] for name in names if name in earlier and name not in manifest}
    return {**manifest, **priors, "methods": earlier.get("methods", {}) | manifest["methods"]}


def changed_methods(earlier: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[str]:
    """Return the methods that do something else than by an earlier manifest of the same conditions."""
    if earlier.get("context") != manifest["context"]:
        return []
    known = earlier.get("methods", {})
    return [name for name, now in manifest["methods"].items() if known.get(name, now) != now]


def earlier_manifest(path: Path) -> Mapping[str, Any]:
    """Return the manifest of an earlier sweep; nothing where it is lost or damaged."""
    try:
        manifest = read_manifest(path)
    except UserError:
        return {}
    return {} if is_changed_manifest(manifest) else manifest


def earlier_batch_size(earlier: Mapping[str, Any], device: str) -> BatchSize | None:
    """Return the size of batches that an earlier sweep found on such a device; None where it found none."""
    if earlier.get("hardware", {}).get("device") != device:
        return None
    if (written := earlier.get("batch_tokens")) is None:
        return BatchSize(tokens=BATCH_TOKENS, found="as in earlier versions, which began this run")
    size = BatchSize.model_validate(written)
    return size if size.found else None


def changed_conditions(earlier: Mapping[str, Any], manifest: Mapping[str, Any]) -> str | None:
    """Say in which conditions an earlier manifest differs; None where there is none of other conditions."""
    if not earlier or earlier.get("context") == manifest["context"]:
        return None
    if "conditions" not in earlier:
        return "an earlier version of nvreg"
    conditions = json.loads(json.dumps(manifest["conditions"]))  # as the earlier ones were written
    return ", ".join(differences(earlier["conditions"], conditions))


def check_directory(output: Path, workbench: Workbench) -> None:
    """Check that an output directory is new, or already this experiment's.

    One whose manifest is lost or damaged is this experiment's if the experiment file that nvreg wrote there
    has the name and the task or, where that is lost or damaged too, its trials can be read.

    Raises:
        UserError: if it holds an experiment of another name, task, model or data, or something else.
    """

    def theirs_of(manifest: dict[str, Any]) -> dict[str, Any]:
        if is_changed_manifest(manifest):
            raise ValueError("damaged")
        theirs = {key: manifest[key] for key in ours}
        theirs["data"] = {
            domain: {split: description["fingerprint"] for split, description in splits.items()}
            for domain, splits in manifest["data"].items()
        }
        return theirs

    def is_ours() -> bool:
        files, wanted = RunFiles(output), workbench.experiment
        try:
            trials = files.trials.is_file() and any(True for _ in read_trials(files.trials))
            text = files.experiment.read_text(encoding="utf-8")
            if is_changed_yaml(text):
                return trials
            written, is_known = read_yaml(text), trials or is_sealed_yaml(text)  # else it may be the user's
            return is_known and (written["name"], written["task"]) == (wanted.name, wanted.task)
        except UserError:
            return False
        except (OSError, LookupError, TypeError, ValueError, YAMLError):
            return trials  # those of another experiment are never taken for this one's

    ours = {"name": workbench.experiment.name, **subject_of(workbench)}
    check_output(output, ours, theirs_of, is_ours)


def subject_of(workbench: Workbench) -> dict[str, Any]:
    """Return what is measured, and on what."""
    return {
        "task": workbench.experiment.task,
        "model": workbench.fingerprint,
        "data": _by_split(workbench, lambda scored: scored.examples.fingerprint),
    }


def _by_split(workbench: Workbench, describe: Callable[[ScoredSplit], Any]) -> dict[str, dict[str, Any]]:
    return {
        domain: {split: describe(scored) for split, scored in splits.items()}
        for domain, splits in workbench.scored.items()
    }


def _describe(scored: ScoredSplit) -> dict[str, Any]:
    return {
        "fingerprint": scored.examples.fingerprint,
        "examples": len(scored.examples),
        "truncated": scored.encoded.truncated,
    }
