"""Trainings that diverge save nothing, and checkpoints that are damaged are trained again, or refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from nvreg.config.yaml import write_yaml
from nvreg.errors import UserError
from nvreg.files import write_digests
from nvreg.finetune import training as trainings
from nvreg.finetune.epochs import Checkpoints
from nvreg.finetune.schema import EarlyStopping
from nvreg.finetune.trainer import DivergedError, TaskTrainer
from nvreg.finetune.training import run_finetuning
from nvreg.models.loading import load_model
from tests.finetune.test_training import killed_at, same, weights
from tests.sweep.test_damage import flip

FAST = "training={epochs: 3, batch_size: 4, learning_rate: 1.0e+30, seeds: [1, 2], precision: float32}"


@pytest.mark.parametrize("kind", ["bert", "bart"])
def test_a_training_that_diverges_fails_its_seed_and_saves_nothing(load, tmp_path, kind):
    with pytest.raises(UserError, match=r"^seed 1: expected .* finite, .* not saved; .*and 1 more seeds"):
        run_finetuning(load(kind, "plain", FAST), quiet=True)
    for seed in ("seed-1", "seed-2"):
        assert not list((tmp_path / "tuned" / seed).glob("*.safetensors"))
        assert not (tmp_path / "tuned" / seed / "training.json").exists()
        assert not list((tmp_path / "tuned" / seed / "checkpoints").glob("*"))


def test_the_other_seeds_are_trained(load, tmp_path, monkeypatch):
    train, seeds = trainings.train_seed, []

    def diverging(bench, seed, directory, progress):
        seeds.append(seed)
        if seed == 1:
            raise DivergedError("expected a finite loss")
        train(bench, seed, directory, progress)

    monkeypatch.setattr(trainings, "train_seed", diverging)
    finetuning = load("bert", "plain", FAST.replace("1.0e+30", "0.01").replace("epochs: 3", "epochs: 1"))
    with pytest.raises(UserError, match=r"^seed 1: expected a finite loss$"):
        run_finetuning(finetuning, quiet=True)
    assert seeds == [1, 2]
    assert (tmp_path / "tuned" / "seed-2" / "training.json").is_file()


def test_weights_that_are_not_finite_are_never_the_best_epoch_s(load, monkeypatch, tmp_path):
    step = TaskTrainer.training_step

    def breaking(self, *arguments):
        loss = step(self, *arguments)
        if self.state.global_step == 5:  # the last of the second epoch
            with torch.no_grad():
                self.model.classifier.bias[0] = torch.nan
        return loss

    monkeypatch.setattr(TaskTrainer, "training_step", breaking)
    with pytest.raises(UserError, match=r"seed 1: .*got classifier.bias that is not by step 6; "):
        run_finetuning(load("bert", "plain", "training.early_stopping=accuracy"), quiet=True)
    assert [path.name for path in (tmp_path / "tuned/seed-1/checkpoints").iterdir()] == ["checkpoint-3"]


def test_a_finished_seed_with_other_weights_is_trained_again(load, steps, capsys):
    finetuning = load("bert", "plain", "training.epochs=1")
    (directory,) = run_finetuning(finetuning, quiet=True)
    expected = {name: tensor.clone() for name, tensor in weights(directory).items()}
    flip(directory / "model.safetensors")
    with pytest.raises(UserError, match=r"model.safetensors as nvreg wrote it, got another or none; "):
        load_model(directory)
    steps.clear()
    run_finetuning(finetuning)
    assert "seed-1/model.safetensors is not as it was written; trained again" in capsys.readouterr().err
    assert steps == [0, 1, 2]
    assert same(weights(directory), expected)
    (directory / "config.json").write_text((directory / "config.json").read_text() + "\n")
    steps.clear()
    run_finetuning(finetuning, quiet=True)
    assert steps == []


def test_weights_that_are_meant_to_be_others_are_loaded_without_digests(load):
    (directory,) = run_finetuning(load("bert", "plain", "training.epochs=1"), quiet=True)
    changed = {name: tensor * 2 for name, tensor in load_file(directory / "model.safetensors").items()}
    save_file(changed, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "digests.json").unlink()
    load_model(directory, "AutoModelForSequenceClassification")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "model.safetensors" else [pytest.mark.slow])
        for name in ("model.safetensors", "optimizer.pt", "digests.json", "trainer_state.json")
    ],
)
def test_training_does_not_go_on_from_a_damaged_checkpoint(load, steps, monkeypatch, tmp_path, capsys, name):
    expected = run_finetuning(load("bert", "plain", f"output={tmp_path / 'whole'}"), quiet=True)
    finetuning = load("bert")
    killed_at(7, finetuning, monkeypatch)
    (checkpoint,) = (tmp_path / "tuned/seed-1/checkpoints").iterdir()
    assert checkpoint.name == "checkpoint-6"
    if name == "trainer_state.json":
        state = json.loads((checkpoint / name).read_text()) | {"global_step": 5}
        (checkpoint / name).write_text(json.dumps(state))
    else:
        flip(checkpoint / name, 100)
    steps.clear()
    (directory,) = run_finetuning(finetuning)
    assert "checkpoint-6 is not as it was written; training goes on from before it" in capsys.readouterr().err
    assert steps == [*range(9)]
    assert same(weights(directory), weights(expected[0]))


@pytest.mark.parametrize(
    "state", ["[]", "{}", '{"log_history": 1}', '{"log_history": [1]}', "[" * 100_000, ""]
)
@pytest.mark.parametrize("has_digests", [True, False])
def test_a_checkpoint_without_a_history_is_passed_over(tmp_path, state, has_digests):
    lines = []
    checkpoints = Checkpoints(tmp_path, EarlyStopping(metric="accuracy"), lines.append)
    for step in (3, 6):
        checkpoints.at(step).mkdir()
        log = [{"step": step, "eval_accuracy": 0.5}]
        (checkpoints.at(step) / "trainer_state.json").write_text(json.dumps({"log_history": log}))
        if has_digests or step == 3:
            write_digests(checkpoints.at(step))
    for name in ("checkpoint-6.bak", "checkpoint-copy"):
        shutil.copytree(checkpoints.at(6), tmp_path / name)
    assert checkpoints.last()[0] == checkpoints.at(6)
    (checkpoints.at(6) / "trainer_state.json").write_text(state)
    path, history = checkpoints.last()
    assert (path, history.log[-1]["step"]) == (checkpoints.at(3), 3)
    assert len(lines) == has_digests


def test_the_last_checkpoint_is_not_used_without_the_best(load, tmp_path, monkeypatch):
    finetuning = load("bert", "plain", "training.early_stopping=accuracy")
    monkeypatch.setattr(trainings.shutil, "rmtree", lambda *_, **__: None)  # which keeps all checkpoints
    run_finetuning(finetuning, quiet=True)
    directory, lines = tmp_path / "tuned/seed-1/checkpoints", []
    checkpoints = Checkpoints(directory, finetuning.training.early_stopping, lines.append)
    last, history = checkpoints.last()
    best = checkpoints.at(history.best(finetuning.training.early_stopping)["step"])
    assert best != last
    flip(best / "model.safetensors")
    assert checkpoints.last() is None or checkpoints.last()[0] not in (best, last)
    assert lines
    monkeypatch.undo()
    shutil.rmtree(directory)


def damaged(path):
    flip(path, 40)


LOSSES = {"lost": lambda path: path.unlink(), "damaged": damaged, "none": lambda path: path.write_text("[]")}


@pytest.mark.parametrize("how", LOSSES)
def test_a_lost_manifest_is_written_again_and_finished_seeds_are_kept(load, steps, tmp_path, capsys, how):
    finetuning = load("bert", "plain", "training.epochs=1")
    run_finetuning(finetuning, quiet=True)
    path, before = tmp_path / "tuned/manifest.json", (tmp_path / "tuned/manifest.json").read_text()
    steps.clear()
    LOSSES[how](path)
    run_finetuning(finetuning)
    assert (
        "tuned is lost or damaged, and is written again; finished seeds are kept" in capsys.readouterr().err
    )
    assert (steps, path.read_text()) == ([], before)
    LOSSES[how](path)
    with pytest.raises(UserError, match=r"expected an? .*output directory"):
        run_finetuning(load("bert", "plain", "training.epochs=2"), quiet=True)


def test_a_seed_under_way_begins_anew_where_nothing_says_whose_it_is(load, steps, monkeypatch, tmp_path):
    finetuning = load("bert", "plain", "training.epochs=2")
    killed_at(4, finetuning, monkeypatch)
    (tmp_path / "tuned/manifest.json").unlink()
    with pytest.raises(UserError, match="expected a new or empty output directory"):
        run_finetuning(load("bert", "plain", "name=another"), quiet=True)
    steps.clear()
    (directory,) = run_finetuning(finetuning, quiet=True)
    assert steps == [*range(6)]
    assert not (directory / "checkpoints").exists()


def test_a_damaged_record_has_its_seed_trained_again(load, steps):
    finetuning = load("bert", "plain", "training.epochs=1")
    (directory,) = run_finetuning(finetuning, quiet=True)
    steps.clear()
    record = directory / "training.json"
    record.write_text(record.read_text().replace('"seed": 1', '"seed": 2'))
    run_finetuning(finetuning, quiet=True)
    assert steps == [*range(3)]
    steps.clear()
    run_finetuning(finetuning, quiet=True)
    assert steps == []


def test_a_file_of_the_user_s_own_is_no_directory_of_the_fine_tuning(load, tmp_path):
    finetuning = load("bert", "plain")
    path = tmp_path / "tuned/finetuning.yaml"
    path.parent.mkdir()
    path.write_text(write_yaml(finetuning.model_dump()))
    with pytest.raises(UserError, match="expected a new or empty output directory"):
        run_finetuning(finetuning, quiet=True)
    assert [each.name for each in path.parent.iterdir()] == ["finetuning.yaml"]
