import itertools
import json
import re
import shutil
import warnings
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from nvreg import Prior, UserError
from nvreg.errors import NvregWarning
from nvreg.experiment import Experiment, load_experiment
from nvreg.files import exclusive
from nvreg.methods.nv import NVSetting
from nvreg.metrics import score
from nvreg.report.analysis import analyse
from nvreg.report.reading import read_run
from nvreg.report.writing import write_report
from nvreg.results import BatchSize, digest
from nvreg.store import TrialStore
from nvreg.sweep import runner, worker
from nvreg.sweep.dry_run import describe_plan
from nvreg.sweep.executors import Local, RayExecutor, _Remote
from nvreg.sweep.ledger import Ledger
from nvreg.sweep.manifest import conditions_of, subject_of
from nvreg.sweep.plan import make_plan
from nvreg.sweep.runner import run_sweep
from nvreg.sweep.workbench import Workbench, open_workbench
from nvreg.sweep.worker import Job, Measured
from tests.sweep.running import rewrite_trials, trials_in

LAYERS = {"encoder": 2, "cross": 2, "decoder": 2}


def test_the_pretrained_model_and_every_setting_are_measured_in_order(finished, experiment):
    trials = trials_in(finished)
    [search] = make_plan(experiment().sweep, LAYERS, 2).searches
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert [NVSetting.from_dict(trial.settings) for trial in trials[1:]] == list(search.settings)
    assert [(trial.method, trial.seed) for trial in trials] == [("pretrained", None)] + [("nv", 0)] * 3
    assert trials[0].settings == {}
    assert all(trial.resolved == trial.settings for trial in trials[1:])
    assert (trials[0].prior_weight, trials[0].strength) == (0, 0)
    for trial in trials:
        assert {domain: set(splits) for domain, splits in trial.metrics.items()} == {
            "home": {"validation", "test"},
            "away": {"validation", "test"},
        }
    for trial in trials[1:]:
        assert 0 < trial.prior_weight < trial.strength < 1
        assert trial.metrics != trials[0].metrics


def test_every_number_follows_from_the_statistics_that_are_kept(finished):
    for trial in trials_in(finished):
        for domain, splits in trial.metrics.items():
            for split, metrics in splits.items():
                frame = pd.read_parquet(finished / "examples" / trial.key / f"{domain}.{split}.parquet")
                assert frame["id"].tolist() == list(range(8))
                assert metrics == {name: score(frame, name) for name in ("perplexity", "bleu")}


def test_all_lines_of_trials_are_put_together_once(output, experiment, monkeypatch):
    manifest = json.loads((output / "manifest.json").read_text())
    store = TrialStore(output)
    ledger = Ledger(experiment(), store, manifest["context"], manifest["methods"], retry_failed=False)
    monkeypatch.setattr(store, "trials", None)
    trial = store._trials[-1]
    assert ledger.claim(trial.key, trial.seed) == trial
    assert ledger.claim(trial.key, 8).seed == 8
    better = {"home": {"validation": {"perplexity": ledger.validation_score(ledger.best()) / 2}}}
    ledger.append(replace(trial, key="new", number=9, metrics=trial.metrics | better))
    assert ledger.best().key == "new"


def test_the_leaders_are_told_in_a_small_share_of_the_time(output, experiment, monkeypatch):
    clock, told = itertools.count(step=10), []  # a telling takes as long as ten looks at the clock
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    run_sweep(experiment("sweep.trials=5"), leaders=lambda *search: told.append(search) or ())
    assert len(told) == 1  # after the first of two trials


def test_the_directory_says_what_it_was_made_from(finished, experiment):
    written = load_experiment(finished / "experiment.yaml")
    assert written == experiment(f"output={finished}")
    manifest = json.loads((finished / "manifest.json").read_text())
    assert {trial.context for trial in trials_in(finished)} == {manifest["context"]}
    assert manifest["data"]["away"]["test"]["examples"] == 8
    assert manifest["prior"]["fingerprint"] == Prior.load(finished / "prior.safetensors").fingerprint
    assert set(manifest["metrics"]) == {"perplexity", "bleu"}
    assert manifest["versions"]["torch"]


