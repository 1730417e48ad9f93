"""The contract of fine-tuning methods: every one on every kind of model."""

import json

import pytest
import torch
from safetensors.torch import load_file

from nvreg.digests import body_parameters
from nvreg.errors import UserError
from nvreg.finetune.bench import open_bench
from nvreg.finetune.regularisers import REGULARISERS, Options
from nvreg.finetune.schema import FineTuning
from nvreg.finetune.trainer import TaskTrainer
from nvreg.finetune.training import run_finetuning
from nvreg.metrics import score
from nvreg.models.loading import load_model, load_tokenizer
from nvreg.tasks import TASKS
from tests.faults.running import numbers_of_training
from tests.finetune.conftest import OPTIONS, TASK_OF_KIND

CASES = [
    (method, kind)
    for method in REGULARISERS
    for kind in TASK_OF_KIND
    if method != "head-only" or kind == "bert"
]

every_case = pytest.mark.parametrize(("method", "kind"), CASES)

TOY = """
from nvreg.finetune.regularisers import Options, Regulariser


class ToyOptions(Options):
    scale: float = 1.0


class Toy(Regulariser[ToyOptions]):
    options_class = ToyOptions

    def before_update(self):
        for tensor in self.model.parameters():
            tensor.grad.mul_(self.options.scale)

    def describe(self):
        return {"scaled": True}
"""


class Killed(BaseException):
    """What no handler catches."""


