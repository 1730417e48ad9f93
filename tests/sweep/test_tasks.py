"""A sweep of every kind of task and model, from files to a table."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import torch

from nvreg import UserError
from nvreg.data import Examples
from nvreg.experiment import load_experiment
from nvreg.report.analysis import analyse
from nvreg.report.writing import write_report
from nvreg.results import read_trials
from nvreg.sweep.dry_run import describe_plan
from nvreg.sweep.runner import run_sweep
from nvreg.sweep.workbench import open_workbench
from nvreg.tasks import TASKS
from tests.tiny import LEXICON, TAGS, tiny_model, word_tokenizer

EXPERIMENT = """
name: {task}
task: {task}
model: {{path: model, device: cpu}}
data:
  in_domain:
    name: home
    train:      {{files: text.jsonl}}
    validation: {{files: validation.jsonl, limit: 9}}
    test:       {{files: test.jsonl, limit: 12, seed: 1}}
  out_of_domain:
    - name: away
      validation: {{files: away-validation.jsonl, limit: 8, seed: 2}}
      test:       {{files: away-test.jsonl, limit: 8, seed: 3}}
sweep:
  sampler: tpe
  trials: 3
  racing: {{after: 6}}
  space: {{prior_weight: [0.05, 0.5], tau_sigma: [0, 0.5]}}
evaluation: {{metrics: {metrics}, window: {window}}}
selection:
  metric: {metric}
  protocols: [in-domain, in-domain-tolerance, leave-one-domain-out, out-of-domain-validation, oracle]