def test_a_finished_sweep_measures_and_estimates_nothing_again(output, experiment, measured, monkeypatch):
    monkeypatch.setattr("nvreg.sweep.workbench.estimate_prior", None)
    before = (output / "trials.jsonl").read_bytes()
    assert run_sweep(experiment(), quiet=True) == (4, 0, 0)
    assert measured == []
    assert (output / "trials.jsonl").read_bytes() == before


def test_more_trials_measure_only_the_new_ones(output, experiment, measured):
    more = experiment("sweep.trials=4", "sweep.enqueue=[{tau_mu: 0.9}]")
    assert run_sweep(more, quiet=True) == (5, 0, 0)
    assert measured == [NVSetting(tau_mu=0.9)]
    assert [trial.number for trial in trials_in(output)] == [0, 1, 2, 3, 4]


def test_smaller_batches_continue_a_sweep(output, experiment, measured):
    assert run_sweep(experiment("evaluation.batch_tokens=64"), quiet=True) == (4, 0, 0)
    assert measured == []


@pytest.mark.parametrize(("dtype", "kinds"), [("float32", 1), ("bfloat16", 2)])
def test_batches_are_a_condition_in_half_precision_alone(experiment, dtype, kinds):
    conditions = []
    for batch_tokens in (64, 2048):
        changed = experiment(f"model.dtype={dtype}", f"evaluation.batch_tokens={batch_tokens}")
        workbench = open_workbench(changed)
        conditions.append(conditions_of(workbench, "cpu"))
    assert len({digest(each) for each in conditions}) == kinds


def finding(monkeypatch, *sizes):
    """Have sizes of batches found one by one, and return how many were looked for."""
    looked, left = [], list(sizes)

    def find(*arguments, **options):
        looked.append(arguments)
        return BatchSize(tokens=left.pop(0), found="it was tried")

    monkeypatch.setattr(worker, "find_batch_size", find)
    return looked


def manifest_in(output):
    return json.loads((output / "manifest.json").read_text())


def rewrite_manifest(output, **changes):
    """Change the manifest, and leave out what is changed to None, as an earlier version wrote it."""
    manifest = {name: value for name, value in manifest_in(output).items() if name != "digest"} | changes
    kept = {name: value for name, value in manifest.items() if value is not None}
    (output / "manifest.json").write_text(json.dumps(kept))


def test_the_size_of_batches_is_found_once_said_and_kept(
    finished, experiment, tmp_path, measured, monkeypatch, capsys
):
    """And no score, prior or key depends on it."""
    looked, used = finding(monkeypatch, 16), []
    scored, output = worker.score_set, tmp_path / "output"

    def score_set(task, *arguments, **options):
        used.append(task.batch_tokens)
        return scored(task, *arguments, **options)

    monkeypatch.setattr(worker, "score_set", score_set)
    assert run_sweep(experiment("sweep.trials=1")) == (2, 0, 0)
    said = "batches of 16 tokens: it was tried\n"
    assert f"finding the size of batches\n{said}" in capsys.readouterr().err
    assert manifest_in(output)["batch_tokens"] == {"tokens": 16, "found": "it was tried"}
    assert run_sweep(experiment()) == (4, 0, 0)
    assert said in (err := capsys.readouterr().err)
    assert "finding" not in err
    assert manifest_in(output)["batch_tokens"] == {"tokens": 16, "found": "it was tried"}
    assert (len(looked), len(measured), set(used)) == (1, 4, {16})
    assert manifest_in(output)["prior"] == manifest_in(finished)["prior"]
    for one, usual in zip(trials_in(output), trials_in(finished), strict=True):
        assert one.key == usual.key
        for domain, splits in usual.metrics.items():
            for split, values in splits.items():
                assert one.metrics[domain][split] == pytest.approx(values, rel=1e-6)


