"""What of a run is damaged or lost, while a sweep writes it or between two, is noticed and measured again."""

import shutil
from dataclasses import replace

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from nvreg import Prior, UserError
from nvreg.errors import DamagedError
from nvreg.experiment import load_experiment
from nvreg.report.analysis import analyse
from nvreg.report.reading import read_run
from nvreg.report.writing import write_report
from nvreg.results import RunFiles
from nvreg.sweep.runner import run_sweep
from nvreg.sweep.worker import Worker
from tests.cli.running import run
from tests.sweep.running import rewrite_trials, trials_in


def flip(path, place=-20):
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def without_digests(trials):
    """Trials that say nothing of the bytes of their files, of which two versions of a library may differ."""
    return [replace(trial, examples=None) for trial in trials]


def metadata_of(path):
    """What a prior says of itself with the digest of all it holds, which safetensors writes in any order."""
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def test_a_damaged_prior_is_made_again_by_the_sweep_and_refused_by_others(
    output, experiment, measured, capsys, tmp_path
):
    path, trials = output / "prior.safetensors", (output / "trials.jsonl").read_bytes()
    before, manifest = metadata_of(path), (output / "manifest.json").read_bytes()
    flip(path)
    exported = run("export", output, tmp_path / "out", "--protocol", "in-domain")
    assert exported.exit_code == 2
    assert "prior.safetensors, got one that has changed since; " in exported.stderr
    assert not (tmp_path / "out").exists()
    assert run_sweep(experiment()) == (4, 0, 0)
    assert "prior.safetensors is not as it was written; it is made again" in capsys.readouterr().err
    Prior.load(path)
    assert (metadata_of(path), (output / "manifest.json").read_bytes()) == (before, manifest)
    assert (measured, (output / "trials.jsonl").read_bytes()) == ([], trials)


def of_an_earlier_version(path):
    """Write a prior without a digest."""
    save_file(load_file(path), path, metadata={"nvreg": metadata_of(path)["nvreg"]})


def test_a_prior_of_an_earlier_version_is_checked_by_the_manifest(output, experiment, measured, capsys):
    path = output / "prior.safetensors"
    of_an_earlier_version(path)
    assert run_sweep(experiment()) == (4, 0, 0)
    assert "made again" not in capsys.readouterr().err
    of_an_earlier_version(path)
    flip(path)
    Prior.load(path)
    with pytest.raises(UserError, match=r"expected the prior .* of the run"):
        Prior.load(path, RunFiles(output).fingerprint_of_prior("inputs"))
    assert run_sweep(experiment()) == (4, 0, 0)
    assert "is made again" in capsys.readouterr().err
    assert measured == []


