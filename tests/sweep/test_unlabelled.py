"""Choosing by texts alone: files without labels, labels that are there and not read, and other tasks."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, set_seed

from nvreg import UserError
from nvreg.experiment import load_experiment
from nvreg.report.analysis import analyse
from nvreg.report.reading import Run, read_run
from nvreg.report.selection import Arm, choose, choose_trial, chosen_numbers
from nvreg.report.temperature import tempered
from nvreg.report.unlabelled import estimated_accuracy
from nvreg.report.writing import write_report
from nvreg.sweep.runner import run_sweep
from tests.tiny import LEXICON, word_tokenizer

EXPERIMENT = """
name: unlabelled
task: classification
model: {path: model, device: cpu}
data:
  in_domain:
    name: home
    train:      {files: home-train.jsonl}
    validation: {files: home-validation.jsonl}
    test:       {files: home.jsonl}
  out_of_domain:
    - {name: away, validation: {files: away-validation.jsonl}, test: {files: away.jsonl}}
    - {name: afar, validation: {files: afar-validation.jsonl}, test: {files: afar.jsonl}}
    - {name: tested, test: {files: afar.jsonl}}
sweep:
  sampler: random
  trials: 6
  space: {tau_sigma: [0.2, 1.5], prior_weight: [0.05, 0.5]}
evaluation: {metrics: [accuracy, macro-f1, ece, brier, nll]}
selection:
  metric: accuracy
  protocols: [in-domain, leave-one-domain-out, out-of-domain-validation, unlabelled, oracle]
output: output
"""
NAMES = ("good", "bad")


def write(path: Path, texts, labels) -> None:
    """Write a set, and the same as sets to train and to validate on."""
    records = [
        {"text": text, **({} if label is None else {"label": label})}
        for text, label in zip(texts, labels, strict=True)
    ]
    for name in (path.stem, f"{path.stem}-train", f"{path.stem}-validation"):
        path.with_stem(name).write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture(scope="module")
def texts():
    words, generator = list(LEXICON), torch.Generator().manual_seed(0)
    lengths = {"home": (4, 40), "away": (9, 30), "afar": (2, 25)}
    return {
        name: [
            " ".join(words[i] for i in torch.randint(len(words), (length,), generator=generator))
            for _ in range(count)
        ]
        for name, (length, count) in lengths.items()
    }


@pytest.fixture(scope="module")
def directory(texts, tmp_path_factory) -> Path:
    """A model and the labels of its in-domain texts, most of which it gets right."""
    directory = tmp_path_factory.mktemp("unlabelled")
    tokenizer = word_tokenizer()
    set_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    model = BertForSequenceClassification(
        BertConfig(vocab_size=len(tokenizer), id2label=dict(enumerate(NAMES)), **sizes)
    ).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(4)
    for part in (tokenizer, model):
        part.save_pretrained(directory / "model")
    with torch.no_grad():
        predicted = [
            NAMES[model(**tokenizer(text, return_tensors="pt")).logits.argmax().item()]
            for text in texts["home"]
        ]
    wrong = [NAMES[name == "good"] for name in predicted]
    write(directory / "home.jsonl", texts["home"], wrong[:9] + predicted[9:])
    (directory / "experiment.yaml").write_text(EXPERIMENT)
    return directory


def swept(directory: Path, texts, labels, output: Path, *changes: str) -> Path:
    """Sweep with these labels out of domain: a list of them, or None for files without the column."""
    for name in ("away", "afar"):
        count = len(texts[name])
        write(directory / f"{name}.jsonl", texts[name], labels[:count] if labels else [None] * count)
    overrides = [f"output={output}", *changes]
    completed = run_sweep(load_experiment(directory / "experiment.yaml", overrides), quiet=True)
    assert completed == (7, 0, 0)
    return output


@pytest.fixture(scope="module")
def runs(directory, texts, tmp_path_factory) -> dict[str, Path]:
    outputs = tmp_path_factory.mktemp("outputs")
    labels = [NAMES[place % 3 == 0] for place in range(40)]
    return {
        "labelled": swept(directory, texts, labels, outputs / "labelled"),
        "swapped": swept(directory, texts, [NAMES[name == "good"] for name in labels], outputs / "swapped"),
        "unlabelled": swept(directory, texts, None, outputs / "unlabelled"),
    }


ARM = Arm("nv", 0)


def test_labels_out_of_domain_have_no_part_in_the_choice(runs):
    read = {name: read_run(output) for name, output in runs.items()}
    chosen = {name: chosen_numbers(run, ARM, "unlabelled") for name, run in read.items()}
    assert chosen["labelled"] == chosen["swapped"] == chosen["unlabelled"]
    assert {domain: len(numbers) for domain, numbers in chosen["unlabelled"].items()} == {
        "home": 2, "away": 1, "afar": 1, "tested": 0
    }  # fmt: skip
    by_labels = [chosen_numbers(read[name], ARM, "out-of-domain-validation") for name in read]
    assert by_labels[0] != by_labels[1]
    picks = [analyse(output).choices[ARM]["unlabelled"]["away"] for output in runs.values()]
    for pick in picks[1:]:
        assert (pick.redrawn[0] == picks[0].redrawn[0]).all()


def test_nothing_that_labels_out_of_domain_decide_is_read(runs, monkeypatch):
    """What the protocol looks at of a set out of domain are the log-probabilities of its texts' classes."""

    def guarded(name):
        read = getattr(Run, name)

        def guard(self, number, domain, split, *arguments, **options):
            assert (domain, split) == ("home", "validation"), name
            return read(self, number, domain, split, *arguments, **options)

        monkeypatch.setattr(Run, name, guard)

    for name in ("score", "statistics", "resampled", "likelihoods", "examples"):
        guarded(name)
    run = read_run(runs["labelled"])
    choices = {ARM: choose(run, ARM, ["unlabelled"])}
    assert set(choices[ARM]["unlabelled"]) == {"home", "away", "afar"}
    for pick in tempered(run, choices)[ARM]["unlabelled"].values():
        assert len(pick.redrawn) == len(pick.redrawn_temperatures) > 0
    with pytest.raises(AssertionError):
        choose(run, ARM, ["out-of-domain-validation"])


