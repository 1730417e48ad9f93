from pathlib import Path

import pytest
import transformers
from transformers import AutoConfig, AutoTokenizer

from nvreg.demo import build_demo, making
from nvreg.demo.corpus import DOMAINS, read_records
from nvreg.demo.quality import MEASURES, baseline_scores, model_score
from nvreg.demo.recipe import RECIPES, Recipe
from nvreg.demo.records import ATTITUDES
from nvreg.errors import UserError
from nvreg.metrics import METRICS

Recipes = dict[str, Recipe]


def load(path: Path):
    (architecture,) = AutoConfig.from_pretrained(path).architectures
    return AutoTokenizer.from_pretrained(path), getattr(transformers, architecture).from_pretrained(
        path
    ).eval()


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
    build_demo(demo, recipes=recipes)
    assert capsys.readouterr().out.count("nothing to do") == len(RECIPES)
    assert files(demo) == before


def test_says_how_well_each_does_beside_its_baselines(
    tmp_path: Path, recipes: Recipes, capsys: pytest.CaptureFixture[str]
) -> None:
    build_demo(tmp_path, ["classification", "summarisation"], recipes=recipes)
    classification, summarisation = capsys.readouterr().out.splitlines()
    assert classification.startswith(f"wrote {tmp_path / 'classification'}: accuracy 0.")
    assert "(commonest label 0." in classification
    assert "naive Bayes 0." in classification
    assert "rougeL" in summarisation
    assert "(first sentence 0." in summarisation
    assert {path.name for path in tmp_path.iterdir()} == {"classification", "summarisation"}


def test_another_seed_is_another_demo(tmp_path: Path, recipes: Recipes) -> None:
    corpus = tmp_path / "translation" / "village" / "train.jsonl"
    build_demo(tmp_path, ["translation"], seed=0, recipes=recipes)
    first = corpus.read_bytes()
    build_demo(tmp_path, ["translation"], seed=1, recipes=recipes)
    assert corpus.read_bytes() != first


def test_a_stop_keeps_the_tasks_that_are_finished(
    tmp_path: Path, recipes: Recipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = making.train_

    def stop_at_llama(model, *arguments) -> None:
        if model.config.model_type == "llama":
            raise KeyboardInterrupt
        train(model, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(making, "train_", stop_at_llama)
        with pytest.raises(KeyboardInterrupt):
            build_demo(tmp_path, ["translation", "language-modelling"], recipes=recipes)
    assert not (tmp_path / "language-modelling").exists()
    before = files(tmp_path / "translation")
    build_demo(tmp_path, ["translation", "language-modelling"], recipes=recipes)
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