def test_a_size_of_batches_that_was_given_is_written_and_never_found(output, experiment, monkeypatch, capsys):
    looked = finding(monkeypatch, 8)
    assert run_sweep(experiment("evaluation.batch_tokens=64")) == (4, 0, 0)
    assert "batches of" not in capsys.readouterr().err
    assert manifest_in(output)["batch_tokens"] == {"tokens": 64, "found": None}
    assert looked == []
    assert run_sweep(experiment(), quiet=True) == (
        4,
        0,
        0,
    )  # 64 was not found
    assert manifest_in(output)["batch_tokens"]["tokens"] == 8


def test_in_half_precision_the_size_is_a_condition_and_that_of_earlier_versions_goes_on(
    experiment, tmp_path, measured, monkeypatch
):
    plain = ("evaluation.metrics=[perplexity]", "sweep.trials=1")
    asked, output = experiment("model.dtype=bfloat16", *plain), tmp_path / "output"
    looked = finding(monkeypatch, 16, 2048)
    assert run_sweep(asked, quiet=True) == (2, 0, 0)
    assert manifest_in(output)["conditions"]["evaluation"]["batch_tokens"] == 16
    rewrite_manifest(output, hardware={"device": "another"})  # on which another size is found
    assert run_sweep(asked, quiet=True) == (2, 0, 0)
    assert (len(measured), len(looked)) == (4, 2)
    assert manifest_in(output)["conditions"]["evaluation"]["batch_tokens"] == "auto"
    rewrite_manifest(output, batch_tokens=None)
    assert run_sweep(asked, quiet=True) == (2, 0, 0)
    assert (len(measured), len(looked)) == (4, 2)
    assert manifest_in(output)["batch_tokens"]["tokens"] == 2048


def test_a_worker_scores_with_the_size_that_its_job_names(experiment):
    plain = ("evaluation.metrics=[perplexity]", "selection.metric=perplexity")
    workbench = open_workbench(experiment(*plain))
    measuring = worker.Worker(workbench, {}, [])
    for tokens, expected in ((None, 2048), (7, 7)):
        assert measuring.measure(Job("a", 0, batch_tokens=tokens), lambda: None).error is None
        assert workbench.task.batch_tokens == expected


@pytest.mark.parametrize(
    "override",
    [
        "evaluation.generation.num_beams=2",
        "evaluation.metrics=[perplexity]",
        "data.max_length=5",
    ],
)
def test_what_can_change_a_number_is_measured_anew_and_the_old_is_kept(output, experiment, override):
    old = trials_in(output)
    assert run_sweep(experiment(override, "sweep.trials=1"), quiet=True) == (2, 0, 0)
    trials = trials_in(output)
    assert trials[:4] == old
    assert [trial.number for trial in trials[4:]] == [0, 1]
    assert not {trial.key for trial in old} & {trial.key for trial in trials[4:]}
    assert json.loads((output / "manifest.json").read_text())["context"] == trials[4].context


@pytest.mark.parametrize("override", ["prior={kind: gaussian}", "data.in_domain.train.limit=5"])
def test_a_method_with_another_prior_is_measured_anew_and_the_pretrained_model_is_not(
    output, experiment, measured, capsys, override
):
    old = trials_in(output)
    assert run_sweep(experiment(override, "sweep.trials=1")) == (2, 0, 0)
    assert len(measured) == 1
    assert f"the trials of nv in {output} had another prior" in capsys.readouterr().err
    *kept, new = trials_in(output)
    assert kept == old
    assert new.context == old[0].context
    assert new.number == 4
    run = read_run(output)
    assert [trial.number for trials in run.sweeps.values() for trial in trials] == [4]
    assert set(run.trials) == {0, 4}
    assert run_sweep(experiment(), quiet=True) == (4, 0, 0)  # the old ones hold again
    assert len(measured) == 1


def test_a_method_tried_alone_keeps_the_trials_and_the_prior_of_the_others(output, experiment, measured):
    manifest = json.loads((output / "manifest.json").read_text())
    alone = "sweep={sampler: random, trials: 1, methods: {temperature: {space: {temperature: [0.7, 1.4]}}}}"
    assert run_sweep(experiment(alone), quiet=True) == (2, 0, 0)
    heads = alone.replace(
        "temperature: {space: {temperature: [0.7, 1.4]}}", "nv-heads: {space: {prior_weight: 0.1}}"
    )
    assert run_sweep(experiment(heads), quiet=True) == (2, 0, 0)
    assert len(measured) == 2
    now = json.loads((output / "manifest.json").read_text())
    assert now["context"] == manifest["context"]
    assert set(now["methods"]) == {"nv", "temperature", "nv-heads"}
    assert now["prior"] == manifest["prior"]
    assert len({trial.context for trial in trials_in(output)}) == 1


