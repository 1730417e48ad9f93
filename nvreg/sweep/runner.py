"""Running a sweep: the pretrained model, then every setting, each kept as soon as it is measured."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from torch import Tensor

from nvreg.config.loading import read_yaml, write_yaml
from nvreg.errors import DamagedError, UserError
from nvreg.experiment import Experiment
from nvreg.files import exclusive, write_text
from nvreg.methods import METHODS
from nvreg.progress import Progress
from nvreg.results import PRETRAINED, PRETRAINED_NUMBER, RunFiles, Trial, TrialStore
from nvreg.sweep.executors import Executor, Local, RayExecutor, Resources, UnderWay
from nvreg.sweep.ledger import Ledger
from nvreg.sweep.manifest import (
    changed_conditions,
    changed_methods,
    check_directory,
    manifest_of,
    with_earlier_methods,
)
from nvreg.sweep.plan import Plan
from nvreg.sweep.search import Search
from nvreg.sweep.workbench import Priors, Workbench, calibration_sample, open_workbench, priors_of
from nvreg.sweep.worker import Frames, Job, Measured, Worker

Leaders = Callable[[Path, str, int], Iterable[tuple[str, str]]]
"""A function of a run's directory, method and seed that returns each protocol and its choice."""


class Outcome(NamedTuple):
    """How the trials of a sweep ended, those measured before included."""

    completed: int
    stopped: int
    failed: int


