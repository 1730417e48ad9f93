"""What every task declares, and that a new one is a class and one line."""

import json
import subprocess
import sys
from dataclasses import dataclass

import pandas as pd
import pytest

from nvreg.data import Examples, pad
from nvreg.errors import UserError
from nvreg.experiment import load_experiment
from nvreg.sweep.runner import run_sweep
from nvreg.tasks import TASKS, Task
from nvreg.testing import check_task
from tests.tasks.test_not_finite import MODELS

SIZES = ["bits-per-byte", "byte-perplexity", "word-perplexity"]
LIKELIHOOD = ["nll", "perplexity", "bits-per-character", *SIZES]
GENERATED = ["bleu", "chrf", "rouge1", "rouge2", "rougeL", "rougeLsum", "length-ratio", "overlap"]


def test_tasks_supply_metrics():
    assert {name: task.metrics() for name, task in TASKS.items()} == {
        "translation": LIKELIHOOD + GENERATED,
        "summarisation": LIKELIHOOD + GENERATED,
        "language-modelling": LIKELIHOOD,
        "classification": ["nll", "accuracy", "macro-f1", "ece", "brier"],
        "token-classification": ["nll", "accuracy", "macro-f1", "f1", "ece", "brier"],
        "multiple-choice": ["nll", "accuracy", "ece", "brier"],
    }
    assert all(name == task.name for name, task in TASKS.items())


def test_tasks_say_whether_they_are_trained():
    trainable = [name for name, task in TASKS.items() if task.trainable]
    others = ["summarisation", "language-modelling", "classification", "token-classification"]
    assert trainable == ["translation", *others]


@pytest.mark.parametrize(
    ("task", "name", "listed"),
    [
        ("classification", "perplexity", "nll, accuracy, macro-f1, ece, brier"),
        (
            "language-modelling",
            "bleu",
            ", ".join(LIKELIHOOD),
        ),
        ("multiple-choice", "macro-f1", "nll, accuracy, ece, brier"),
        ("translation", "blue", "nll, .*rougeLsum, length-ratio, overlap"),
    ],
)
def test_metric_that_a_task_does_not_supply_is_refused_with_those_that_it_does(task, name, listed):
    with pytest.raises(UserError, match=rf"^evaluation.metrics: .*{listed} with task {task}, .*'{name}'"):
        TASKS[task].check_metrics(["nll", name])


def test_the_columns_that_a_task_reads_are_among_those_that_a_file_may_name():
    assert {name: list(task.columns) for name, task in TASKS.items()} == {
        "translation": ["source", "target"],
        "summarisation": ["document", "summary"],
        "language-modelling": ["text"],
        "classification": ["text", "premise", "hypothesis", "label"],
        "token-classification": ["tokens", "tags"],
        "multiple-choice": ["context", "choices", "label"],
    }


def test_a_task_is_declared_without_importing_what_is_slow():
    code = (
        "import sys, nvreg.tasks; list(nvreg.tasks.TASKS.values());"
        "sys.exit(bool({'torch', 'transformers', 'rouge_score', 'seqeval', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", MODELS)
def test_a_task_keeps_its_promises(name):
    model, _, task, records = MODELS[name]()
    check_task(task, model, records)


@pytest.mark.parametrize("name", MODELS)
def test_a_task_says_what_it_scores_in_batches(name):
    model, _, task, records = MODELS[name]()
    encoded = task.encode(Examples([dict(record) for record in records]))
    lengths = task.rehearse(model, encoded, lambda lengths, run: list(lengths))
    assert lengths == task.lengths(encoded)
    assert len(lengths) >= len(records)


class FirstToken(Task):
    """A toy: how likely a decoder finds the first token of a target, whatever comes after it."""

    name = "first-token"
    auto_class = "AutoModelForSeq2SeqLM"
    groups = frozenset({"likelihood"})
    without = frozenset({"bits-per-character"})
    columns = ("source", "target")
    likelihood = "scored:first-token"

    def encode(self, examples):
        return Encoding([self._tokenizer(record["source"]).input_ids for record in examples.records])

    def batch(self, encoded, indices):
        rows = pad([encoded.tokens[index] for index in indices], 0)
        return {"input_ids": rows, "attention_mask": (rows != 0).long(), "labels": rows[:, :1]}

    def teacher_forced(self, encoded):
        yield self.batch(encoded, range(len(encoded.tokens)))

    def score(self, model, encoded, *, encoder_states=None):
        nats = [model(**self.batch(encoded, [index])).loss.item() for index in range(len(encoded.tokens))]
        return pd.DataFrame({"id": range(len(nats)), "likelihood": [[nat, 1.0, 0.0] for nat in nats]})


@dataclass
class Encoding:
    tokens: list[list[int]]
    truncated: int = 0


def test_a_new_task_is_a_class_and_one_line(tiny_experiment, tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "first-token", FirstToken)
    overrides = ["task=first-token", "evaluation.metrics=[perplexity]", f"output={tmp_path / 'run'}"]
    experiment = load_experiment(tiny_experiment, [*overrides, "sweep.trials=1"])
    outcome = run_sweep(experiment, quiet=True)
    assert (outcome.completed, outcome.failed) == (2, 0)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["metrics"] == {"perplexity": "exp:nll|scored:first-token"}
    with pytest.raises(UserError, match=r"some of nll, perplexity with task first-token"):
        load_experiment(tiny_experiment, [*overrides, "evaluation.metrics=[bits-per-character]"])


def test_an_unknown_task_lists_those_that_exist(tiny_experiment):
    with pytest.raises(UserError, match=r"task: expected one of translation.*did you mean 'summarisation'"):
        load_experiment(tiny_experiment, ["task=summarization"])
