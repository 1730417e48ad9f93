"""An experiment file that nobody has written yet: what it says, and why."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple

from nvreg.config.loading import set_keys
from nvreg.errors import UserError
from nvreg.methods import METHODS
from nvreg.metrics.classification import names_entities
from nvreg.progress import Progress
from nvreg.protocols import PROTOCOLS
from nvreg.start.data import FULL, DataSection, Size
from nvreg.start.domains import DomainDraft, find_domains, written_path
from nvreg.start.subject import Ask, DraftSubject, open_subject
from nvreg.tasks import TASKS

SPACE = {"prior_weight": [0.003, 0.3], "noise_share": [0.0003, 0.1]}
"""The ranges that settings of NV are drawn from, log-uniformly, in every role."""

TEMPERATURE_RANGE = [0.5, 2]
"""The range that output temperatures are drawn from."""

TEMPERATURES = [0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2]
"""The temperatures that likelihoods of text are kept at.

They go as high as output temperatures are drawn, or a gain of softening alone would not be known as one.
"""

WINDOW = 512
"""Tokens that a language model reads at once at most, unless the file is changed."""

SUGGESTED_METRICS: Mapping[str, Sequence[str]] = {
    "translation": ("bleu", "chrf", "nll"),
    "summarisation": ("rougeL", "rouge1", "nll"),
    "language-modelling": ("bits-per-character", "perplexity"),
    "classification": ("accuracy", "macro-f1", "nll", "ece"),
    "token-classification": ("f1", "accuracy", "macro-f1", "nll"),
    "multiple-choice": ("accuracy", "nll"),
}
"""What is measured, the metric that settings are chosen by first."""

BEAMS = 4
"""Beams where neither the checkpoint nor the size of the experiment says how many."""

ROOM = 1.25
"""How much longer a generated text may be than the longest reference that was looked at."""


def name_of(model: str) -> str:
    """Return what an experiment with a model is called: the end of its path or of its name on the hub."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model).absolute().name) or "model"


def new_output(name: str) -> str:
    """Return a directory of results that is not there yet."""
    names = chain([f"results/{name}"], (f"results/{name}-{number}" for number in count(2)))
    return next(each for each in names if not Path(each).exists())


class DraftRequest(NamedTuple):
    """What a user asks for.

    Attributes:
        model: a directory of a checkpoint, or its name on the hub.
        in_domain: a file, a directory, or a data set of the hub (see `nvreg.start.domains.find_domains`).
        out_of_domain: the same of each other domain.
        file: where the experiment file is to be.
        output: where its results are to be.
        task: None: it is told by the model and the data.
        overrides: ``a.b=value`` each, of what is not to be guessed.
        size: how large the experiment is.
    """

    model: str
    in_domain: str
    out_of_domain: Sequence[str]
    file: Path
    output: str
    task: str | None = None
    overrides: Sequence[str] = ()
    size: Size = FULL


@dataclass
class Draft:
    """What an experiment file is to say.

    Attributes:
        document: keys and values.
        notes: what stands beside a key, by its dotted path.
    """

    document: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def draft_experiment(request: DraftRequest, ask: Ask | None, progress: Progress) -> Draft:
    """Look at a model and at data, and return the experiment that they suggest.

    Args:
        request: what the user asks for.
        ask: asks the user what cannot be seen; None where nobody answers.
        progress: shows what is done.

    Raises:
        UserError: if the model or the data cannot be had, or something cannot be told.
    """
    given: dict[str, Any] = {}
    set_keys(given, request.overrides, request.file)
    progress.phase("looking at the data")
    ours, others = find_domains(request.in_domain, request.out_of_domain)
    progress.phase("loading the model")
    revision = (given.get("model") or {}).get("revision")
    model = os.path.expanduser(request.model)
    subject = open_subject(model, request.task or given.get("task"), ours.first, ask, revision)
    progress.phase("drafting the experiment")
    directory = request.file.resolve().parent
    is_local = Path(model).is_dir()
    draft = Draft(
        {
            "name": name_of(model),
            "task": subject.task,
            "model": {"path": written_path(os.path.abspath(model), directory) if is_local else model},
        }
    )
    parameters = f"{subject.model.num_parameters():,} parameters"
    draft.notes["model"] = f"{type(subject.model).__name__}, {parameters}"
    if subject.why:
        draft.notes["task"] = subject.why
    section = DataSection(subject, given.get("data") or {}, ask)
    draft.document["data"] = section.write(ours, others, request.size, directory)
    draft.notes |= section.notes
    _add_sweep(draft, subject, request.size)
    _add_evaluation(draft, subject, section.references, request.size)
    _add_selection(draft, subject, others)
    draft.document["output"] = request.output
    draft.notes["output"] = "relative to where nvreg sweep is run"
    set_keys(draft.document, request.overrides, request.file)
    for override in request.overrides:
        draft.notes[override.partition("=")[0]] = "given"
    return draft


