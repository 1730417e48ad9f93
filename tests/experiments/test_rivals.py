"""What NV is compared with in the embedded suite: the files, and the Makefile's commands on a tiny demo."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from nvreg.cli import app
from nvreg.demo import build_demo
from nvreg.demo.recipe import RECIPES
from nvreg.experiment import load_experiment
from nvreg.finetune.schema import load_finetuning
from nvreg.methods import METHODS
from nvreg.report.analysis import analyse
from nvreg.report.comparison import combine
from tests.demo.conftest import tiny
from tests.experiments.test_files import DEMO, ROOT

RIVALS = ROOT / "experiments" / "embedded" / "rivals.yaml"
TUNINGS = {path.stem: path for path in sorted((RIVALS.parent / "finetuning").glob("*.yaml"))}
RUNS = ROOT / "results" / "runs" / "embedded"

every = pytest.mark.parametrize("name", TUNINGS)


def test_every_method_is_tried_alike() -> None:
    experiment = load_experiment(RIVALS)
    assert set(experiment.sweep.methods) == set(METHODS)
    assert all(len(method.enqueue) < experiment.sweep.trials for method in experiment.sweep.methods.values())
    nv = experiment.sweep.methods["nv"].space
    assert set(nv) == {"prior_weight", "noise_share"}
    assert all(method.space == nv for name, method in experiment.sweep.methods.items() if "nv" in name)
    assert experiment.sweep.methods["wise-ft"].pretrained == str(DEMO / "classification" / "pretrained")


@every
def test_fine_tunings_differ_in_their_methods_alone(name: str) -> None:
    finetuning, plain = (load_finetuning(TUNINGS[each]) for each in (name, "plain"))
    assert finetuning.name == f"embedded-{name}"
    assert finetuning.method == name
    assert finetuning.output == f"results/runs/embedded/finetuning/{name}"
    own = {"name", "method", "regulariser", "output"}
    assert finetuning.model_dump(exclude=own) == plain.model_dump(exclude=own)


@every
def test_fine_tunings_begin_where_the_built_in_classifier_did(name: str) -> None:
    finetuning = load_finetuning(TUNINGS[name])
    assert finetuning.model.path == str(DEMO / "classification" / "pretrained")
    train = finetuning.data.in_domain.train
    assert train.files == str(DEMO / "classification" / "village" / "train.jsonl")
    assert train.limit < RECIPES["classification"].training_examples
    assert finetuning.data.in_domain.validation == load_experiment(RIVALS).data.in_domain.validation
    assert len(finetuning.training.seeds) == 3


def test_guided_dropout_reads_the_scores_that_make_writes() -> None:
    assert load_finetuning(TUNINGS["guided-dropout"]).regulariser.fisher == str(
        RUNS / "finetuning/fisher.json"
    )


def test_the_makefile_trains_every_method() -> None:
    (line,) = (line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("TUNINGS :="))
    assert line.split()[2:] == ["plain", "guided-dropout", "mvcr"]
    assert set(TUNINGS) == set(line.split()[2:])


def invoke(*arguments: object) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def changes(document: Any, demo: Path, keys: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield what has a file read another demo than the built-in one, and all of it."""
    for key, value in document.items() if isinstance(document, dict) else enumerate(document):
        dotted = ".".join((*keys, str(key)))
        if isinstance(value, dict | list):
            yield from changes(value, demo, (*keys, str(key)))
        elif isinstance(value, str) and "results/demo/" in value:
            yield f"{dotted}={demo / value.partition('results/demo/')[2]}"
        elif key in ("limit", "seed"):
            yield f"{dotted}=null"


def run(command: str, config: Path, demo: Path, output: Path, *more: str, method: str | None = None) -> None:
    """Run a file of the suite on another demo, changed some more."""
    settings = [*changes(yaml.safe_load(config.read_text()), demo), *more]
    options = [f"--set={each}" for each in settings] + ([f"--method={method}"] if method else [])
    invoke(command, "--config", config, "--output", output, "--quiet", *options)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The table of all, of one epoch, one seed and one setting of each method."""
    place = tmp_path_factory.mktemp("rivals")
    demo, tuned, runs, fisher = (place / name for name in ("demo", "tuned", "runs", "fisher.json"))
    recipes = {"classification": replace(tiny(RECIPES["classification"]), layers=2)}  # two may be skipped
    build_demo(demo, ["classification"], train=True, recipes=recipes)
    text, pretrained = (demo / "classification" / name for name in ("general/train.jsonl", "pretrained"))
    invoke("fisher", pretrained, fisher, "--data", text, "--column", "text", "--limit", 4, "--quiet")
    for name, path in TUNINGS.items():
        scores = [f"regulariser.fisher={fisher}"] if name == "guided-dropout" else []
        run("finetune", path, demo, tuned / name, "training.epochs=1", "training.seeds=[1]", *scores)
        model = [f"model.path={tuned / name / 'seed-1'}", "sweep.seeds=[1]", "sweep.trials=1"]
        method = None if name == "plain" else "nv"
        run("sweep", RIVALS, demo, runs / name / "seed-1", *model, method=method)
    _, frames = combine([analyse(directory) for directory in sorted(runs.glob("*/*"))])
    return frames["combined"]


def test_one_table_has_every_fine_tuning_method_and_protocol(table: pd.DataFrame) -> None:
    methods = table.groupby("run")["method"].agg(set)
    assert methods["plain"] >= {"pretrained", *METHODS}
    assert methods["guided-dropout"] == methods["mvcr"] == {"pretrained", "nv"}
    nv = table[table["method"] == "nv"]
    assert set(nv["protocol"]) == set(load_experiment(RIVALS).selection.protocols)
    assert set(table["domain"]) == {"village", "harbour", "saga", "verse", "letters"}
    assert (nv["tried"] == 1).all()
    assert (nv["training_seconds"] > 0).all()