@pytest.mark.parametrize(
    ("patched", "value", "named"),
    [
        ("sacrebleu.metrics.base.__version__", "99.0", "signatures.bleu"),
        ("nvreg.sweep.worker.device_kind", lambda device: "another kind", "device"),
    ],
)
def test_another_version_of_a_metric_and_another_kind_of_device_mix_no_trials(
    output, experiment, measured, monkeypatch, capsys, patched, value, named
):
    old = trials_in(output)
    monkeypatch.setattr(patched, value)
    assert run_sweep(experiment()) == (4, 0, 0)
    assert len(measured) == 4
    assert f"were measured under other conditions ({named}); they are kept" in capsys.readouterr().err
    trials = trials_in(output)
    assert trials[:4] == old
    assert {trial.context for trial in trials[4:]}.isdisjoint(trial.context for trial in old)
    assert run_sweep(experiment(), quiet=True) == (4, 0, 0)
    assert len(measured) == 4


def test_a_run_of_an_earlier_version_is_read_and_then_measured_again_with_a_line(
    output, experiment, measured, capsys
):
    manifest = json.loads((output / "manifest.json").read_text())
    for key in ("conditions", "digest"):
        manifest.pop(key)
    rewrite_trials(output, lambda line: line.update(context="of before"))
    (output / "manifest.json").write_text(json.dumps(manifest | {"context": "of before"}))
    assert "3 of 3 settings completed" in write_report(analyse(output), ())
    run_sweep(experiment())
    assert len(measured) == 4
    assert "under other conditions (an earlier version of nvreg); they are kept" in capsys.readouterr().err
    (output / "trials.jsonl").write_text("")
    run_sweep(experiment("data.max_length=5"))
    assert "under other conditions" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "difference"),
    [
        (["name=another"], "differs in name;"),
        (["data.out_of_domain.0.test.limit=5"], "differs in data.away.test;"),
        (["data.out_of_domain.0.validation=null"], "differs in data.away.validation;"),
        (["data.in_domain.name=house", "model.dtype=bfloat16"], "differs in data.home, data.house, model;"),
    ],
)
@pytest.mark.parametrize("run", [run_sweep, describe_plan])
def test_the_directory_of_another_experiment_is_refused_and_left_alone(
    output, experiment, overrides, difference, run
):
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    with pytest.raises(UserError, match=difference) as caught:
        run(experiment(*overrides), quiet=True)
    assert "choose another with --output" in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_a_directory_with_other_files_or_a_file_is_refused(experiment, tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "thesis.tex").touch()
    with pytest.raises(UserError, match="expected a new or empty output directory"):
        run_sweep(experiment(), quiet=True)
    with pytest.raises(UserError, match="expected an output directory"):
        run_sweep(experiment(f"output={tmp_path / 'output' / 'thesis.tex'}"), quiet=True)


def test_a_directory_that_another_sweep_writes_is_refused(output, experiment):
    with exclusive(output), pytest.raises(UserError, match="no other run is writing"):
        run_sweep(experiment(), quiet=True)


def test_another_config_of_the_same_weights_is_measured_anew(experiment, tmp_path, measured):
    asked = experiment("sweep.trials=1")
    for name in ("one", "other"):
        shutil.copytree(asked.model.path, tmp_path / name)
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    config["scale_embedding"] = not config["scale_embedding"]
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    for name in ("one", "other"):
        run_sweep(experiment("sweep.trials=1", f"model.path={tmp_path / name}"), quiet=True)
    assert len(measured) == 4
    one, _, other, _ = trials_in(tmp_path / "output")
    assert one.metrics != other.metrics