@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(b""), lambda path: path.unlink()])
@pytest.mark.parametrize("number", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_trial_without_its_examples_is_measured_again_and_keeps_its_number(
    output, finished, experiment, measured, capsys, damage, number
):
    lost = trials_in(output)[number]
    damage(RunFiles(output).examples(lost.key, "away", "test"))
    with pytest.raises(UserError, match=rf"the examples of trial {number} in .* run the sweep again"):
        read_run(output).examples(number, "away", "test")
    assert run_sweep(experiment()) == (4, 0, 0)
    assert f"the examples of 1 trials in {output} ({number}) are gone or not as" in capsys.readouterr().err
    assert len(measured) == 1
    assert trials_in(output)[-1] == lost
    read_run(output).examples(number, "away", "test")
    assert run_sweep(experiment(), quiet=True) == (4, 0, 0)
    assert len(measured) == 1


def test_all_examples_lost_are_all_measured_again(output, finished, experiment, measured):
    shutil.rmtree(output / "examples")
    assert run_sweep(experiment(), quiet=True) == (4, 0, 0)
    assert len(measured) == 4
    assert trials_in(output)[4:] == trials_in(finished)


def test_a_seed_that_shares_a_lost_trial_has_it_again(experiment, tmp_path, measured):
    asked = experiment("sweep.seeds=[1, 2]", "sweep.sampler=grid", "sweep.trials=null",
                       "sweep.space={tau_sigma: {cross: {values: [0.1, 0.2]}}}")  # fmt: skip
    run_sweep(asked, quiet=True)
    shutil.rmtree(tmp_path / "output" / "examples" / trials_in(tmp_path / "output")[1].key)
    assert len(measured) == 3
    assert run_sweep(asked, quiet=True) == (5, 0, 0)
    assert len(measured) == 4
    assert run_sweep(asked, quiet=True) == (5, 0, 0)
    assert len(measured) == 4


@pytest.mark.slow
def test_a_lost_draw_of_tpe_is_the_one_that_is_measured_again(experiment, tmp_path, measured):
    asked = experiment("sweep.sampler=tpe", "sweep.trials=3", "sweep.space={tau_sigma: {cross: [0, 1]}}")
    run_sweep(asked, quiet=True)
    trials = trials_in(tmp_path / "output")
    shutil.rmtree(tmp_path / "output" / "examples" / trials[2].key)
    assert run_sweep(asked, quiet=True) == (4, 0, 0)
    assert trials_in(tmp_path / "output")[4:] == [trials[2]]


def test_a_run_of_an_earlier_version_has_no_digests_and_goes_on(output, experiment, measured):
    rewrite_trials(output, lambda line: line.pop("examples"))
    assert run_sweep(experiment(), quiet=True) == (4, 0, 0)
    assert measured == []
    write_report(analyse(output), [])
    (path,) = (output / "examples" / trials_in(output)[1].key).glob("home.test.parquet")
    path.write_bytes(path.read_bytes()[:-1])
    assert run_sweep(experiment(), quiet=True) == (4, 0, 0)
    assert len(measured) == 1


def test_a_changed_digit_of_a_trial_is_refused(output, experiment):
    path = output / "trials.jsonl"
    path.write_text(path.read_text().replace('"bleu": ', '"bleu": 1', 1))
    for command in (lambda: run_sweep(experiment(), quiet=True), lambda: read_run(output)):
        with pytest.raises(UserError, match=r"trials.jsonl, line 1: expected a trial as it was written"):
            command()


def meanwhile(monkeypatch, number, do):
    """Do something while the number-th setting from here on is measured."""
    measure, calls = Worker._measured, []

    def disturbed(self, job, step):
        calls.append(job)
        if len(calls) == number:
            do()
        return measure(self, job, step)

    monkeypatch.setattr(Worker, "_measured", disturbed)


SLOW = {"all it holds", "the manifest", "the examples"}

REMOVALS = {
    "the directory": lambda output: shutil.rmtree(output),
    "all it holds": lambda output: [
        shutil.rmtree(path) if path.is_dir() else path.unlink() for path in output.iterdir()
    ],
    "the trials": lambda output: (output / "trials.jsonl").unlink(),
    "the manifest": lambda output: (output / "manifest.json").unlink(),
    "the examples": lambda output: shutil.rmtree(output / "examples"),
}


@pytest.mark.parametrize(
    "removal", [pytest.param(each, marks=[pytest.mark.slow] if each in SLOW else []) for each in REMOVALS]
)
def test_what_is_removed_under_a_sweep_ends_it_and_what_is_in_memory_is_written_again(
    experiment, finished, tmp_path, monkeypatch, removal
):
    output = tmp_path / "output"
    with monkeypatch.context() as patch:
        meanwhile(patch, 3, lambda: REMOVALS[removal](output))
        with pytest.raises(UserError, match=f"expected {output} to be left alone during the sweep, got: "):
            run_sweep(experiment(), quiet=True)
    kept = 4 if removal == "the examples" else 3
    assert without_digests(trials_in(output)) == without_digests(trials_in(finished))[:kept]
    assert (output / "manifest.json").read_bytes() == (finished / "manifest.json").read_bytes()
    examples_are_gone = removal in ("the directory", "all it holds", "the examples")
    if examples_are_gone:
        with pytest.raises(UserError, match="run the sweep again"):
            write_report(analyse(output), [])
    assert run_sweep(experiment(), quiet=True) == (4, 0, 0)
    latest = {trial.number: trial for trial in trials_in(output)}
    assert [latest[number] for number in range(4)] == trials_in(finished)
    write_report(analyse(output), [])


@pytest.mark.parametrize("name", ["manifest.json", "trials.jsonl"])
def test_what_someone_else_writes_under_a_sweep_is_not_written_over(experiment, tmp_path, monkeypatch, name):
    path = tmp_path / "output" / name

    def take_over():
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        path.write_text("of someone else")

    meanwhile(monkeypatch, 3, take_over)
    with pytest.raises(UserError, match=f"{name} was changed by someone else; nothing is written over it"):
        run_sweep(experiment(), quiet=True)
    assert path.read_text() == "of someone else"


@pytest.mark.parametrize("lost", [["manifest.json"], ["manifest.json", "experiment.yaml"]])
def test_a_directory_that_has_lost_its_manifest_is_mended_by_the_sweep(
    output, experiment, measured, capsys, lost
):
    run_sweep(experiment(), quiet=True)
    before = {name: (output / name).read_bytes() for name in ("manifest.json", "experiment.yaml")}
    for name in lost:
        (output / name).unlink()
    for command in (["report", output], ["compare", output, output], ["export", output, output / "out",
                    "--protocol", "in-domain"]):  # fmt: skip
        refused = run(*command)
        assert refused.exit_code == 2
        assert "without manifest.json; run the sweep again, which mends what is lost" in refused.stderr
    assert run_sweep(experiment()) == (4, 0, 0)
    assert "is lost or damaged, and is written again" in capsys.readouterr().err
    assert measured == []
    assert {name: (output / name).read_bytes() for name in before} == before


def test_a_directory_of_another_experiment_that_has_lost_its_manifest_is_refused(output, experiment):
    (output / "manifest.json").unlink()
    with pytest.raises(UserError, match="expected a new or empty output directory"):
        run_sweep(experiment("name=another"), quiet=True)
    assert not (output / "manifest.json").exists()
    (output / "experiment.yaml").unlink()
    (output / "trials.jsonl").write_text("of something else\n")
    with pytest.raises(UserError, match="expected a new or empty output directory"):
        run_sweep(experiment(), quiet=True)


def test_an_experiment_file_of_the_user_s_own_makes_no_directory_a_run_s(tiny_experiment, tmp_path):
    path = tmp_path / "mine" / "experiment.yaml"
    path.parent.mkdir()
    path.write_text(text := tiny_experiment.read_text())
    asked = load_experiment(tiny_experiment, [f"output={path.parent}"])
    with pytest.raises(UserError, match="expected a new or empty output directory"):
        run_sweep(asked, quiet=True)
    assert path.read_text() == text


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_manifest_that_cannot_be_read_is_mended_by_the_sweep(output, experiment, measured, capsys, content):
    (output / "manifest.json").write_text(content)
    assert run_sweep(experiment()) == (4, 0, 0)
    assert "is lost or damaged, and is written again" in capsys.readouterr().err
    assert measured == []
    read_run(output)
    (output / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"with another kind of manifest.json"):
        run_sweep(experiment("name=another"), quiet=True)


@pytest.mark.parametrize(
    ("name", "now", "then"),
    [
        ("manifest.json", '"planned": 3', '"planned": 7'),
        ("manifest.json", '"model": "', '"model": "0'),
        ("experiment.yaml", "num_beams: 1", "num_beams: 3"),
        ("experiment.yaml", "methods:", "methods:\n    sink: {space: {sink_logit: 1}}"),
    ],
)
def test_a_manifest_or_experiment_that_has_changed_is_refused_and_written_anew(
    name, now, then, output, experiment, measured
):
    path = output / name
    whole = path.read_text()
    assert now in whole
    path.write_text(whole.replace(now, then))
    with pytest.raises(DamagedError, match=f"{name} as the sweep wrote it, got one that has changed"):
        read_run(output)
    run_sweep(experiment(), quiet=True)
    assert measured == []
    assert now in path.read_text()
    assert then not in path.read_text()
    read_run(output)
