"""A worker: a model with data and prior, that measures one setting after another."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any

import pandas as pd
import torch

from nvreg.diagnostics import Record, SiteMeans, recording
from nvreg.environment import device_kind
from nvreg.errors import UserError, explained
from nvreg.memory import over_rows
from nvreg.methods.change import attention_change
from nvreg.metrics import METRICS, score
from nvreg.models.site import Site
from nvreg.models.teacher_forcing import device_of, on_device, run_body
from nvreg.parameters import Setting
from nvreg.registry import package_fault
from nvreg.results import PRETRAINED, BatchSize, Metrics
from nvreg.sweep.plan import encoder_key
from nvreg.sweep.search import FirstExamples, first_examples, is_clearly_worse
from nvreg.sweep.workbench import Priors, Workbench, prior_for
from nvreg.tasks import score_set
from nvreg.tasks.batch_size import find_batch_size
from nvreg.tasks.forward import EncoderStates
from nvreg.tasks.sampling import random_batches
from nvreg.text import without_secrets

ENCODER_BYTES = 2 * 10**9
"""How much is kept of encoder outputs, for the settings that leave the encoder as it was."""

Frames = dict[tuple[str, str], pd.DataFrame]
"""The statistics of the examples by domain and split."""


@dataclass(frozen=True)
class Job:
    """A setting to measure.

    Attributes:
        key: its trial's.
        number: its trial's.
        method: the method's name; None is the pretrained model.
        setting: None for the pretrained model.
        seed: the seed of the search that asked for it.
        incumbent: what stops the setting if it is clearly worse; none: it is measured to the end.
        pretrained: the pretrained model's predictions by domain and split, where a metric compares with them.
        batch_tokens: padded tokens of a batch; None: as the worker has it.
    """

    key: str
    number: int
    method: str | None = None
    setting: Setting | None = None
    seed: int | None = None
    incumbent: FirstExamples = field(default_factory=dict)
    pretrained: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    batch_tokens: int | None = None


@dataclass(frozen=True)
class Measured:
    """What came of a job.

    Attributes:
        metrics: by domain, split and name.
        frames: the statistics that they are made of.
        resolved: the NV settings that the setting stood for.
        prior_weight: mean weight of the prior on in-domain validation, teacher-forced.
        strength: how strongly the setting regularises, on the same.
        seconds: wall-clock time.
        change: relative change of attention outputs, on a sample of the same; None where nothing asks for it.
        is_stopped: whether it lost its race; then there are metrics of the first examples alone.
        halved: how many batches did not fit in memory and were halved.
        error: one line, where it failed.
        exception: what it failed with.
        warnings: what another process warned of meanwhile; this one warns by itself.
    """

    metrics: Metrics
    frames: Frames
    resolved: Mapping[str, Any] | None
    prior_weight: float | None
    strength: float | None
    seconds: float
    change: float | None = None
    is_stopped: bool = False
    halved: int = 0
    error: str | None = None
    exception: Exception | None = None
    warnings: Sequence[str] = ()


class Worker:
    """Measures jobs; the method of the last one stays attached.

    Args:
        workbench: with the pretrained model.
        priors: the experiment's, by space.
        sample: batches that prior weights are calibrated on.
    """

    def __init__(
        self, workbench: Workbench, priors: Priors, sample: Sequence[Mapping[str, torch.Tensor]]
    ) -> None:
        self._workbench, self._priors, self._sample = workbench, priors, sample
        self._methods = workbench.plan.methods
        self._attached: str | None = None
        self._states = EncoderStates(ENCODER_BYTES)
        self._encoder_means: dict[str, dict[Site, SiteMeans]] = {PRETRAINED: {}}
        self._record: Record

    @property
    def device(self) -> str:
        """The kind of device that the model is on."""
        return device_kind(device_of(self._workbench.model))

    def find_batch_size(self) -> BatchSize:
        """Return how much is best scored at a time on this device, by trying the pretrained model."""
        workbench = self._workbench
        sets = [scored.encoded for splits in workbench.scored.values() for scored in splits.values()]
        return find_batch_size(workbench.model, workbench.task, sets, repeats=1 + workbench.plan.planned)

    def measure(self, job: Job, step: Callable[[], None]) -> Measured:
        """Measure a setting, or say with what error that failed.

        Args:
            job: the setting.
            step: called after each split of the data.
        """
        started = time.monotonic()
        if job.batch_tokens is not None:
            self._workbench.task.batch_tokens = job.batch_tokens
        halved = self._workbench.task.halved
        outcome: dict[str, Any] = {"metrics": {}, "frames": {}, "resolved": None}
        outcome |= {"prior_weight": None, "strength": None}
        try:
            outcome |= self._measured(job, step)
        except Exception as raised:
            error = _blamed(raised)
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            text = without_secrets(" ".join(str(error).split()))
            outcome["error"] = f"{kind}{text}".removesuffix(": ")
            outcome["exception"] = error
        seconds = round(time.monotonic() - started, 3)
        return Measured(**outcome, seconds=seconds, halved=self._workbench.task.halved - halved)

    def _measured(self, job: Job, step: Callable[[], None]) -> dict[str, Any]:
        resolved = self._set(job)
        self._record, self._is_recorded = Record(self._workbench.model), self._workbench.task.scores_as_read
        heads = {domain: self._score_parts(job, domain, "validation", slice(1)) for domain in job.incumbent}
        if heads and self._has_lost(heads, job.incumbent):
            metrics = {domain: {"validation": self._selection(frame)} for domain, frame in heads.items()}
            return {"metrics": metrics, "resolved": resolved, "is_stopped": True}
        frames: Frames = {}
        for domain, splits in self._workbench.scored.items():
            for split in splits:
                head = heads.get(domain) if split == "validation" else None
                frames[domain, split] = self._score(job, domain, split, head)
                step()
        metrics = {}
        for (domain, split), frame in frames.items():
            metrics.setdefault(domain, {})[split] = self._workbench.task.values(frame, f"{domain} {split}")
        prior_weight, strength = self._strength(job)
        change = self._change(job, resolved)
        for name, value in {"prior weight": prior_weight, "strength": strength, "change": change}.items():
            if value is not None and not math.isfinite(value):
                domain = self._workbench.experiment.data.in_domain.name
                raise UserError(f"{domain} validation: expected a finite {name}, got {value}")
        return {
            "metrics": metrics,
            "frames": frames,
            "resolved": resolved,
            "prior_weight": prior_weight,
            "strength": strength,
            "change": change,
        }

    def _set(self, job: Job) -> Mapping[str, Any] | None:
        """Bring the model to the job's setting."""
        model = self._workbench.model
        if self._attached not in (None, job.method):
            self._methods[self._attached].detach_(model)
            self._attached = None
        if job.method is None or job.setting is None:
            self._states.use(PRETRAINED)
            return None
        key = encoder_key(job.method, job.setting)
        if key not in self._encoder_means:
            self._states.use("")  # a setting that did not end left outputs, but not what they discard
        self._states.use(key)
        method = self._methods[job.method]
        if self._attached is None:
            method.attach_(model, prior_for(method, self._priors), self._sample)
            self._attached = job.method
        resolved = method.set_(model, job.setting)
        return None if resolved is None else resolved.to_dict()

    def _score(self, job: Job, domain: str, split: str, head: pd.DataFrame | None = None) -> pd.DataFrame:
        """Score a split; what ``head`` has scored of it is not scored again."""
        frame = self._score_parts(job, domain, split, slice(0 if head is None else 1, None), head)
        return self._workbench.task.completed(frame, job.pretrained.get((domain, split)))

    def _score_parts(
        self, job: Job, domain: str, split: str, which: slice, head: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """Score some parts of a split, and append them to its head.

        They are recorded where that is what the strength of a setting is measured on.
        """
        workbench = self._workbench
        scored = workbench.scored[domain][split]
        records = scored is workbench.in_domain_validation and workbench.task.scores_as_read
        halved = workbench.task.halved
        states = self._states if job.method is None or self._methods[job.method].shares_encoder else None
        frames = [] if head is None else [head]
        with recording(workbench.model, self._record) if records else nullcontext():
            for part in scored.parts[which]:
                first = sum(map(len, frames))
                frames.append(
                    score_set(
                        workbench.task,
                        workbench.model,
                        part,
                        f"{domain} {split}",
                        first=first,
                        encoder_states=states,
                    )
                )
        if records and workbench.task.halved > halved:
            self._is_recorded = False  # what ran before a batch was halved is recorded twice
        return pd.concat(frames, ignore_index=True)

    def _selection(self, frame: pd.DataFrame) -> dict[str, float]:
        name = self._workbench.experiment.selection.metric
        return {name: score(frame, name)}

    def _has_lost(self, heads: Mapping[str, pd.DataFrame], incumbent: FirstExamples) -> bool:
        experiment = self._workbench.experiment
        metric, temperatures = METRICS[experiment.selection.metric], experiment.evaluation.temperatures
        rows = {domain: first_examples(frame, metric, temperatures) for domain, frame in heads.items()}
        return is_clearly_worse(metric, rows, incumbent)

    def _strength(self, job: Job) -> tuple[float, float]:
        """Return the mean prior weight, and how strongly the setting regularises, teacher-forced."""
        if job.method is None or job.setting is None:
            return 0.0, 0.0
        record = self._record if self._is_recorded else self._read()
        key = encoder_key(job.method, job.setting)
        if key in self._encoder_means:
            record.reuse(self._encoder_means[key])
        else:
            of_encoder = {site: means for site, means in record.means.items() if site.role == "encoder"}
            self._encoder_means = {PRETRAINED: {}, key: of_encoder}
        return record.prior_weight, self._methods[job.method].strength(job.setting, record)

    def _read(self) -> Record:
        """Return a record of in-domain validation, read teacher-forced."""
        model, task, record = self._workbench.model, self._workbench.task, Record(self._workbench.model)

        def run(batch: Mapping[str, torch.Tensor]) -> None:
            with recording(model, record):
                run_body(model, on_device(model, batch))

        with torch.inference_mode():
            for batch in task.teacher_forced(self._workbench.in_domain_validation.encoded):
                task.halved += over_rows(batch, run)
        return record

    def _change(self, job: Job, resolved: Mapping[str, Any] | None) -> float | None:
        """Return how much attention outputs change, the mean over sites; the model is left at identity."""
        matched = self._workbench.plan.matched
        if job.method is None or job.setting is None:
            return 0.0 if matched else None
        if job.method not in matched:
            return None
        method = self._methods[job.method]
        setting = method.setting_type.from_dict(resolved or job.setting.to_dict())
        return fmean(attention_change(self._workbench.model, method, setting, self._probe).values())

    @cached_property
    def _probe(self) -> list[dict[str, torch.Tensor]]:
        return random_batches(self._workbench.task, self._workbench.in_domain_validation.examples)


def _blamed(error: Exception) -> Exception:
    """Return an error, or the user's mistake that a package which raises it is installed."""
    if isinstance(error, UserError) or explained(error) or (fault := package_fault(error)) is None:
        return error
    mistake = UserError(fault)
    mistake.__cause__ = error
    return mistake