output: output
"""

CASES = {
    "classification": ("[accuracy, macro-f1, ece, brier, nll]", "accuracy", "null"),
    "language-modelling": ("[perplexity, bits-per-character]", "bits-per-character", "8"),
    "multiple-choice": ("[accuracy, nll]", "nll", "null"),
    "token-classification": ("[accuracy, f1, macro-f1, ece, brier, nll]", "f1", "null"),
}


@pytest.fixture
def experiment(request, tmp_path):
    task = request.param
    tokenizer = word_tokenizer()
    for part in (tokenizer, tiny_model(task, len(tokenizer))):
        part.save_pretrained(tmp_path / "model")
    words = list(LEXICON)
    generator = torch.Generator().manual_seed(0)
    with (tmp_path / "text.jsonl").open("w") as file:
        for label in range(30):
            texts = [
                " ".join(words[i] for i in torch.randint(len(words), (length,), generator=generator))
                for length in (7, 3, 4)
            ]
            record = {"text": texts[0], "context": texts[0], "choices": texts[1:], "label": label % 2}
            if task == "classification":
                record["label"] = ("good", "bad")[label % 2]
            record["tokens"] = [*texts[label % 3].split(), *["cat"] * (label % 2)]
            record["tags"] = [TAGS[(len(word) + label) % 3] for word in record["tokens"]]
            file.write(json.dumps(record) + "\n")
    for name in ("validation", "test", "away-validation", "away-test"):
        shutil.copy(tmp_path / "text.jsonl", tmp_path / f"{name}.jsonl")
    metrics, metric, window = CASES[task]
    path = tmp_path / "experiment.yaml"
    path.write_text(EXPERIMENT.format(task=task, metrics=metrics, metric=metric, window=window))
    return load_experiment(path, [f"output={tmp_path / 'output'}"])


@pytest.mark.parametrize("experiment", CASES, indirect=True)
def test_every_task_runs_from_files_to_a_table(experiment):
    assert "trials      4," in describe_plan(experiment, quiet=True)
    completed, stopped, failed = run_sweep(experiment, quiet=True)
    assert (completed + stopped, failed) == (4, 0)
    for trial in list(read_trials(Path(experiment.output) / "trials.jsonl"))[1:]:
        assert trial.resolved["tau_alpha"]
        if trial.status == "completed":
            assert 0.04 < trial.prior_weight < 0.6
            assert trial.prior_weight <= trial.strength < 1
    page = write_report(analyse(Path(experiment.output)), (), examples=2)
    for name in experiment.evaluation.metrics:
        assert f"## {name} (" in page


@pytest.mark.parametrize("experiment", CASES, indirect=True)
def test_text_is_tokenised_once_and_what_decides_a_race_is_part_of_it(experiment, monkeypatch):
    encoded = []
    task_class = TASKS[experiment.task]
    encode = task_class.encode
    monkeypatch.setattr(task_class, "encode", lambda self, of: encoded.append(of) or encode(self, of))
    workbench = open_workbench(experiment)
    assert len(encoded) == 4
    for splits in workbench.scored.values():
        validation, test = splits["validation"], splits["test"]
        records = validation.examples.records
        assert test.parts == (test.encoded,)
        for part, expected in zip(validation.parts, (records[:6], records[6:]), strict=True):
            assert replace(part, truncated=0) == encode(workbench.task, Examples(expected))


@pytest.mark.parametrize("experiment", ["classification"], indirect=True)
@pytest.mark.parametrize(
    ("place", "name"), [("out_of_domain.0.test", "away test"), ("in_domain.train", "home train")]
)
def test_a_label_that_the_model_has_not_is_named_with_its_data_set(experiment, tmp_path, place, name):
    records = [{"text": "a cat", "label": label} for label in ("good", "bad", "ugly")]
    (tmp_path / "wrong.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    asked = load_experiment(tmp_path / "experiment.yaml", [f"data.{place}={{files: wrong.jsonl}}"])
    with pytest.raises(UserError, match=f"^{name}, record 3: expected the label good, bad"):
        run_sweep(asked, quiet=True)


@pytest.mark.parametrize("experiment", ["token-classification"], indirect=True)
@pytest.mark.parametrize(
    ("records", "message"),
    [
        (
            [{"tokens": ["a", "cat"], "tags": ["O", "B-car"]}],
            "^away test, record 1: expected the label O, B-pet, I-pet or a number of 0 to 2, got B-car; say",
        ),
        (
            [{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["a", "cat"], "tags": ["O"]}],
            r"wrong.jsonl, record 2: expected a tag for every token, got 2 tokens and 1 tags$",
        ),
        ([{"tokens": "a cat", "tags": ["O"]}], r"wrong.jsonl, record 1, column 'tokens': expected a list of"),
    ],
)
def test_tags_that_cannot_be_are_named_with_their_record(experiment, tmp_path, records, message):
    (tmp_path / "wrong.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    asked = load_experiment(tmp_path / "experiment.yaml", ["data.out_of_domain.0.test={files: wrong.jsonl}"])
    with pytest.raises(UserError, match=message) as caught:
        run_sweep(asked, quiet=True)
    assert "\n" not in str(caught.value)


def conll(directory: Path, records: list[dict]) -> str:
    with (directory / "text.conll").open("w") as file:
        for each in records:
            words = zip(each["tokens"], each["tags"], strict=True)
            file.write("".join(f"{word} X {tag}\n" for word, tag in words) + "\n")
    return "{conll: text.conll, token_column: 0, tag_column: 2}"


def hub(directory: Path, records: list[dict]) -> str:
    features = {
        "words": datasets.List(datasets.Value("string")),
        "ner_tags": datasets.List(datasets.ClassLabel(names=["I-pet", "O", "B-pet"])),
    }
    rows = [{"words": each["tokens"], "ner_tags": each["tags"]} for each in records]
    data = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    data.to_parquet(directory / "set" / "test.parquet")
    return f"{{hub: {directory / 'set'}, split: test, columns: {{tokens: words, tags: ner_tags}}}}"


@pytest.mark.parametrize("experiment", ["token-classification"], indirect=True)
@pytest.mark.parametrize("write", [conll, hub])
def test_tags_of_a_data_set_of_the_hub_and_of_conll_are_those_of_jsonl(
    experiment, tmp_path, write, monkeypatch
):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    lines = (tmp_path / "text.jsonl").read_text().splitlines()
    records = [{name: json.loads(line)[name] for name in ("tokens", "tags")} for line in lines]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    place = "data.out_of_domain.0.test"
    scored = [
        open_workbench(load_experiment(tmp_path / "experiment.yaml", [f"{place}={source}"])).scored
        for source in ("{files: all.jsonl}", write(tmp_path, records))
    ]
    expected, got = (each["away"]["test"] for each in scored)
    assert got.examples.fingerprint == expected.examples.fingerprint
    assert got.encoded == expected.encoded


@pytest.mark.parametrize("experiment", ["token-classification"], indirect=True)
def test_words_and_tags_stand_side_by_side_in_the_examples_of_a_report(experiment, tmp_path):
    overrides = ["selection.metric=nll", "sweep.racing=null", f"output={tmp_path / 'output'}"]
    run_sweep(load_experiment(tmp_path / "experiment.yaml", overrides), quiet=True)
    page = write_report(analyse(tmp_path / "output", ["oracle"]), (), examples=2)
    section = page.split("## Examples that change most")[1]
    header, _, first, *_ = (line for line in section.splitlines() if line.startswith("|"))
    names = [cell.strip() for cell in header.strip("|").split("|")]
    assert names == ["example", "tokens", "tags", "pretrained", "chosen", "score before", "after"]
    number, tokens, *tags = [cell.strip() for cell in first.strip("|").split("|")][:5]
    assert int(number) in range(12)
    assert set(tokens.split()) <= set(LEXICON)
    for each in tags:
        assert len(each.split()) == len(tokens.split())
        assert set(each.split()) <= set(TAGS)
