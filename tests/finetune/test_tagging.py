"""Fine-tuning, and Fisher scores, for token-classification."""

import json
import math
import re

import pytest
from seqeval.metrics import f1_score
from transformers import AutoModelForTokenClassification

from nvreg.errors import UserError
from nvreg.finetune.bench import open_bench
from nvreg.finetune.fisher import estimate_fisher
from nvreg.finetune.text import Columns, Text, fisher_of_file
from nvreg.finetune.training import run_finetuning
from nvreg.models.loading import load_model, load_tokenizer
from nvreg.progress import Progress
from tests.cli.running import run
from tests.finetune.conftest import TAGGING

NAMES = ["B-pet", "B-place", "I-pet", "O"]
QUIET = Progress(quiet=True)


def best_of(directory):
    return json.loads((directory / "training.json").read_text())["best"]


def records_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("kind", "method"),
    [*(("bert", method) for method in ("plain", "head-only", "mvcr", "guided-dropout")), ("gpt2", "plain")],
)
def test_f1_of_a_fine_tuned_checkpoint_is_seqevals(load, workshop, kind, method):
    stopping = (
        "training={epochs: 6, batch_size: 2, learning_rate: 0.02, precision: float32, early_stopping: f1}"
    )
    (directory,) = run_finetuning(load(kind, method, *TAGGING, stopping), quiet=True)
    model, tokenizer = AutoModelForTokenClassification.from_pretrained(directory), load_tokenizer(directory)
    assert [model.config.id2label[number] for number in range(4)] == NAMES
    right, predicted = [], []
    for record in records_of(workshop / "validation.jsonl"):
        encoding = tokenizer(record["words"], is_split_into_words=True, return_tensors="pt")
        encoding.pop("token_type_ids", None)
        logits = model.eval()(**encoding).logits[0, : len(record["words"])]  # a piece a word
        right.append(record["tags"])
        predicted.append([NAMES[number] for number in logits.argmax(-1)])
    assert best_of(directory)["f1"] == pytest.approx(f1_score(right, predicted))
    assert best_of(directory)["f1"] > (0.1 if method == "head-only" else 0.5)


def test_tags_may_be_renamed_and_a_checkpoint_that_knows_them_keeps_its_head(load, tmp_path):
    renamed = "data.labels={B-place: B-pet}"
    finetuning = load("bert", "plain", *TAGGING, renamed, "training.epochs=1")
    (directory,) = run_finetuning(finetuning, quiet=True)
    assert load_model(directory).config.id2label == {0: "B-pet", 1: "I-pet", 2: "O"}
    again = open_bench(load("bert", "plain", *TAGGING, renamed, f"model.path={directory}"))
    assert again.classes is None
    assert open_bench(load("bert", "plain", *TAGGING, f"model.path={directory}")).classes == NAMES


def test_an_example_without_a_scored_word_teaches_nothing(load, workshop, tmp_path):
    """Its loss would be no number."""
    blank = {"words": [" "], "tags": ["O"]}
    path, nothing = tmp_path / "train.jsonl", tmp_path / "nothing.jsonl"
    path.write_text((workshop / "train.jsonl").read_text() + json.dumps(blank) + "\n")
    nothing.write_text("\n".join(json.dumps({**blank, "tags": [tag]}) for tag in NAMES))
    train = f"data.in_domain.train.files={path}"
    bench = open_bench(load("bert", "plain", *TAGGING, train))
    assert (bench.splits["train"].examples, list(bench.taught)) == (13, list(range(12)))
    finetuning = load("bert", "plain", *TAGGING, train, "training.batch_size=1", "training.epochs=1")
    (directory,) = run_finetuning(finetuning, quiet=True)
    assert json.loads((directory / "training.json").read_text())["steps"] == 12
    with pytest.raises(
        UserError, match=r"home train in .*nothing.jsonl: expected text in the column 'tokens', got 4 blank"
    ):
        open_bench(load("bert", "plain", *TAGGING, f"data.in_domain.train.files={nothing}"))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"words": ["a"], "tags": ["B-tree"]},
            "home validation, record 1: .*got B-tree; say under data.labels",
        ),
        ({"words": ["a", "a"], "tags": ["O"]}, "odd.jsonl, record 1: expected a tag for every token, got 2 "),
    ],
)
def test_a_mistake_in_tags_is_one_line_and_exit_code_2(workshop, tmp_path, record, message):
    (tmp_path / "odd.jsonl").write_text(json.dumps(record) + "\n")
    overrides = [*TAGGING, f"data.in_domain.validation.files={tmp_path / 'odd.jsonl'}"]
    options = [part for override in overrides for part in ("--set", override)]
    result = run(
        "finetune", "--config", workshop / "bert.yaml", "--output", tmp_path / "tuned", "--quiet", *options
    )
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert re.search(message, result.stderr)


@pytest.fixture
def tagger(load):
    """A checkpoint with a head for tags and the pretrained body."""
    (directory,) = run_finetuning(load("bert", "head-only", *TAGGING, "training.epochs=1"), quiet=True)
    return directory


def test_fisher_scores_have_a_loss_of_tags(tagger, workshop, tmp_path):
    columns = Columns("words", tag="tags")
    fisher = fisher_of_file(
        str(tagger), tmp_path / "fisher.json", workshop / "train.jsonl", columns, limit=5, progress=QUIET
    )
    assert (fisher.loss, fisher.sequences) == ("token-classification", 5)
    assert all(math.isfinite(score) and score > 0 for score in fisher.scores.values())
    # The body is the pretrained one, so that these scores serve its fine-tuning.
    fisher.check(load_model(workshop / "bert"))


def test_fisher_scores_of_a_conll_file_are_those_of_lists(tagger, workshop, tmp_path):
    records = records_of(workshop / "train.jsonl")
    with (tmp_path / "train.conll").open("w") as file:
        for record in records:
            words = zip(record["words"], record["tags"], strict=True)
            file.write("".join(f"{word}\tX\t{tag}\n" for word, tag in words) + "\n")
    scores = []
    for path, columns in (
        (workshop / "train.jsonl", ("words", "tags")),
        (tmp_path / "train.conll", ("0", "2")),
        (tmp_path / "train.conll", ("0", "-1")),
    ):
        out = tmp_path / "fisher.json"
        options = ("--column", columns[0], "--tag-column", columns[1], "--limit", 4, "--quiet")
        result = run("fisher", tagger, out, "--data", path, *options)
        assert result.exit_code == 0, result.output
        scores.append(json.loads(out.read_text()))
    assert scores[0] == scores[1] == scores[2]
    result = run("fisher", tagger, out, "--data", path, "--column", "0", "--label-column", "2", *options[2:])
    assert result.exit_code == 2
    assert "expected one of --target-column, --label-column and --tag-column, got several" in result.stderr


def test_examples_without_a_scored_word_are_left_out_of_fisher_scores(tagger, workshop, tmp_path):
    lines = (workshop / "train.jsonl").read_text().splitlines()[:3]
    blank = json.dumps({"words": [" "], "tags": ["O"]})
    (tmp_path / "some.jsonl").write_text("\n".join(lines))
    (tmp_path / "more.jsonl").write_text("\n".join([blank, *lines, blank]))
    model, tokenizer = load_model(tagger), load_tokenizer(tagger)
    some, more = (
        Text(model, tokenizer, tmp_path / name, Columns("words", tag="tags"))
        for name in ("some.jsonl", "more.jsonl")
    )
    expected, got = (
        estimate_fisher(model, text.sequences, text.examples, loss=text.loss, data="")
        for text in (some, more)
    )
    assert got == expected
