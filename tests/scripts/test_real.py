"""What is taken of runs on real text, and what the page says of them."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.special import softmax

from nvreg.errors import UserError
from nvreg.experiment import load_experiment
from nvreg.finetune.schema import load_finetuning
from nvreg.report.analysis import analyse
from nvreg.report.writing import DRAWN, Page, write_report
from scripts.outcome import Outcome, read_outcome
from scripts.quoting import CHOICE, filled
from scripts.readme import RESULTS
from scripts.real import QUOTES, copy, in_a_sentence, main, short_table
from scripts.several import ways_in_a_sentence
from tests.report.conftest import SyntheticRun

EXPERIMENTS = sorted((RESULTS / "real" / "experiments").glob("*.yaml"))
TRIALS = {"entities": 5, "taggers": 5, "taggers-all": 5, "summarisation": 10}
"""How many settings are drawn where it is not 30: of each of several checkpoints, or where one takes long."""
TUNINGS = sorted((RESULTS / "real" / "experiments" / "finetuning").glob("*.yaml"))
DOMAINS = {name: ("validation", "test") for name in ("films", "books", "places")}
CLASSES = 4

PAGE = """# Real

<!-- results: real -->
<!-- end -->
<!-- results: real-runs -->
old
<!-- end -->
Prose.
"""


def made_run(directory: Path, planned: int) -> SyntheticRun:
    """A run of a classifier whose logits are 1.6 times what they should be.

    NV undoes that and no more; the sink knows something of the labels; heads make all worse.
    """
    rng = np.random.default_rng(0)
    perfect = {
        name: {split: rng.normal(scale=2, size=(400, CLASSES)) for split in DOMAINS[name]} for name in DOMAINS
    }
    labels = {
        name: {
            split: np.array([rng.choice(CLASSES, p=softmax(row)) for row in rows])
            for split, rows in of.items()
        }
        for name, of in perfect.items()
    }
    run = SyntheticRun(
        directory,
        metric="nll",
        metrics=("nll", "accuracy"),
        domains=DOMAINS,
        planned=planned,
        task="classification",
        methods={
            "nv": {"space": {"tau_sigma": [0, 1]}},
            "nv-heads": {"space": {"tau_sigma": [0, 1]}},
            "output-temperature": {"space": {"output_temperature": [1, 2]}},
            "sink": {"space": {"sink_logit": [-1, 1]}},
            "low-rank": {"space": {"keep": [0.5, 1]}},
        },
    )

    def add(change, **about) -> None:
        logits = {
            name: {split: change(rows, labels[name][split]) for split, rows in of.items()}
            for name, of in perfect.items()
        }
        run.add_logits(logits, labels, **about)

    add(lambda rows, _: 1.6 * rows)
    add(lambda rows, _: rows, method="nv", settings={"tau_sigma": 0.5}, strength=0.1)
    add(lambda rows, _: rows[:, ::-1], method="nv-heads", settings={"tau_sigma": 0.7}, strength=0.1)
    add(lambda rows, _: rows, method="output-temperature", settings={"output_temperature": 1.6}, strength=0.1)
    add(
        lambda rows, of: 1.6 * rows + np.eye(CLASSES)[of],
        method="sink",
        settings={"sink_logit": 0.0},
        strength=0.1,
    )
    add(lambda rows, _: 0.2 * rows, method="low-rank", settings={"keep": 0.6}, strength=0.1)
    return run


def write_figures(page: Page, folder: Path) -> None:
    """Write a file of each form that a figure has, and nothing in it."""
    folder.mkdir()
    for name in page.figures:
        for end in DRAWN:
            (folder / f"{name}{end}").touch()


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of runs: one finished and reported, one that has not finished."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nvreg.report.writing._draw", write_figures)  # drawing is most of a report's time
        for name, examples in {"sentiment": 5, "tagging": 9}.items():
            write_report(analyse(made_run(runs / name, examples).write()))
    (runs / "finetuning").mkdir()
    return runs


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    """Committed results with a page, two experiments and one table of an earlier report."""
    real = tmp_path / "results" / "real"
    (real / "experiments").mkdir(parents=True)
    for name in ("sentiment", "stories"):
        text = f"# About {name}.\nname: {name}\nsweep: {{methods: {{nv: {{}}, prune: {{}}, sink: {{}}}}}}\n"
        (real / "experiments" / f"{name}.yaml").write_text(text)
    (real / "README.md").write_text(PAGE)
    (real / "sentiment").mkdir()
    (real / "sentiment" / "old.csv").write_text("a\n")
    return real


def rows_of(text: str) -> dict[str, list[str]]:
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line
    ]
    return {row[0]: row[1:] for row in cells}


def test_tables_and_figures_are_copied_and_nothing_else(reported: Path, committed: Path) -> None:
    inspection = reported / "sentiment" / "inspection"
    inspection.mkdir()
    (inspection / "inspect.png").write_bytes(b"of nvreg inspect")
    assert copy(reported, committed) == ["sentiment", "tagging"]
    names = {path.name for path in (committed / "sentiment").iterdir()}
    assert {"report.md", "methods.csv", "after-temperature.csv", "rivals.csv", "changes-nv.png"} <= names
    assert {Path(name).suffix for name in names} == {".md", ".csv", ".png"}
    assert not {"old.csv", "inspect.png"} & names
    assert not (committed / "finetuning").exists()


def test_the_page_says_what_softening_is_and_what_is_more(reported: Path, committed: Path) -> None:
    assert main([str(reported), str(committed)]) == 0
    page = (committed / "README.md").read_text()
    assert page.startswith("# Real\n")
    assert page.endswith("Prose.\n")
    _, table, runs = (part.partition("<!-- end -->")[0] for part in page.split("<!-- results: "))
    books = rows_of(table)["sentiment: books (out of domain)"]
    metric, pretrained, alone, nv, heads, control = books
    assert metric == "nll ↓"
    assert float(pretrained) > 0
    assert alone.startswith("-0.")
    assert abs(float(nv.split()[0])) < 1e-2
    assert heads == "keeps the pretrained model"
    assert control.startswith("sink (of 2 controls): -0.")
    assert rows_of(table)["stories"][0] == "not measured yet"
    sentiment, stories, tagging = runs.split("\n### ")[1:]
    assert "About sentiment. ([file](experiments/sentiment.yaml))" in sentiment
    assert "5 of 5 settings completed" in sentiment
    assert "Not measured yet: prune. Examples: " in sentiment
    assert "Examples: films validation 400, films test 400" in sentiment
    assert (
        "By nll after temperature, of the 2 sets out of domain, each method under its best selection: "
        "nv improves none; nv-heads improves none; output-temperature improves none; "
        "sink improves 2 (books, places).\n" in sentiment
    )
    assert "preview" not in sentiment
    assert "The sweep has not finished: this is a preview." in tagging
    assert stories == "stories\n\nAbout stories. ([file](experiments/stories.yaml))\n\nNot measured yet.\n"
    rows = rows_of(sentiment)
    assert rows["nv"][1] == "improves books, places"
    assert rows["nv"][3] == "no difference"
    assert rows["sink"][3] == "improves books, places"


def test_a_short_table_and_a_sentence_count_the_sets(reported: Path, committed: Path) -> None:
    assert in_a_sentence(committed.parent) == "Nothing is measured yet."
    copy(reported, committed)
    row = rows_of(short_table(committed.parent))["[sentiment](results/real/sentiment/report.md)"]
    assert row[0] == "nll"
    assert row[1].startswith("2 better, 0 worse of 2")
    assert row[3] == "keeps the pretrained model"
    assert row[4].startswith("sink (of 2 controls): 2 better, 0 worse of 2")
    assert in_a_sentence(committed.parent) == (
        "Dividing logits by one number improves 4 and worsens 0 of 4 pairs of a model and a test set out of "
        "domain; beyond that, nv improves 0 and worsens 0 of 4, nv-heads improves 0 and worsens 0 of 4."
    )


def test_a_set_that_nothing_can_be_chosen_for_is_not_counted() -> None:
    table = pd.DataFrame({
        "method": "nv", "protocol": "in-domain",
        "domain": ["films", "books", "places"], "score": [1.0, float("nan"), 2.0],
    })  # fmt: skip
    assert Outcome("nll", table, None).chosen(table, "nv", "in-domain") == ["places"]


@pytest.fixture
def in_two_runs(reported: Path, committed: Path) -> Path:
    """The committed tables of one run as two, with the controls in the second, and the page of one."""
    copy(reported, committed)
    one = filled(PAGE, QUOTES, committed.parent)
    (committed / "of-one-run.md").write_text(one)
    first, second = committed / "sentiment", committed / "sentiment-controls"
    shutil.copytree(first, second)
    for directory, has_controls in {first: False, second: True}.items():
        for name in ("methods.csv", "after-temperature.csv"):
            table = pd.read_csv(directory / name, dtype=str, keep_default_na=False)
            kept = table["method"].isin(["sink", "low-rank"]).eq(has_controls)
            table[kept | table["method"].eq("pretrained")].to_csv(directory / name, index=False)
    return committed


def test_controls_in_a_run_of_their_own_say_what_they_say_in_one(in_two_runs: Path) -> None:
    one = (in_two_runs / "of-one-run.md").read_text()
    two = filled(PAGE, QUOTES, in_two_runs.parent)
    added = [line for line in two.splitlines() if line not in one.splitlines()]
    assert added == [
        "sink, low-rank in a run of their own: 5 of 5 settings completed. "
        "[All tables](sentiment-controls/report.md)."
    ]
    assert [line for line in one.splitlines() if line not in two.splitlines()] == []


def test_controls_of_another_model_are_refused(in_two_runs: Path) -> None:
    path = in_two_runs / "sentiment-controls" / "methods.csv"
    table = pd.read_csv(path)
    table.loc[table["method"].eq("pretrained") & table["domain"].eq("books"), "score"] += 0.001
    table.to_csv(path, index=False)
    with pytest.raises(UserError, match=r"expected the pretrained model's scores of sentiment .* by nll"):
        read_outcome(in_two_runs / "sentiment")


@pytest.mark.usefixtures("undrawn")
def test_methods_that_are_not_measured_are_said_to_be(committed: Path, tmp_path: Path) -> None:
    run = made_run(tmp_path / "runs" / "sentiment", 5)
    del run.lines[3:]
    write_report(analyse(run.write()), ["markdown", "csv"])
    copy(tmp_path / "runs", committed)
    text = filled(PAGE, QUOTES, committed.parent)
    assert "output-temperature is not measured yet; no other control is measured yet." in text
    assert rows_of(text)["sentiment: books (out of domain)"][-1] == "not measured yet"


def test_a_run_of_the_hub_s_suite_is_named_by_its_file(reported: Path, committed: Path) -> None:
    suite = committed.parents[1] / "experiments" / "real"
    suite.mkdir(parents=True)
    (suite / "tagging.yaml").write_text("# About the hub.\nname: tagging\n")
    copy(reported, committed)
    text = filled(PAGE, QUOTES, committed.parent)
    assert "### tagging\n\nAbout the hub. ([file](../../experiments/real/tagging.yaml))\n\n5 of 9" in text


def test_the_best_selection_is_no_upper_bound_and_counts_what_worsens(
    reported: Path, committed: Path
) -> None:
    copy(reported, committed)
    outcome = read_outcome(committed / "sentiment")
    assert outcome.best_protocol("sink") != "oracle"
    assert outcome.net(outcome.plain, "sink", CHOICE) == (2, True)
    assert outcome.changed(outcome.final, "sink", CHOICE) == (["books", "places"], [])
    assert outcome.best_control() == "sink"
    assert outcome.controls == ["sink", "low-rank"]


def test_where_no_temperature_changes_the_metric_gains_are_as_they_are(
    reported: Path, committed: Path
) -> None:
    copy(reported, committed)
    report = committed / "sentiment" / "report.md"
    report.write_text(report.read_text().replace("chosen on nll;", "chosen on accuracy;"))
    outcome = read_outcome(committed / "sentiment")
    assert outcome.after is None
    assert outcome.direction == "↑"
    text = filled(PAGE, QUOTES, committed.parent)
    assert "| sentiment: books (out of domain) | accuracy ↑ |" in text
    assert "\n\nBy accuracy, of the 2 sets out of domain, each method under its best selection: nv " in text


def test_a_run_without_tables_or_with_texts_is_refused_before_anything_is_copied(
    reported: Path, committed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = Path(shutil.copytree(reported, tmp_path / "runs"))
    page = runs / "sentiment" / "tables" / "report.md"
    page.write_text(f"{page.read_text()}\n## Examples that change most (nv, in-domain)\n")
    with pytest.raises(
        UserError, match=r"expected no texts, got examples: nvreg report .* writes it without"
    ):
        copy(runs, committed)
    page.unlink()
    shutil.rmtree(runs / "tagging" / "tables")
    assert main([str(runs), str(committed)]) == 2
    assert "real: " in capsys.readouterr().err
    assert (committed / "sentiment" / "old.csv").exists()


def test_runs_that_are_not_there_are_one_line(committed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(committed / "nowhere"), str(committed)]) == 2
    assert "expected a directory of runs, got" in capsys.readouterr().err


def test_several_runs_are_told_by_scores_gains_and_findings(committed: Path) -> None:
    (committed / "tunings").mkdir()
    (committed / "tunings" / "combined.md").write_text(
        "# 2 runs\n\nText.\n\n## f1 (higher is better)\n\n- plain nv: improves y.\n\n"
        "## Would something else do?\n\n- nv against plain: improves x.\n"
    )
    numbers = "score,deviation,difference,low,high,low_reselected,high_reselected,p,p_holm,trial,setting"
    rows = [
        f"metric,run,method,protocol,domain,{numbers}",
        "f1,guided,pretrained,pretrained,x,0.5,0.02,,,,,,,,,",
        "f1,guided,pretrained,pretrained,y,0.4,0.01,,,,,,,,,",
        "f1,guided,nv,in-domain,x,0.5,0.02,0.0,-0.001,0.001,-0.001,0.001,1,1,,",
        "f1,guided,nv,in-domain,y,0.42,0.01,0.02,0.011,0.029,0.011,0.029,0.01,0.02,,",
        "nll,guided,nv,in-domain,y,9,9,9,9,9,9,9,1,1,,",
    ]
    (committed / "tunings" / "combined.csv").write_text("\n".join(rows) + "\n")
    _, first, told = filled(PAGE, QUOTES, committed.parent).split("<!-- results: ")
    assert "tunings" not in first  # it has no report of one run
    told = told.partition("### tunings\n\n")[2]
    assert told.startswith(
        "Several runs on the same data: [all tables](tunings/combined.md).\n\n"
        "| f1 | guided | nv on guided |\n| --- | --- | --- |\n"
        "| x | 0.5000 ± 0.0200 | +0.0000 {-0.0010, +0.0010} |\n"
        "| y | 0.4000 ± 0.0100 | +0.0200 {+0.0110, +0.0290} |\n\n"
        "- plain nv: improves y.\n- nv against plain: improves x.\n<!-- end -->"
    )
    assert ways_in_a_sentence(committed.parent) == (
        "[tunings](results/real/tunings/combined.md) by f1: guided 0.400; of these 1 pairs of a way and "
        "a set, nv improves 1 and worsens 0."
    )


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_the_experiments_are_valid_and_what_they_read_is_named(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    assert document["name"] == path.stem
    assert document["output"] == f"results/runs/real/{path.stem}"
    experiment = load_experiment(path)
    page = (RESULTS / "real" / "README.md").read_text()
    data = experiment.data
    for domain in (data.in_domain, *data.out_of_domain):
        assert domain.name in page
        for source in filter(None, (domain.validation, domain.test)):
            assert source.files.startswith(str(RESULTS.parent / "data" / "text"))
    assert (experiment.sweep.sampler, experiment.sweep.trials) == ("random", TRIALS.get(path.stem, 30))
    assert path.stem in page


@pytest.mark.parametrize("path", TUNINGS, ids=lambda path: path.stem)
def test_the_fine_tunings_are_valid(path: Path) -> None:
    finetuning = load_finetuning(path)
    assert finetuning.name == path.stem
    is_tagger = not path.stem.startswith("dialogsum")
    assert path.stem.endswith(finetuning.method) == is_tagger
    assert finetuning.training.seeds == ([1, 2, 3] if is_tagger else [1])
