import os
from pathlib import Path

import pytest
import typer
from transformers import AutoConfig
from typer.testing import CliRunner

import nvreg.demo
from nvreg.cli.demo import demo as command
from nvreg.demo import build_demo, training
from nvreg.demo.build import is_made, staged
from nvreg.demo.corpora import ATTITUDES, DOMAINS
from nvreg.demo.recipe import RECIPES, Recipe
from nvreg.errors import UserError
from tests.demo.conftest import load

Recipes = dict[str, Recipe]


def files(directory: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in directory.rglob("*")}


@pytest.mark.parametrize("task", RECIPES)
def test_layout(demo: Path, task: str) -> None:
    folders = {path.name for path in (demo / task).iterdir() if path.is_dir()}
    pretraining = {"general", "pretrained"} if RECIPES[task].pretraining else set()
    assert folders == {"model", *(domain.name for domain in DOMAINS), *pretraining}


def test_every_model_is_of_another_architecture(demo: Path) -> None:
    models = [AutoConfig.from_pretrained(demo / task / "model").model_type for task in RECIPES]
    assert models == ["marian", "bert", "llama", "bart"]


@pytest.mark.parametrize("task", RECIPES)
def test_transformers_runs_it(demo: Path, task: str) -> None:
    tokenizer, model = load(demo / task / "model")
    inputs = tokenizer(["sul lowa.", "em lowa sul mena."], padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    if model.can_generate():
        generated = model.generate(**inputs, max_new_tokens=8)
        assert all(isinstance(text, str) for text in tokenizer.batch_decode(generated))
        assert len(generated) == 2
    else:
        assert model(**inputs).logits.shape == (2, len(ATTITUDES))


def test_classes_have_names(demo: Path) -> None:
    _, model = load(demo / "classification" / "model")
    assert model.config.id2label == dict(enumerate(ATTITUDES))
    assert model.config.label2id == {attitude: number for number, attitude in enumerate(ATTITUDES)}


def test_classifier_starts_from_the_pretrained_encoder(demo: Path) -> None:
    tokenizer, pretrained = load(demo / "classification" / "pretrained")
    same, classifier = load(demo / "classification" / "model")
    assert type(pretrained).__name__ == "BertForMaskedLM"
    assert tokenizer.get_vocab() == same.get_vocab()
    assert "<mask>" in tokenizer.get_vocab()
    embeddings = [model.get_input_embeddings().weight for model in (pretrained, classifier)]
    moved = (embeddings[0] - embeddings[1]).norm() / embeddings[0].norm()
    assert 0 < moved < 0.5


def test_made_once(demo: Path, recipes: Recipes, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(demo)
    build_demo(demo, train=True, recipes=recipes)
    assert capsys.readouterr().out.count("nothing to do") == len(RECIPES)
    assert files(demo) == before


def test_says_how_well_each_does_beside_its_baselines(
    tmp_path: Path, recipes: Recipes, capsys: pytest.CaptureFixture[str]
) -> None:
    build_demo(tmp_path, ["classification", "summarisation"], train=True, recipes=recipes)
    classification, summarisation = capsys.readouterr().out.splitlines()
    assert classification.startswith(f"wrote {tmp_path / 'classification'}: accuracy 0.")
    assert "(commonest label 0." in classification
    assert "naive Bayes 0." in classification
    assert "rougeL" in summarisation
    assert "(first sentence 0." in summarisation
    assert {path.name for path in tmp_path.iterdir()} == {"classification", "summarisation"}


def test_another_seed_is_another_demo(tmp_path: Path, recipes: Recipes) -> None:
    corpus = tmp_path / "translation" / "village" / "train.jsonl"
    build_demo(tmp_path, ["translation"], seed=0, train=True, recipes=recipes)
    first = corpus.read_bytes()
    build_demo(tmp_path, ["translation"], seed=1, train=True, recipes=recipes)
    assert corpus.read_bytes() != first


def test_a_stop_keeps_the_tasks_that_are_finished(
    tmp_path: Path, recipes: Recipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = training.train_

    def stop_at_llama(model, *arguments) -> None:
        if model.config.model_type == "llama":
            raise KeyboardInterrupt
        train(model, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_", stop_at_llama)
        with pytest.raises(KeyboardInterrupt):
            build_demo(tmp_path, ["translation", "language-modelling"], train=True, recipes=recipes)
    assert not (tmp_path / "language-modelling").exists()
    before = files(tmp_path / "translation")
    build_demo(tmp_path, ["translation", "language-modelling"], train=True, recipes=recipes)
    assert files(tmp_path / "translation") == before
    assert (tmp_path / "language-modelling" / "model").is_dir()


def test_an_unknown_task_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--task: expected one of translation, .*, got 'summarization'"):
        build_demo(tmp_path, ["translation", "summarization"])
    assert list(tmp_path.iterdir()) == []


def test_digest_notices_every_ingredient() -> None:
    recipe = RECIPES["translation"]
    others = [recipe.digest("summarisation", 0), recipe.digest("translation", 1)]
    others += [other.digest("translation", 0) for other in RECIPES.values() if other != recipe]
    assert len({recipe.digest("translation", 0), *others}) == 6
    assert recipe.digest("translation", 0) == RECIPES["translation"].digest("translation", 0)


@pytest.mark.parametrize(
    ("options", "tasks", "seed", "train"),
    [
        ([], None, 0, False),
        (["--seed", "7", "--train"], None, 7, True),
        (["--task", "translation", "--task", "summarisation"], ["translation", "summarisation"], 0, False),
    ],
)
def test_command_passes_its_options(
    options: list[str], tasks: list[str] | None, seed: int, train: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(
        nvreg.demo, "build_demo", lambda *arguments, **options: calls.append((arguments, options))
    )
    app = typer.Typer()
    app.command()(command)
    assert CliRunner().invoke(app, ["somewhere", *options]).exit_code == 0
    assert calls == [((Path("somewhere"), tasks, seed), {"train": train})]


NOBODY = 10**9
"""The number of no process."""


def make(directory: Path, stamp: str, content: str = "content") -> None:
    with staged(directory, stamp) as aside:
        (aside / "file").write_text(content)


def entries(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_made_when_the_block_ends(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "translation"
    with staged(directory, "stamp") as aside:
        assert list(aside.iterdir()) == []
        (aside / "file").write_text("content")
        assert not directory.exists()
    assert (directory / "file").read_text() == "content"
    assert is_made(directory, "stamp")
    assert not is_made(directory, "another stamp")
    assert entries(tmp_path / "new") == ["translation"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_not_made_when_the_block_fails(tmp_path: Path, error: type[BaseException]) -> None:
    directory = tmp_path / "translation"
    with pytest.raises(error), staged(directory, "stamp"):
        raise error
    assert not directory.exists()
    assert not is_made(directory, "stamp")
    make(directory, "stamp")
    assert entries(tmp_path) == ["translation"]


def test_failure_leaves_what_was_made_before(tmp_path: Path) -> None:
    directory = tmp_path / "translation"
    make(directory, "old")
    with pytest.raises(RuntimeError), staged(directory, "new"):
        raise RuntimeError
    assert is_made(directory, "old")


def test_replaces_what_was_made_before(tmp_path: Path) -> None:
    directory = tmp_path / "translation"
    make(directory, "old", "old")
    (directory / "extra").touch()
    make(directory, "new", "new")
    assert is_made(directory, "new")
    assert (directory / "file").read_text() == "new"
    assert "extra" not in entries(directory)
    assert entries(tmp_path) == ["translation"]


def test_made_after_a_kill_between_the_renames(tmp_path: Path) -> None:
    directory = tmp_path / "translation"
    make(directory, "old")
    directory.rename(tmp_path / f".translation.before.{NOBODY}.part")
    make(directory, "new")
    assert is_made(directory, "new")
    assert entries(tmp_path) == ["translation"]


def test_two_attempts_at_once_are_each_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, numbers = tmp_path / "translation", iter([1, os.getpid()])
    monkeypatch.setattr("os.getpid", lambda: next(numbers))
    with staged(directory, "stamp") as first:
        monkeypatch.undo()
        make(directory, "stamp", "of the second")
        (first / "file").write_text("of the first")
    assert is_made(directory, "stamp")
    assert (directory / "file").read_text() == "of the first"
    assert entries(tmp_path) == ["translation"]


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "translation"
    directory.mkdir()
    (directory / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="got other files"):
        make(directory, "stamp")
    assert (directory / "mine.txt").read_text() == "mine"


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="expected a place that can be read and written, got"):
        make(tmp_path / "file" / "translation", "stamp")
