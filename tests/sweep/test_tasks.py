"""A sweep of every kind of task and model, from files to a table."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel, set_seed

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
from tests.tiny import LEXICON, word_tokenizer

EXPERIMENT = """
name: {task}
task: {task}
model: {{path: model, device: cpu}}
data:
  in_domain:
    name: home
    train:      {{files: text.jsonl}}
    validation: {{files: text.jsonl, limit: 9}}
    test:       {{files: text.jsonl, limit: 12, seed: 1}}
  out_of_domain:
    - name: away
      validation: {{files: text.jsonl, limit: 8, seed: 2}}
      test:       {{files: text.jsonl, limit: 8, seed: 3}}
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
}


def tiny_model(task: str, tokens: int) -> torch.nn.Module:
    set_seed(0)
    if task == "classification":
        config = BertConfig(
            vocab_size=tokens,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
        )
        config.id2label = {0: "good", 1: "bad"}
        return BertForSequenceClassification(config)
    return GPT2LMHeadModel(GPT2Config(vocab_size=tokens, n_embd=32, n_layer=2, n_head=4, n_positions=64))


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
            file.write(json.dumps(record) + "\n")
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
    page = write_report(analyse(Path(experiment.output)), examples=2)
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