def test_a_space_must_fit_the_model(experiment):
    with pytest.raises(UserError, match=r"sweep.space.tau_mu.cross: expected 2 values, one a layer"):
        run_sweep(experiment("sweep.space.tau_mu={cross: {layers: [1, 1, 0.5]}}"), quiet=True)


def test_a_saved_prior_is_used_and_one_of_another_model_refused(finished, experiment, tmp_path):
    saved = experiment(f"prior={{path: {finished / 'prior.safetensors'}}}", "sweep.trials=1")
    assert run_sweep(saved, quiet=True) == (2, 0, 0)
    assert trials_in(tmp_path / "output") == trials_in(finished)[:2]

    from tests.tiny import tiny_marian

    model, tokenizer = tiny_marian(seed=5)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    other = experiment(
        f"model.path={tmp_path / 'model'}",
        f"output={tmp_path / 'other'}",
        f"prior={{path: {finished / 'prior.safetensors'}}}",
    )
    with pytest.raises(UserError, match="expected a prior of this model"):
        run_sweep(other, quiet=True)


def test_a_setting_that_two_seeds_draw_is_measured_once_and_belongs_to_both(experiment, tmp_path, measured):
    seeds = ["sweep.seeds=[1, 2]", "sweep.trials=2", "sweep.enqueue=[{tau_mu: 0.9}]"]
    assert run_sweep(experiment(*seeds), quiet=True) == (5, 0, 0)
    assert len(measured) == 4
    trials = trials_in(tmp_path / "output")
    assert [(trial.number, trial.seed) for trial in trials] == [(0, None), (1, 1), (2, 1), (1, 2), (3, 2)]
    assert trials[3] == replace(trials[1], seed=2)
    measured.clear()
    assert run_sweep(experiment(*seeds), quiet=True) == (5, 0, 0)
    assert measured == []


def test_a_prior_weight_is_solved_for_and_both_are_recorded(experiment, tmp_path):
    wish = {"prior_weight": {"cross": 0.2}, "tau_sigma": {"encoder": 0.1}}
    assert run_sweep(experiment("sweep.trials=1", f"sweep.enqueue=[{wish}]"), quiet=True) == (2, 0, 0)
    trial = trials_in(tmp_path / "output")[1]
    assert trial.settings == wish
    assert trial.resolved["tau_sigma"] == wish["tau_sigma"]
    assert len(trial.resolved["tau_alpha"]["cross"]) == 2
    assert trial.prior_weight == pytest.approx(0.2 / 3, rel=0.2)  # of three roles, two are without

    raw = experiment("sweep.trials=1", f"sweep.enqueue=[{trial.resolved}]")
    run_sweep(raw.model_copy(update={"output": str(tmp_path / "raw")}), quiet=True)
    assert trials_in(tmp_path / "raw")[1].metrics == trial.metrics


@pytest.mark.parametrize("metrics", ["[perplexity, bleu, overlap]", "[bleu]"])
def test_shared_encoder_outputs_change_no_number(experiment, tmp_path, monkeypatch, metrics):
    space = "{tau_alpha: {encoder: {values: [0, 1]}, cross: {values: [0, inf]}}, tau_sigma: {decoder: 0.1}}"
    grid = ["sweep.sampler=grid", "sweep.trials=null", f"sweep.space={space}"]
    scoring = [f"evaluation.metrics={metrics}", "selection.metric=bleu"]
    shared = experiment(*grid, *scoring)
    assert run_sweep(shared, quiet=True) == (5, 0, 0)
    monkeypatch.setattr(worker, "ENCODER_BYTES", 0)
    apart = shared.model_copy(update={"output": str(tmp_path / "apart")})
    assert run_sweep(apart, quiet=True) == (5, 0, 0)
    for one, other in zip(trials_in(tmp_path / "output"), trials_in(tmp_path / "apart"), strict=True):
        assert one.metrics == other.metrics
        assert (one.prior_weight, one.strength) == pytest.approx((other.prior_weight, other.strength))


