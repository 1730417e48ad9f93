"""The checkpoints that come with nvreg: they are what the recipe says, and written out without a change."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import nvreg.demo
from nvreg.demo import build_demo
from nvreg.demo.build import BUILT_IN, FIGURES, copy_checkpoints
from nvreg.demo.corpora import digest_of, read_records, write_corpora
from nvreg.demo.quality import MEASURES, baseline_scores, model_score
from nvreg.demo.recipe import RECIPES, Recipe
from nvreg.errors import UserError
from nvreg.metrics import METRICS
from scripts.checkpoints import ship
from tests.demo.conftest import load

TASKS = pytest.mark.parametrize("task", RECIPES)
MEBIBYTE = 2**20


def figures(task: str) -> dict:
    return json.loads((BUILT_IN / task / FIGURES).read_text())


@TASKS
def test_they_are_of_the_recipe(task: str) -> None:
    made = figures(task)
    assert (made["task"], made["measure"], made["seed"]) == (task, MEASURES[task], 0)
    assert made["digest"] == RECIPES[task].digest(task, 0)


@pytest.mark.parametrize("task", ["language-modelling", "summarisation"])
def test_their_corpora_are_the_same_everywhere(task: str, tmp_path: Path) -> None:
    """Those of the other tasks are what `build_demo` refuses to go on without, in two tests below."""
    write_corpora(tmp_path, task, 0, RECIPES[task])
    assert digest_of(tmp_path) == figures(task)["corpora"]


def test_a_digest_notices_a_changed_and_a_moved_text(tmp_path: Path) -> None:
    digests = set()
    for name, text in (("village/test", "a"), ("village/test", "b"), ("saga/test", "a")):
        folder = tmp_path / str(len(digests))
        (folder / name).parent.mkdir(parents=True)
        (folder / f"{name}.jsonl").write_text(text)
        digests.add(digest_of(folder))
    assert len(digests) == 3


def test_they_are_five_and_small() -> None:
    weights = sorted(BUILT_IN.glob("*/*/model.safetensors"))
    assert [path.parent.name for path in weights].count("model") == len(RECIPES)
    assert len(weights) == 5
    assert sum(path.stat().st_size for path in BUILT_IN.rglob("*.*")) < 8 * MEBIBYTE
    assert {tensor.dtype for path in weights for tensor in load_file(path).values()} == {torch.float16}


def test_written_out_they_have_the_same_values_in_float32(tmp_path: Path) -> None:
    build_demo(tmp_path, ["classification"])
    for name in ("model", "pretrained"):
        built_in = load_file(BUILT_IN / "classification" / name / "model.safetensors")
        tokenizer, model = load(tmp_path / "classification" / name)
        assert len(tokenizer) == RECIPES["classification"].vocabulary
        weights = model.state_dict()
        assert model.dtype == torch.float32
        assert all(torch.equal(weights[key], tensor.float()) for key, tensor in built_in.items())
        assert built_in.keys() == load_file(tmp_path / "classification" / name / "model.safetensors").keys()


@TASKS
def test_a_training_leaves_weights_that_float16_holds(demo: Path, tmp_path: Path, task: str) -> None:
    shipped, written = tmp_path / "shipped", tmp_path / "written"
    for folder in (shipped, written):
        folder.mkdir()
    copy_checkpoints(demo / task, shipped, "float16")
    copy_checkpoints(shipped, written, "float32")
    names = {path.relative_to(written) for path in written.rglob("*") if path.is_file()}
    assert {path.parts[0] for path in names} >= {"model", FIGURES}
    assert all((written / name).read_bytes() == (demo / task / name).read_bytes() for name in names)


def test_make_demo_replaces_what_is_shipped(demo: Path, tmp_path: Path) -> None:
    left = tmp_path / "translation" / "model" / "left.txt"
    left.parent.mkdir(parents=True)
    left.touch()
    ship(demo, tmp_path)
    assert not left.exists()
    weights = sorted(tmp_path.glob("*/*/model.safetensors"))
    assert len(weights) == 5
    assert {tensor.dtype for path in weights for tensor in load_file(path).values()} == {torch.float16}
    assert {path.name for path in tmp_path.glob("*/*")} == {"model", "pretrained", FIGURES}


def test_a_demo_says_how_well_its_model_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_demo(tmp_path, ["translation"])
    score = f"bleu {figures('translation')['score']:.3g} on village validation"
    assert capsys.readouterr().out.startswith(f"wrote {tmp_path / 'translation'}: {score} (")
    build_demo(tmp_path, ["translation"])
    assert "nothing to do" in capsys.readouterr().out


def test_a_trained_demo_is_not_the_one_that_comes_with_nvreg(
    tmp_path: Path, recipes: dict[str, Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {"translation": recipes["translation"]}
    build_demo(tmp_path / "trained", train=True, recipes=recipe)
    built_in = tmp_path / "built-in" / "translation"
    built_in.mkdir(parents=True)
    copy_checkpoints(tmp_path / "trained" / "translation", built_in, "float16")
    monkeypatch.setattr(nvreg.demo.build, "BUILT_IN", built_in.parent)
    build_demo(tmp_path / "demo", recipes=recipe)
    first = (tmp_path / "demo" / "translation" / "model" / "model.safetensors").stat().st_mtime_ns
    build_demo(tmp_path / "demo", train=True, recipes=recipe)
    assert (tmp_path / "demo" / "translation" / "model" / "model.safetensors").stat().st_mtime_ns != first


def test_another_seed_has_to_be_trained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected --seed 0 and the recipe .*, got seed 7; .* add --train"):
        build_demo(tmp_path, ["translation"], seed=7)
    assert list(tmp_path.iterdir()) == []


def test_other_corpora_than_those_of_the_models_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nvreg.demo.build.digest_of", lambda directory: "of another Python")
    with pytest.raises(UserError, match=r"expected the corpora .*, got others: Python 3\.\d+\.\d+ draws"):
        build_demo(tmp_path, ["translation"])
    assert not (tmp_path / "translation").exists()


@pytest.mark.slow
@TASKS
def test_they_score_what_is_said_of_them(tmp_path: Path, task: str) -> None:
    build_demo(tmp_path, [task])
    tokenizer, model = load(tmp_path / task / "model")
    held_out = read_records(tmp_path / task / "village" / "validation.jsonl")
    score = model_score(task, model, tokenizer, held_out)
    assert score == pytest.approx(figures(task)["score"], rel=0.01)  # another processor may break a tie


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "at_least", "best_baseline"),
    [
        ("translation", 80, 5),
        ("classification", 0.85, 0.7),
        ("language-modelling", -25, -45),
        ("summarisation", 0.6, 0.3),
    ],
)
def test_model_beats_its_baselines_and_loses_out_of_domain(
    tmp_path: Path, task: str, at_least: float, best_baseline: float
) -> None:
    build_demo(tmp_path, [task])
    tokenizer, model = load(tmp_path / task / "model")
    sign = 1 if METRICS[MEASURES[task]].higher_is_better else -1
    corpora = {path.parent.name: read_records(path) for path in (tmp_path / task).glob("*/test.jsonl")}
    scores = {name: sign * model_score(task, model, tokenizer, records) for name, records in corpora.items()}
    train = read_records(tmp_path / task / "village" / "train.jsonl")
    baselines = baseline_scores(task, tokenizer, train, corpora["village"])
    assert max(sign * score for score in baselines.values()) < best_baseline
    assert scores["village"] > at_least
    assert max(score for name, score in scores.items() if name != "village") < scores["village"]