def _add_sweep(draft: Draft, subject: DraftSubject, size: Size) -> None:
    """Add what is tried: NV in each space that the model has, beside the simplest control."""
    methods: dict[str, Any] = {}
    for method in ("nv", "nv-heads"):
        space = METHODS[method].space
        if space is not None and (roles := subject.roles.get(space)):
            methods[method] = {
                "space": {name: {role: list(ends) for role in roles} for name, ends in SPACE.items()}
            }
    methods["output-temperature"] = {"space": {"output_temperature": TEMPERATURE_RANGE}}
    draft.document["prior"] = {"kind": "empirical"}
    draft.document["sweep"] = {"sampler": "random", "trials": size.trials, "seed": 1, "methods": methods}
    draft.notes |= {
        "prior": "moments of the training text",
        "sweep.trials": "settings of each method",
        "sweep.methods": "[from, to] is a range, of the mean weight of the prior and of the share of noise",
        "sweep.methods.output-temperature": "the control that costs nothing: would it have done as well?",
    }
    if "nv" in methods:
        draft.notes["sweep.methods.nv"] = "the published form, on what keys and values are projected from"
    if "nv-heads" in methods:
        draft.notes["sweep.methods.nv-heads"] = "the same on what heads compare and mix"


def _add_evaluation(draft: Draft, subject: DraftSubject, references: Sequence[str], size: Size) -> None:
    """Add what is measured."""
    task = TASKS[subject.task]
    metrics = list(SUGGESTED_METRICS.get(subject.task, task.metrics()[:1]))
    if "f1" in metrics and not all(map(names_entities, subject.classes)):
        metrics.remove("f1")
    evaluation: dict[str, Any] = {"metrics": metrics}
    draft.notes["evaluation.metrics"] = "settings are chosen by the first"
    if task.generates:
        own = getattr(subject.model.generation_config, "num_beams", None)
        beams = size.beams or own or BEAMS
        why = "greedy, to take less time" if size.beams else "the checkpoint's own" if own else "guess"
        if not references:
            raise UserError(f"expected text in the column {task.columns[1]!r}, got blank records alone")
        longest = subject.tokens(references)
        tokens = min(-(-int(longest * ROOM) // 16) * 16, subject.positions or longest * 2)
        evaluation["generation"] = {"num_beams": beams, "max_new_tokens": tokens}
        draft.notes["evaluation.generation.num_beams"] = why
        draft.notes["evaluation.generation.max_new_tokens"] = (
            f"guess: the longest of {len(references)} references has {longest}"
        )
    if task.generates or subject.task == "language-modelling":
        evaluation["temperatures"] = list(TEMPERATURES)
        draft.notes["evaluation.temperatures"] = "what tables after temperature may choose from"
    if subject.task == "language-modelling":
        window = min(subject.positions or WINDOW, WINDOW)
        evaluation |= {"window": window, "stride": max(1, window // 2)}
        of = f"of the model's {subject.positions:,} positions" if subject.positions else "of any number"
        draft.notes["evaluation.window"] = f"tokens that are read at once, {of}"
    draft.document["evaluation"] = evaluation


def _add_selection(draft: Draft, subject: DraftSubject, others: Sequence[DomainDraft]) -> None:
    """Add how settings are chosen: by every protocol that has something to choose by."""
    validated = [domain for domain in others if "validation" in domain.sources]
    task = TASKS[subject.task]

    def applies(name: str) -> bool:
        protocol = PROTOCOLS[name]
        if not protocol.by_domain or protocol.is_upper_bound:
            return True
        if protocol.reads_texts:
            return task.unlabelled is not None and bool(validated)
        return len(validated) > (name == "leave-one-domain-out")

    draft.document["selection"] = {
        "metric": draft.document["evaluation"]["metrics"][0],
        "protocols": [name for name in PROTOCOLS if applies(name)],
    }