def test_two_workers_never_measure_one_setting_of_tpe_at_a_time(experiment, tmp_path, monkeypatch):
    class Two(Local):
        """Gives back the later of two jobs first."""

        capacity = 2

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.under_way = []

        def submit(self, job: Job) -> None:
            self.under_way.append(job)
            assert len({each.key for each in self.under_way}) == len(self.under_way) <= self.capacity

        def next(self) -> tuple[Job, Measured]:
            super().submit(self.under_way.pop())
            return super().next()

    monkeypatch.setattr(runner, "Local", Two)
    space = "{tau_sigma: {cross: {values: [0, 2]}, encoder: {values: [0, 2]}}}"
    asked = experiment("sweep.sampler=tpe", "sweep.trials=9", f"sweep.space={space}")
    assert run_sweep(asked, quiet=True) == (4, 0, 0)
    assert "3 of 3 settings completed" in (page := write_report(analyse(tmp_path / "output"), ()))
    assert "preview" not in page
    before = (tmp_path / "output" / "trials.jsonl").read_bytes()
    assert run_sweep(asked, quiet=True) == (4, 0, 0)
    assert (tmp_path / "output" / "trials.jsonl").read_bytes() == before


@pytest.mark.parametrize("metrics", ["[perplexity]", "[bleu]"])
def test_batches_that_do_not_fit_in_memory_change_no_number(experiment, tmp_path, monkeypatch, metrics):
    asked = experiment(f"evaluation.metrics={metrics}", f"selection.metric={metrics[1:-1]}", "sweep.trials=1")
    run_sweep(asked, quiet=True)
    opened = runner.open_workbench
    refused = []

    def refuse(module, args, kwargs):
        if len(kwargs["input_ids"]) > 3:
            refused.append(module)
            raise torch.OutOfMemoryError("CUDA out of memory.")

    def small(asked: Experiment) -> Workbench:
        workbench = opened(asked)
        # Encoder sites have been recorded by then.
        workbench.model.get_decoder().register_forward_pre_hook(refuse, with_kwargs=True)
        return workbench

    monkeypatch.setattr(runner, "open_workbench", small)
    halved = asked.model_copy(update={"output": str(tmp_path / "halved")})
    assert run_sweep(halved, quiet=True) == (2, 0, 0)
    assert refused
    for one, other in zip(trials_in(tmp_path / "output"), trials_in(tmp_path / "halved"), strict=True):
        for domain, splits in one.metrics.items():
            for split, values in splits.items():
                assert other.metrics[domain][split] == pytest.approx(values, rel=1e-6)
        assert (other.prior_weight, other.strength) == pytest.approx(
            (one.prior_weight, one.strength), rel=1e-6
        )


def test_a_ray_worker_measures_nothing_of_another_model_or_other_data(experiment, monkeypatch):
    workbench = open_workbench(asked := experiment())
    subject = subject_of(workbench)
    other = json.loads(json.dumps(subject))
    other["data"]["away"]["test"] = "another"
    monkeypatch.setattr("nvreg.sweep.executors.open_workbench", lambda _: workbench)
    for given, differing in (
        (subject, None),
        (other, r"\(they differ in data.away.test\); run the sweep again"),
    ):
        remote = _Remote(asked.model_dump(), {}, [], given)
        remote._worker = Warner()
        error = remote.measure(Job("a", 1)).error
        assert error is None if differing is None else re.search(differing, error)


class Warner:
    """A worker that warns of each job."""

    def measure(self, job, step):
        warnings.warn(f"of {job.key[0]}", NvregWarning, stacklevel=2)
        warnings.warn("of a library", UserWarning, stacklevel=2)
        return Measured({}, {}, None, None, None, 0.0)


def test_what_ray_workers_warn_of_is_said_once_by_the_process_that_has_a_terminal():
    remote, executor = _Remote.__new__(_Remote), RayExecutor.__new__(RayExecutor)
    remote._worker, remote._differing, executor._said = Warner(), "", set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for key in ("a1", "a2", "b1"):
            executor._warn(remote.measure(Job(key, 1)).warnings)
    assert [(str(each.message), each.category) for each in caught] == [
        ("of a", NvregWarning),
        ("of b", NvregWarning),
    ]