def test_it_is_the_setting_whose_estimated_accuracy_is_the_highest(runs):
    run = read_run(runs["unlabelled"])
    for domain in ("away", "afar"):
        estimates = {
            number: float(estimated_accuracy(run, number, [domain])[domain]) for number in run.trials
        }
        (chosen,) = chosen_numbers(run, ARM, "unlabelled")[domain]
        assert estimates[chosen] == max(estimates.values())
        assert len(set(estimates.values())) > 1
    assert choose_trial(runs["unlabelled"], "unlabelled", domain="away").trial.number in run.trials


@pytest.mark.usefixtures("undrawn")
def test_what_needs_labels_is_not_applicable_without_them(runs):
    output = runs["unlabelled"]
    trials = [json.loads(line) for line in (output / "trials.jsonl").read_text().splitlines()]
    for trial in trials:
        assert all(math.isnan(float(value)) for value in trial["metrics"]["away"]["test"].values())
        assert all(math.isfinite(float(value)) for value in trial["metrics"]["home"]["test"].values())
    text = write_report(analyse(output), examples=2)
    scores = pd.read_csv(output / "tables" / "scores.csv")
    assert scores.loc[scores["domain"] != "home", "score"].isna().all()
    assert scores.loc[scores["domain"] == "home", "score"].notna().any()
    assert "n/a" in text
    assert "or no labels to score by" in text
    assert "\nunlabelled goes by the accuracy on the validation texts that confidences let expect" in text
    others = ("leave-one-domain-out", "out-of-domain-validation", "oracle")
    run = read_run(output)
    for protocol in others:
        assert not any(chosen_numbers(run, ARM, protocol).values())