def run_sweep(
    experiment: Experiment,
    *,
    resources: Resources | None = None,
    leaders: Leaders | None = None,
    fail_fast: bool = False,
    retry_failed: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Measure what an experiment asks for and its output directory does not hold yet.

    Args:
        experiment: the experiment.
        resources: of Ray workers; none: everything is measured in this process.
        leaders: says what each protocol would choose so far of a method and seed, for the display in a
            terminal.
        fail_fast: stop at the first trial that fails; otherwise its error is kept and the sweep goes on.
        retry_failed: measure again what failed before.
        quiet: show no progress.

    Raises:
        UserError: if anything the experiment names cannot be had, or the directory is another experiment's,
            or is removed or emptied meanwhile.
        Exception: what the trial of the pretrained model raises, without which nothing compares; with
            ``fail_fast`` what any trial raises.
    """
    files = RunFiles(output := Path(experiment.output))
    with Progress(quiet) as progress:
        progress.warn(experiment.model.warnings)
        progress.phase("loading model and data")
        workbench = open_workbench(experiment)
        for note in workbench.notes:
            progress.say(note)
        check_directory(output, workbench)
        if files.trials.exists() and not files.manifest.exists():
            progress.say(f"{output} has lost its manifest, which is written again; its trials are kept")
        priors = priors_of(workbench, files, progress)
        sample = calibration_sample(workbench)
        output.mkdir(parents=True, exist_ok=True)
        with (
            exclusive(output),
            closing(_executor(workbench, priors, sample, progress, resources)) as executor,
        ):
            manifest = manifest_of(workbench, priors, executor.device)
            changed = changed_conditions(files.manifest, manifest)
            anew = changed_methods(files.manifest, manifest)
            manifest = with_earlier_methods(manifest, files.manifest)
            setup = Setup(files, manifest, experiment, priors)
            setup.write()
            store = TrialStore(output)
            if changed and len(store) and not store.trials(manifest["context"]):
                progress.say(
                    f"the trials in {output} were measured under other conditions ({changed}); "
                    "they are kept, and everything is measured again"
                )
            if anew:
                progress.say(
                    f"the trials of {', '.join(anew)} in {output} had another prior, calibration text or "
                    "options; they are kept, and measured again"
                )
            ledger = Ledger(experiment, store, manifest["context"], manifest["methods"], retry_failed)
            if lost := ledger.lost(workbench.plan.searches):
                progress.say(
                    f"the examples of {len(lost)} trials in {output} ({', '.join(map(str, lost))}) are gone "
                    "or not as they were written; these trials are measured again"
                )
            for search in workbench.plan.searches:
                search.copy_study(files.study, progress.say)
            run = _Run(experiment, ledger, workbench.plan, executor, progress, leaders, fail_fast, setup)
            return run.measure(steps=sum(map(len, workbench.scored.values())))


def _executor(
    workbench: Workbench,
    priors: Priors,
    sample: Sequence[Mapping[str, Tensor]],
    progress: Progress,
    resources: Resources | None,
) -> Executor:
    if resources is None:
        under_way = UnderWay(RunFiles(Path(workbench.experiment.output)).under_way)
        return Local(Worker(workbench, priors, sample), progress.step, under_way)
    return RayExecutor(workbench.experiment, priors, sample, resources)


class Setup:
    """What a run's directory holds beside trials.

    Args:
        files: the paths.
        manifest: what is written as such.
        experiment: the same; the methods that an earlier sweep tried in the directory stay in it.
        priors: by space.
    """

    def __init__(
        self, files: RunFiles, manifest: Mapping[str, Any], experiment: Experiment, priors: Priors
    ) -> None:
        self._files, self._priors = files, priors
        written = experiment.model_dump()
        methods = _methods_in(files, written["sweep"]["sampler"]) | written["sweep"]["methods"]
        written["sweep"]["methods"] = methods
        self._manifest, self._experiment = json.dumps(manifest, indent=1) + "\n", write_yaml(written)

    def write(self) -> None:
        """Write all of it; the manifest first, which makes the directory this experiment's."""
        write_text(self._files.manifest, self._manifest)
        write_text(self._files.experiment, self._experiment)
        for space, prior in self._priors.items():
            prior.save(self._files.prior_of(space))

    def restore(self) -> None:
        """Write again what someone has removed.

        Raises:
            DamagedError: if there is another manifest now.
        """
        manifest = self._files.manifest
        if manifest.exists() and manifest.read_bytes() != self._manifest.encode():
            raise DamagedError(f"{manifest} was changed by someone else")
        self._files.directory.mkdir(parents=True, exist_ok=True)
        self.write()


def _methods_in(files: RunFiles, sampler: str) -> dict[str, Any]:
    """Return the methods that an earlier sweep by a sampler tried here: its trials are there to be chosen."""
    try:
        sweep = read_yaml(files.experiment.read_text(encoding="utf-8"))["sweep"]
        return dict(sweep["methods"]) if sweep["sampler"] == sampler else {}
    except (OSError, LookupError, TypeError, ValueError, yaml.YAMLError):
        return {}


class _Run:
    """One sweep under way."""

    def __init__(
        self,
        experiment: Experiment,
        ledger: Ledger,
        plan: Plan,
        executor: Executor,
        progress: Progress,
        leaders: Leaders | None,
        fail_fast: bool,
        setup: Setup,
    ) -> None:
        self._setup, self._kept = setup, list[str]()
        self._experiment, self._ledger, self._plan = experiment, ledger, plan
        self._executor, self._progress, self._fail_fast = executor, progress, fail_fast
        self._leaders = leaders
        self._total = 1 + plan.planned

    def measure(self, steps: int) -> Outcome:
        """Measure what is left, in ``steps`` steps a trial, and return how all planned trials ended."""
        self._progress.start(self._total, self._total - len(self._measured()), steps)
        try:
            if self._ledger.pretrained() is None:
                self._executor.submit(Job(self._ledger.pretrained_key, PRETRAINED_NUMBER))
                self._finish(*self._executor.next())
            for search in self._plan.searches:
                self._measure_search(search)
            self._check_kept()
        finally:
            statuses = [trial.status for trial in self._measured()]
            outcome = Outcome(*(statuses.count(status) for status in ("completed", "stopped", "failed")))
            stopped = f"{outcome.stopped} stopped, " if outcome.stopped else ""
            self._progress.say(
                f"{outcome.completed} of {self._total} trials completed, {stopped}{outcome.failed} failed, "
                f"in {self._experiment.output}"
            )
        return outcome

    def _measured(self) -> list[Trial]:
        """Return the planned trials that need not be measured again."""
        pretrained = self._ledger.pretrained()
        trials = [trial for search in self._plan.searches for trial in self._ledger.trials_of(search)]
        return trials if pretrained is None else [pretrained, *trials]

    def _measure_search(self, search: Search) -> None:
        for trial in self._ledger.trials_of(search):
            search.remember(search.setting_type.from_dict(trial.settings), self._ledger.scores(trial))
        for setting in self._ledger.to_retry(search):
            search.retry(setting)
        under_way: dict[str, str] = {}
        while True:
            while len(under_way) < self._executor.capacity and (job := self._next(search)):
                self._executor.submit(job)
                under_way[job.key] = str(job.setting)
            self._progress.running(under_way.values())
            if not under_way:
                return
            job, measured = self._executor.next()
            del under_way[job.key]
            trial = self._finish(job, measured)
            assert job.setting is not None
            search.tell(job.setting, self._ledger.scores(trial))
            if self._leaders and self._progress.is_live:
                self._progress.leaders(
                    self._leaders(Path(self._experiment.output), search.method, search.seed)
                )

    def _next(self, search: Search) -> Job | None:
        """Return the next job of a search; what has been measured before is only taken note of."""
        while (setting := search.ask()) is not None:
            key = self._ledger.key(search, setting)
            trial = self._ledger.claim(key, search.seed)
            if trial is None:
                return Job(
                    key=key,
                    number=self._ledger.number(key),
                    method=search.method,
                    setting=setting,
                    seed=search.seed,
                    incumbent=self._ledger.incumbent(search),
                    pretrained=self._ledger.pretrained_predictions(),
                )
            search.tell(setting, self._ledger.scores(trial))
        return None

    def _finish(self, job: Job, measured: Measured) -> Trial:
        """Keep what came of a job.

        Raises:
            Exception: what it failed with, where that ends the sweep.
        """
        if measured.exception and (self._fail_fast or job.setting is None):
            raise measured.exception
        if measured.halved:
            self._progress.say(
                f"{measured.halved} batches did not fit in memory and were halved; "
                "a smaller evaluation.batch_tokens saves the attempt"
            )
        trial = Trial(
            key=job.key,
            context=self._ledger.context,
            fingerprint=self._ledger.fingerprint(job.method),
            number=job.number,
            method=job.method or PRETRAINED,
            seed=job.seed,
            settings=job.setting.to_dict() if job.setting else {},
            resolved=measured.resolved,
            status="failed" if measured.error else "stopped" if measured.is_stopped else "completed",
            metrics=measured.metrics,
            prior_weight=measured.prior_weight,
            strength=measured.strength,
            seconds=measured.seconds,
            error=measured.error,
            change=measured.change,
        )
        self._keep(trial, measured.frames)
        self._progress.finish_trial(self._describe(trial), f"best {self._describe(self._ledger.best())}")
        return trial

    def _keep(self, trial: Trial, frames: Frames) -> None:
        """Write a trial, its examples first.

        Raises:
            UserError: as `_stop`.
        """
        self._restore(damage := self._damage())
        store, digests = self._ledger.store, defaultdict[str, dict[str, str]](dict)
        for (domain, split), frame in frames.items():
            digests[domain][split] = store.save_examples(trial.key, domain, split, frame)
        self._ledger.append(replace(trial, examples=dict(digests) or None))
        self._kept.append(trial.key)
        self._stop(damage)

    def _check_kept(self) -> None:
        """Check that what was measured is still there.

        Raises:
            UserError: as `_stop`.
        """
        self._restore(damage := self._damage())
        store = self._ledger.store
        for trial in self._measured():
            if damage is None and trial.key in self._kept and not store.is_intact(trial):
                damage = DamagedError(f"the examples of trial {trial.number} are gone or changed")
        self._stop(damage)

    def _damage(self) -> DamagedError | None:
        """Return what someone else has done to the directory."""
        try:
            self._ledger.store.check()
        except DamagedError as damage:
            return damage
        return None

    def _restore(self, damage: DamagedError | None) -> None:
        """Write again what is in memory, where that replaces nothing of someone else.

        Raises:
            UserError: if it does, or cannot be written.
        """
        if damage is None:
            return
        try:
            self._setup.restore()
            self._ledger.store.restore()
        except DamagedError as theirs:
            raise UserError(
                f"{self._disturbed(theirs)}; nothing is written over it, and the trial under way is lost; "
                "move it away and run the sweep again"
            ) from theirs
        except OSError as error:
            raise UserError(f"{self._disturbed(damage)}, and cannot write it again: {error}") from error

    def _stop(self, damage: DamagedError | None) -> None:
        """End the sweep where someone else has removed or emptied the directory."""
        if damage is not None:
            raise UserError(
                f"{self._disturbed(damage)}; what was in memory is written there again; run the sweep again, "
                "which measures what is missing"
            )

    def _disturbed(self, damage: DamagedError) -> str:
        return f"expected {self._experiment.output} to be left alone during the sweep, got: {damage}"

    def _describe(self, trial: Trial) -> str:
        """Say in a few words what a trial was, and what it scores."""
        if trial.method == PRETRAINED:
            name = PRETRAINED
        else:
            method = METHODS[trial.method]
            setting = method.setting_type.from_dict(trial.settings)
            name = str(setting) if len(self._experiment.sweep.methods) == 1 else method.named(setting)
        if trial.status == "completed":
            metric = self._experiment.selection.metric
            return f"{metric} {self._ledger.validation_score(trial):.4g} ({name})"
        return f"{trial.error or 'stopped, clearly worse'} ({name})"
