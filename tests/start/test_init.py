"""Files that nvreg init writes, of every task and from whatever there is, and what it cannot tell."""

import gzip
import json
import random
from pathlib import Path

import datasets
import pytest
import typer

from nvreg.config.yaml import read_yaml
from nvreg.data.formats import matching_files
from nvreg.errors import UserError
from nvreg.experiment import load_experiment
from nvreg.models.loading import load_model
from nvreg.start.domains import find_domains
from tests.cli.running import run
from tests.tiny import LEXICON, TAGS, tiny_model, word_tokenizer, write_corpus

SPLITS = ("train", "validation", "test")


def words(count: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(list(LEXICON), k=count))


def records(task: str, seed: int, count: int = 12) -> list[dict]:
    """Records of a task, under names that people have for its columns."""
    made = []
    for number in range(seed, seed + count):
        text = words(3 + number % 5, number)
        match task:
            case "classification":
                made.append({"sentence": text, "id": str(number), "sentiment": ("good", "bad")[number % 2]})
            case "token-classification":
                made.append(
                    {"words": text.split(), "ner_tags": [TAGS[len(each) % 3] for each in text.split()]}
                )
            case "multiple-choice":
                made.append(
                    {"question": text, "options": [words(2, number), words(3, number)], "answer": number % 2}
                )
            case "language-modelling":
                made.append({"title": text[:5], "content": text})
    return made


def write(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def subject(request, place) -> str:
    """A tiny model of a task with data of two domains, in the working directory."""
    task = request.param
    tokenizer = word_tokenizer()
    for part in (tokenizer, tiny_model(task, len(tokenizer))):
        part.save_pretrained(place / "model")
    for number, split in enumerate(SPLITS):
        write(place / f"home/{split}.jsonl", records(task, 100 * number))
    write(place / "away/dev.jsonl", records(task, 400))
    write(place / "away/test.jsonl", records(task, 500))
    return task


def init(*arguments: object):
    return run(
        "init", "model", "--in-domain", "home", "--out-of-domain", "away", "--output", "my.yaml", *arguments
    )


COLUMNS = {
    "classification": {"text": "sentence", "label": "sentiment"},
    "token-classification": {"tokens": "words", "tags": "ner_tags"},
    "multiple-choice": {"context": "question", "choices": "options", "label": "answer"},
    "language-modelling": {"text": "content"},
}
METRIC = {"token-classification": "f1", "language-modelling": "bits-per-character"}


@pytest.mark.parametrize("subject", COLUMNS, indirect=True)
def test_of_every_task_the_file_is_one_that_a_dry_run_accepts(subject):
    written = init()
    assert written.exit_code == 0, written.output
    assert "written to my.yaml; run it with: nvreg sweep --config my.yaml" in written.stdout
    text = Path("my.yaml").read_text()
    assert text.startswith("# Written by: nvreg init model --in-domain home --out-of-domain away\n")
    assert "# On this machine: about " in text
    assert read_yaml(text)["data"]["in_domain"]["train"] == {"files": "home/train.jsonl"}
    experiment = load_experiment("my.yaml")
    assert (experiment.task, experiment.data.columns) == (subject, COLUMNS[subject])
    assert experiment.output == "results/my"
    assert experiment.data.out_of_domain[0].validation.files == str(Path("away/dev.jsonl").absolute())
    assert experiment.selection.metric == METRIC.get(subject, "accuracy")
    assert list(experiment.sweep.methods) == ["nv", "nv-heads", "output-temperature"]
    tried = run("sweep", "--config", "my.yaml", "--dry-run")
    assert tried.exit_code == 0, tried.output
    assert "trials      91," in tried.stdout


@pytest.mark.parametrize("subject", ["classification"], indirect=True)
def test_a_file_that_is_there_is_left_alone(subject):
    Path("my.yaml").write_text("mine")
    refused = init()
    assert refused.exit_code == 2
    assert "expected a new file, got my.yaml, which is there already" in refused.stderr
    assert Path("my.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("task", "column"), [((), "summary"), (("--task", "translation"), "target")], ids=["told", "given"]
)
def test_references_that_are_blank_are_refused(translator, task, column):
    for path in (*Path("home").iterdir(), *Path("away").iterdir()):
        write(path, [{"en": "a cat", "de": ""}] * 6)
    columns = () if column == "summary" else ("--set", "data.columns={source: en, target: de}")
    refused = init(*task, *columns)
    assert refused.exit_code == 2, refused.stderr
    assert f"expected text in the column '{column}', got blank records alone" in refused.stderr


def test_a_place_that_cannot_be_written_to_is_named_before_the_work(translator):
    (translator / "notes.txt").write_text("mine")
    refused = run(
        *("init", "model", "--in-domain", "home", "--out-of-domain", "away"),
        *("--output", "notes.txt/my.yaml"),
    )
    assert refused.exit_code == 2
    (line,) = refused.stderr.splitlines()
    assert "expected a place that can be written to, got notes.txt/my.yaml" in line


@pytest.mark.parametrize("subject", ["classification"], indirect=True)
def test_labels_of_other_names_are_told_by_how_they_begin_or_asked_for(subject, monkeypatch):
    names = {"good": "go", "bad": "awful"}
    for path in Path("home").iterdir():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        write(path, [row | {"sentiment": names[row["sentiment"]]} for row in rows])
    refused = init()
    assert refused.exit_code == 2
    assert "expected the labels good, bad, got 'awful'; say which class each label is with" in refused.stderr
    assert not Path("my.yaml").exists()
    given = init("--set", "data.labels={go: good, awful: bad}")
    assert given.exit_code == 0, given.output
    assert load_experiment("my.yaml").data.labels == {"go": "good", "awful": "bad"}
    assert "# given" in Path("my.yaml").read_text()

    monkeypatch.setattr("nvreg.cli.init.asker", lambda: terminal)
    asked = []

    def terminal(question, choices):
        asked.append(question)
        return "bad"

    Path("my.yaml").unlink()
    assert init().exit_code == 0
    assert asked == ["Which class of the model is the label 'awful'?"]
    assert load_experiment("my.yaml").data.labels == {"go": "good", "awful": "bad"}


def test_a_question_is_asked_again_until_its_answer_is_one_of_those_offered(monkeypatch, capsys):
    from nvreg.cli.options import asker

    answers = iter(["ugly", "bad"])
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": staticmethod(lambda: True)})())
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: next(answers))
    assert asker()("Which?", ["good", "bad"]) == "bad"
    assert "expected one of good, bad, got 'ugly'" in capsys.readouterr().err