def test_labelled_and_unlabelled_sets_stand_side_by_side(directory, texts, tmp_path):
    write(directory / "away.jsonl", texts["away"], ["good"] * len(texts["away"]))
    write(directory / "afar.jsonl", texts["afar"], [None] * len(texts["afar"]))
    changes = [f"output={tmp_path / 'output'}", "sweep.sampler=tpe", "sweep.racing={after: 10}"]
    run_sweep(load_experiment(directory / "experiment.yaml", changes), quiet=True)
    run = read_run(tmp_path / "output")
    assert run.domains_with("test") == ["home", "away"]
    columns = {name: bool(chosen_numbers(run, ARM, "unlabelled")[name]) for name in run.out_of_domain}
    assert columns == {"away": True, "afar": True, "tested": False}
    columns = {name: bool(chosen_numbers(run, ARM, "oracle")[name]) for name in run.out_of_domain}
    assert columns == {"away": True, "afar": False, "tested": False}
    write_report(analyse(tmp_path / "output"), ())


def test_a_file_without_labels_is_refused_where_they_are_asked_for(directory, texts, tmp_path):
    for name in ("away", "afar"):
        write(directory / f"{name}.jsonl", texts[name], [None] * len(texts[name]))
    output = f"output={tmp_path / 'output'}"
    for change in (
        "selection.protocols=[in-domain]",  # nothing chooses without labels
        "data.out_of_domain.0.validation.columns={label: label}",  # the source says that it has them
    ):
        with pytest.raises(UserError, match="expected a column 'label', got text"):
            run_sweep(load_experiment(directory / "experiment.yaml", [output, change]), quiet=True)
    write(directory / "home2.jsonl", texts["home"], [None] * len(texts["home"]))
    change = f"data.in_domain.validation.files={directory / 'home2.jsonl'}"
    with pytest.raises(UserError, match=r"home2.*expected a column 'label', got text"):
        run_sweep(load_experiment(directory / "experiment.yaml", [output, change]), quiet=True)


@pytest.mark.parametrize(
    ("labels", "protocols"),
    [
        (["POISON"] * 40, ["in-domain", "in-domain-tolerance", "unlabelled", "oracle"]),
        ([-1] * 40, ["unlabelled"]),
        ([-1] * 40, ["leave-one-domain-out", "out-of-domain-validation", "unlabelled", "oracle"]),
    ],
)
def test_labels_that_nothing_chooses_by_are_not_read(
    directory, texts, runs, labels, protocols, tmp_path, capsys
):
    for name in ("away", "afar"):
        count = len(texts[name])
        write(directory / f"{name}.jsonl", texts[name], labels[:count])
        if "POISON" in labels:  # those of test sets are what the tables are about
            path = directory / f"{name}.jsonl"
            path.write_text(path.read_text().replace(', "label": "POISON"', ""))
    changes = [f"output={tmp_path / 'output'}", f"selection.protocols=[{', '.join(protocols)}]"]
    experiment = load_experiment(directory / "experiment.yaml", changes)
    assert run_sweep(experiment) == (7, 0, 0)
    said = capsys.readouterr().err
    is_read = "out-of-domain-validation" in protocols
    why = "has no labels in a column 'label'" if is_read else "is read without labels, as no protocol chooses"
    assert f"away validation {why}" in said
    run, unlabelled = read_run(tmp_path / "output"), read_run(runs["unlabelled"])
    assert run.manifest["data"]["away"] == unlabelled.manifest["data"]["away"]
    assert chosen_numbers(run, ARM, "unlabelled") == chosen_numbers(unlabelled, ARM, "unlabelled")
    write_report(analyse(tmp_path / "output"), (), examples=2)


def test_minus_one_is_a_label_where_the_file_says_which(directory, texts, tmp_path):
    for name in ("away", "afar"):
        write(directory / f"{name}.jsonl", texts[name], [-1] * len(texts[name]))
    changes = [f"output={tmp_path / 'output'}", "data.labels={-1: bad}"]
    run_sweep(load_experiment(directory / "experiment.yaml", changes), quiet=True)
    assert read_run(tmp_path / "output").domains_with("validation") == ["home", "away", "afar"]


def test_probabilities_have_to_be_kept(directory):
    with pytest.raises(UserError, match=r"evaluation.temperatures: expected some beside 1, with which prob"):
        load_experiment(directory / "experiment.yaml", ["evaluation.temperatures=[1]"])