def weights(directory):
    return load_file(directory / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_contract_is_for_all_methods():
    assert OPTIONS.keys() == REGULARISERS.keys()


def test_a_new_method_is_one_file_and_one_line(load, tmp_path, monkeypatch):
    (tmp_path / "toy_regulariser.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(REGULARISERS, "toy", "toy_regulariser:Toy")
    with pytest.raises(UserError, match=r"regulariser\.scales: unknown key, did you mean 'scale'"):
        load("bert", "plain", "method=toy", "regulariser={scales: 0}")
    (frozen,) = run_finetuning(load("bert", "plain", "method=toy", "regulariser={scale: 0}"), quiet=True)
    untrained = open_bench(load("bert")).model(seed=1).state_dict()
    assert same(weights(frozen), untrained), "no gradient, no change"
    manifest = json.loads((frozen / "training.json").read_text())
    assert manifest["regulariser"] == {"scale": 0.0}
    assert manifest["applied"] == {"scaled": True}
    schema = json.dumps(FineTuning.model_json_schema()["properties"])
    assert '"toy"' in schema
    assert '"ToyOptions"' in schema


@every_case
def test_a_tuned_checkpoint_is_plain_and_scores_what_training_measured(load, tuned, method, kind):
    directory = tuned(kind, method)
    head = TASKS[TASK_OF_KIND[kind]].auto_class
    model = load_model(directory, head)  # refuses a checkpoint that lacks a weight
    plain = open_bench(load(kind, method)).model(seed=1)
    assert set(weights(directory)) <= set(plain.state_dict()), "parameters that no plain model has"
    changed = {"architectures", "problem_type", "transformers_version"}
    ours, theirs = ({**each.config.to_dict(), **dict.fromkeys(changed)} for each in (model, plain))
    assert {**ours, "_name_or_path": ""} == {**theirs, "_name_or_path": ""}
    bench = open_bench(load(kind, "plain", f"model.path={directory}"))
    assert bench.classes is None
    measured = score(bench.task.score(model, bench.splits["validation"].encoded), "nll")
    manifest = json.loads((directory / "training.json").read_text())
    assert manifest["best"]["nll"] == measured, "bit for bit"
    assert load_tokenizer(directory)("a cat").input_ids
    assert not (directory / "checkpoints").exists()


@pytest.mark.parametrize(
    ("method", "kind"), [case for case in CASES if case[0] == "mvcr" or case[1] == "bert"]
)
def test_an_interrupted_training_goes_on_to_the_same_weights(load, tuned, method, kind, monkeypatch):
    expected = tuned(kind, method)
    finetuning, steps = load(kind, method), []
    step = TaskTrainer.training_step

    def killed(self, *arguments):
        steps.append(self.state.global_step)
        if len(steps) == 8:  # the second of the third epoch
            raise Killed
        return step(self, *arguments)

    monkeypatch.setattr(TaskTrainer, "training_step", killed)
    with pytest.raises(Killed):
        run_finetuning(finetuning, quiet=True)
    (directory,) = run_finetuning(finetuning, quiet=True)
    assert steps == [0, 1, 2, 3, 4, 5, 6, 7, 6, 7, 8]
    assert same(weights(directory), weights(expected))
    assert numbers_of_training(directory.parent) == numbers_of_training(expected.parent)


@every_case
def test_evaluation_is_that_of_the_plain_model_attached_and_detached(load, method, kind):
    bench = open_bench(load(kind, method))
    model, plain = bench.model(seed=1), bench.model(seed=1)
    batch = bench.task.batch(bench.splits["train"].encoded, [0, 1, 2])
    expected = plain(**batch).logits
    regulariser = REGULARISERS[method](model, bench.finetuning.regulariser, seed=1)
    assert torch.equal(model(**batch).logits, expected)
    model.train()(**batch).loss.backward()
    assert torch.equal(model.eval()(**batch).logits, expected)
    regulariser.detach_()
    assert torch.equal(model(**batch).logits, expected)
    assert same(model.state_dict(), plain.state_dict())
    assert [name for name, _ in model.named_modules()] == [name for name, _ in plain.named_modules()]
    assert all(parameter.requires_grad for parameter in model.parameters())
    torch.manual_seed(0)
    again = plain.train()(**batch).logits
    torch.manual_seed(0)
    assert torch.equal(model.train()(**batch).logits, again), "training is plain again, too"


@pytest.mark.parametrize("kind", ["gpt2", "bart"])
def test_head_only_needs_a_head_of_its_own(load, kind):
    model = open_bench(load(kind)).model(seed=1)
    with pytest.raises(UserError, match="expected a model with parameters outside its body"):
        REGULARISERS["head-only"](model, Options(), seed=1)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_head_only_leaves_the_body_as_it_was(tuned, workshop):
    directory = tuned("bert", "head-only")
    before = body_parameters(load_model(workshop / "bert"))
    after = body_parameters(load_model(directory, "AutoModelForSequenceClassification"))
    assert same(before, after)
    manifest = json.loads((directory / "training.json").read_text())
    assert manifest["applied"]["trained_parameters"] == 2 * (16 + 1) + 16 * (16 + 1)  # classifier and pooler


def test_weight_decay_pulls_the_body_to_the_pretrained_weights(load):
    bench = open_bench(load("bert", "weight-decay-to-pretrained"))
    model = bench.model(seed=1)
    regulariser = REGULARISERS["weight-decay-to-pretrained"](model, bench.finetuning.regulariser, seed=1)
    body = body_parameters(model)
    pretrained = {name: tensor.detach().clone() for name, tensor in body.items()}
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.randn_like(tensor))
            tensor.grad = torch.ones_like(tensor)
    regulariser.before_update()
    for name, tensor in body.items():
        torch.testing.assert_close(tensor.grad, 1 + 0.5 * (tensor - pretrained[name]))
    assert torch.equal(model.classifier.weight.grad, torch.ones_like(model.classifier.weight))


def test_guided_dropout_says_its_rates(tuned):
    rates = json.loads((tuned("bert", "guided-dropout") / "training.json").read_text())["applied"]["rates"]
    assert list(rates) == ["embeddings.dropout"] + [
        f"encoder.layer.{layer}.{site}.dropout"
        for layer in range(3)
        for site in ("attention.self", "attention.output", "output")
    ]
    assert list(rates.values()) == pytest.approx([0.1 * (1 - rank / 9) for rank in range(10)])