FAST = ("--set", "evaluation.metrics=[nll]", "--set", "selection.metric=nll")
"""Nothing is generated: an untrained model does not stop."""


@pytest.fixture
def translator(tiny_experiment, place) -> Path:
    write_corpus(place)
    (place / "model").symlink_to(tiny_experiment.parent / "model")
    return place


def test_the_source_is_the_text_after_which_the_model_finds_the_other_likelier(translator):
    written = init(*FAST)
    assert written.exit_code == 0, written.output
    experiment = load_experiment("my.yaml")
    assert experiment.task == "translation"
    assert experiment.data.columns == {"source": "en", "target": "de"}
    assert "as the model finds de after en likelier than the reverse" in Path("my.yaml").read_text()


@pytest.mark.parametrize(
    "shape",
    [
        "one file",
        pytest.param("parallel text", marks=pytest.mark.slow),
        "no validation",
        pytest.param("a validation set alone", marks=pytest.mark.slow),
    ],
)
def test_what_is_missing_is_a_part_of_what_is_there(translator, shape):
    home, rows = translator / "home", []
    for split in SPLITS:
        rows += [json.loads(line) for line in (home / f"{split}.jsonl").read_text().splitlines()]
    if shape == "no validation":
        (home / "validation.jsonl").unlink()
        expected = {"validation": [0, 0.33], "test": [0.33, 1]}
    else:
        for path in home.iterdir():
            path.unlink()
        if shape == "parallel text":
            for language in ("en", "de"):
                (home / f"train.{language}").write_text("".join(f"{row[language]}\n" for row in rows))
        else:
            write(home / ("validation.jsonl" if shape == "a validation set alone" else "all.jsonl"), rows)
        expected = {"train": [0, 0.4], "validation": [0.4, 0.6], "test": [0.6, 1]}
    columns = () if shape == "parallel text" else ("--set", "data.columns={source: en, target: de}")
    written = init(*columns, *FAST)
    assert written.exit_code == 0, written.output
    data = read_yaml(Path("my.yaml").read_text())["data"]
    assert {split: data["in_domain"][split].get("part") for split in SPLITS} == {
        split: expected.get(split) for split in SPLITS
    }
    if shape == "parallel text":
        assert data["in_domain"]["test"]["source_file"] == "home/train.de"  # the first by name
    assert "which the other splits have not" in Path("my.yaml").read_text()
    assert run("sweep", "--config", "my.yaml", "--dry-run").exit_code == 0


