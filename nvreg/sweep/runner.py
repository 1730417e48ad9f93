"""Running a sweep: the pretrained model, then every setting, each kept as soon as it is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from nvreg.experiment import Experiment
from nvreg.files import exclusive
from nvreg.methods import METHODS
from nvreg.progress import Progress
from nvreg.results import PRETRAINED, PRETRAINED_NUMBER, RunFiles, Trial
from nvreg.store import TrialStore
from nvreg.sweep.executors import Executor, Local, RayExecutor, Resources, UnderWay
from nvreg.sweep.keeping import Keeper
from nvreg.sweep.ledger import Ledger
from nvreg.sweep.manifest import (
    changed_conditions,
    changed_methods,
    check_directory,
    earlier_batch_size,
    earlier_manifest,
    manifest_of,
    subject_of,
    with_earlier_methods,
)
from nvreg.sweep.search import Search
from nvreg.sweep.workbench import Priors, Workbench, calibration_sample, open_workbench, priors_of
from nvreg.sweep.worker import Job, Measured, Worker
from nvreg.tasks.batch_size import settled_batch_size

Leaders = Callable[[Path, str, int], Iterable[tuple[str, str]]]
"""A function of a run's directory, method and seed that returns each protocol and its choice."""

LEADERS_PAUSE = 20
"""The leaders are told anew after so many times the time that it took to tell them: of thousands of trials,
seconds."""


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
        resources: the resources of Ray workers; none: everything is measured in this process.
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
        if files.trials.exists() and not earlier_manifest(files.manifest):
            progress.say(
                f"the manifest of {output} is lost or damaged, and is written again; the trials are kept"
            )
        priors = priors_of(workbench, files, progress)
        sample = calibration_sample(workbench)
        output.mkdir(parents=True, exist_ok=True)
        with (
            exclusive(output),
            closing(_executor(workbench, priors, sample, progress, resources)) as executor,
        ):
            earlier = earlier_manifest(files.manifest)
            size = settled_batch_size(
                experiment.evaluation,
                executor.find_batch_size,
                progress,
                earlier_batch_size(earlier, executor.device),
            )
            workbench.task.batch_tokens = size.tokens
            manifest = manifest_of(workbench, priors, executor.device, size)
            changed, anew = changed_conditions(earlier, manifest), changed_methods(earlier, manifest)
            manifest = with_earlier_methods(manifest, earlier)
            keeper = Keeper(files, manifest, experiment, priors)
            keeper.write()
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
            run = _Run(workbench, ledger, keeper, executor, progress, leaders, fail_fast)
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
    return RayExecutor(workbench.experiment, priors, sample, subject_of(workbench), resources)


class _Run:
    """One sweep under way."""

    def __init__(
        self,
        workbench: Workbench,
        ledger: Ledger,
        keeper: Keeper,
        executor: Executor,
        progress: Progress,
        leaders: Leaders | None,
        fail_fast: bool,
    ) -> None:
        self._experiment, self._plan = workbench.experiment, workbench.plan
        self._batch_tokens, self._ledger, self._keeper = workbench.task.batch_tokens, ledger, keeper
        self._executor, self._progress, self._fail_fast = executor, progress, fail_fast
        self._leaders = leaders
        self._total = 1 + self._plan.planned

    def measure(self, steps: int) -> Outcome:
        """Measure what is left, in ``steps`` steps a trial, and return how all planned trials ended."""
        self._progress.start(self._total, self._total - len(self._measured()), steps)
        interrupted = ""
        try:
            if self._ledger.pretrained() is None:
                self._progress.running([PRETRAINED])
                key = self._ledger.pretrained_key
                self._executor.submit(Job(key, PRETRAINED_NUMBER, batch_tokens=self._batch_tokens))
                self._finish(*self._executor.next())
            for search in self._plan.searches:
                self._measure_search(search)
            self._keeper.check(self._ledger, self._measured())
        except KeyboardInterrupt:
            interrupted = "; interrupted: run the same command again, and it continues"
            raise
        finally:
            statuses = [trial.status for trial in self._measured()]
            outcome = Outcome(*(statuses.count(status) for status in ("completed", "stopped", "failed")))
            stopped = f"{outcome.stopped} stopped, " if outcome.stopped else ""
            self._progress.say(
                f"{outcome.completed} of {self._total} trials completed, {stopped}{outcome.failed} failed, "
                f"in {self._experiment.output}{interrupted}"
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
        next_look = 0.0
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
            if self._leaders and self._progress.is_live and (began := time.monotonic()) >= next_look:
                self._progress.leaders(
                    self._leaders(Path(self._experiment.output), search.method, search.seed)
                )
                next_look = began + LEADERS_PAUSE * (time.monotonic() - began)

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
                    batch_tokens=self._batch_tokens,
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
        self._keeper.keep(self._ledger, trial, measured.frames)
        self._progress.finish_trial(self._describe(trial), f"best {self._describe(self._ledger.best())}")
        return trial

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
