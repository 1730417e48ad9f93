"""What the Makefile would run: what compares overwrites nothing, what overwrites leaves nothing out."""

import os
import subprocess

import pytest

from nvreg.demo.recipe import RECIPES
from tests.experiments.test_files import ROOT

COMPARE = "python -m scripts.compare results/embedded results/runs/embedded " + " ".join(sorted(RECIPES))


def commands(*arguments: str) -> list[str]:
    """The commands that make would run were nothing made, one a line."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    options = ("--dry-run", "--always-make", "--no-print-directory")
    done = subprocess.run(
        ["make", *options, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return [" ".join(line.split()) for line in done.stdout.replace("\\\n", " ").splitlines()]


def test_reproduce_ends_in_the_comparison_and_overwrites_nothing_committed() -> None:
    *before, last = commands("reproduce")
    assert last.endswith(f"{COMPARE} --tuned rivals")
    assert not [line for line in before if "results/embedded" in line]
    assert not [line for line in before if " --train" in line or "scripts." in line]


def test_reproduce_without_the_rivals_fine_tunes_nothing() -> None:
    *before, last = commands("reproduce", "RIVALS=no")
    assert last.endswith(COMPARE)
    run = [line for line in before if not line.startswith("rm ") and " pip " not in line]
    assert not [line for line in run if "finetun" in line or "rivals" in line]
    assert sum("nvreg sweep" in line for line in before) == len(RECIPES)


def test_results_overwrites_every_table_and_then_the_readme() -> None:
    *_, copy, last = commands("results")
    runs = copy.partition("for run in ")[2].partition(";")[0].split()
    committed = [path for path in (ROOT / "results" / "embedded").iterdir() if path.is_dir()]
    assert runs == sorted(f"embedded/{path.name}" for path in committed)
    assert set(runs) == {f"embedded/{name}" for name in (*RECIPES, "rivals")}
    assert last.endswith("python -m scripts.readme")


def test_the_paper_suite_has_nothing_to_be_compared_with() -> None:
    made = commands("reproduce", "SUITE=paper")
    assert sum("nvreg sweep" in line for line in made) == 4
    assert not [line for line in made if "scripts." in line or "demo" in line]


def test_the_real_suite_ends_in_tables_that_the_page_quotes() -> None:
    made = commands("reproduce", "SUITE=real")
    assert sum("nvreg sweep" in line for line in made) == 4
    assert not [line for line in made if "scripts." in line or "demo" in line]
    *_, copy, last = commands("results", "SUITE=real")
    assert copy.endswith("python -m scripts.real results/runs/real results/real")
    assert last.endswith("python -m scripts.readme")


def test_demo_trains_and_ships() -> None:
    *_, train, ship = commands("demo")
    assert train.endswith("nvreg demo results/trained --train")
    assert ship.endswith("python -m scripts.checkpoints results/trained")


def test_a_suite_that_is_not_there_is_named() -> None:
    with pytest.raises(subprocess.CalledProcessError) as raised:
        commands("reproduce", "SUITE=nothing")
    assert "no experiment in experiments/nothing; suites: embedded paper real" in raised.value.stderr