def test_domains_may_follow_each_other_and_have_different_names(translator):
    write(translator / "more/away.jsonl", [{"en": "a cat", "de": "ein Kater"}] * 6)
    written = run(
        "init", "model", "--in-domain", "home", "--out-of-domain", "away", "more/away.jsonl", "--quiet", *FAST
    )
    assert written.exit_code == 0, written.output
    assert "looking at the data" not in written.stderr
    experiment = load_experiment("model.yaml")
    assert [domain.name for domain in experiment.data.out_of_domain] == ["away", "away-2"]
    assert experiment.data.out_of_domain[1].validation.part == [0, 0.33]
    assert "leave-one-domain-out" in experiment.selection.protocols


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--in-domain", "nowhere"], "nowhere: expected a file, a directory with files for training"),
        (
            ["--in-domain", "model"],
            "model: expected files called train.*, validation.* and test.*, got config.json",
        ),
        (["--in-domain", "hub:nobody/nothing"], "nobody/nothing: expected a data set of the hub"),
        (["--in-domain", "hub:"], "expected hub:NAME or hub:NAME:CONFIG of a data set, got 'hub:'"),
        (["--task", "translating"], "task: expected one of translation, summarisation"),
        (
            ["--task", "classification"],
            "expected a Hugging Face checkpoint with weights in model",
        ),
        (["--set", "data.columns.target=fr"], "expected a column 'fr', got"),
        (["--set", "sweep.sampler=tpee"], "sweep.sampler: expected one of grid, random, tpe"),
    ],
)
def test_what_cannot_be_had_is_one_line(translator, arguments, said):
    refused = run("init", "model", "--in-domain", "home", "--out-of-domain", "away", *arguments)
    assert refused.exit_code == 2
    assert said in refused.stderr.splitlines()[-1]
    assert not list(translator.glob("*.yaml"))


def test_a_data_set_laid_out_as_on_the_hub_needs_no_network(translator):
    asked = (
        f"hub:{translator / 'home'}",
        f"hub:{translator / 'away'}",
    )
    written = run(
        "init", "model", "--in-domain", asked[0], "--out-of-domain", asked[1], "--output", "my.yaml", *FAST
    )
    assert written.exit_code == 0, written.output
    data = read_yaml(Path("my.yaml").read_text())["data"]
    assert data["in_domain"]["train"] == {"hub": str(translator / "home"), "split": "train"}
    assert data["columns"] == {"source": "en", "target": "de"}


def test_a_directory_that_datasets_saved_is_looked_at_by_its_splits(tmp_path):
    rows = [{"en": "a cat", "de": "ein Kater"}, {"en": "a dog", "de": "ein Hund"}] * 5
    whole = datasets.Dataset.from_list(rows)
    whole.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": whole, "validation": whole, "test": whole}).save_to_disk(
        str(tmp_path / "all")
    )
    ours, (other,) = find_domains(str(tmp_path / "all"), [str(tmp_path / "one")])
    assert ours.sources["validation"] == {"files": str(tmp_path / "all"), "split": "validation"}
    assert other.sources["test"]["files"] == str(tmp_path / "one")
    assert ours.first.rows == 10
    assert list(ours.first.columns) == ["en", "de"]


@pytest.mark.parametrize(
    ("folder", "names", "others"),
    [
        ("home", ["test.1.jsonl", "test.2.jsonl"], []),
        ("home [1]", ["test-1.jsonl", "test-2.jsonl"], []),
        ("home", ["test-1.jsonl", "test-2.jsonl"], ["tests.jsonl"]),
        ("home", ["test-1.csv.gz", "test-2.csv"], []),
    ],
)
def test_all_files_of_a_split_are_read_and_no_others(folder, names, others, tmp_path):
    for number, name in enumerate([*names, *others, "train.jsonl", "dev.jsonl"]):
        text = f"text\na cat\na dog {number}\n" if ".csv" in name else '{"text": "a cat"}\n' * 2
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    ours, _ = find_domains(str(tmp_path / folder), [])
    assert matching_files(ours.sources["test"]["files"]) == [str(tmp_path / folder / name) for name in names]
    assert ours.looks["test"].rows == 4


def test_files_of_a_split_that_no_glob_has_together_are_refused(tmp_path):
    for name in ("Test-1.jsonl", "test-2.jsonl", "train.jsonl"):
        write(tmp_path / name, [{"text": "a cat"}] * 2)
    with pytest.raises(UserError, match="expected one file for test, several of one format"):
        find_domains(str(tmp_path), [])


@pytest.mark.slow
def test_on_real_checkpoints(shared, place):
    """The tasks, columns and directions of the real checkpoints are told."""
    data = shared / "data"
    for model, domains, task, columns in (
        (
            "marian-tatoeba-en-de",
            ["translation/tatoeba", "translation/ted"],
            "translation",
            {"source": "en", "target": "de"},
        ),
        (
            "minilm-sst2",
            ["classification/sst2", "classification/yelp", "classification/books"],
            "classification",
            {},
        ),
        (
            "gpt2-wikitext2",
            ["language-modelling/wikitext2", "language-modelling/biomed"],
            "language-modelling",
            {},
        ),
        ("stories260k", ["language-modelling/stories", "translation/captions"], "language-modelling", {}),
    ):
        ours, *others = (data / each for each in domains)
        path = shared / "models" / model
        written = run(
            "init", path, "--in-domain", ours, "--out-of-domain", *others, "--output", f"{model}.yaml"
        )
        assert written.exit_code == 0, written.output
        experiment = load_experiment(f"{model}.yaml")
        assert (experiment.task, experiment.data.columns) == (task, columns)
        assert load_model(experiment.model.path)
