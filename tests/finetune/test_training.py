import json
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, TrainingArguments

from nvreg.errors import UserError
from nvreg.finetune import bench as benches
from nvreg.finetune import training
from nvreg.finetune.bench import choose_precision, open_bench
from nvreg.finetune.regularisers import Options
from nvreg.finetune.regularisers.baselines import Plain
from nvreg.finetune.trainer import TaskTrainer
from nvreg.finetune.training import run_finetuning
from nvreg.metrics import score
from nvreg.models.loading import load_model
from nvreg.rounding import with_interval
from tests.faults.running import numbers_of_training
from tests.models.architectures import ARCHITECTURES

CPU = torch.device("cpu")
CLASSIFIER = "AutoModelForSequenceClassification"


class Killed(BaseException):
    """What no handler catches."""


@pytest.fixture
def scores(monkeypatch):
    """Make validation score what is put in here, one number an epoch."""
    given, evaluate = [], TaskTrainer.evaluate

    def scored(self, *arguments, **options):
        accuracy = given[round(self.state.epoch) - 1]
        monkeypatch.setattr("nvreg.finetune.trainer.score", lambda frame, name: accuracy)
        return evaluate(self, *arguments, **options)

    monkeypatch.setattr(TaskTrainer, "evaluate", scored)
    return given


def killed_at(number, finetuning, monkeypatch):
    """Train until a step, in which the process is killed."""
    step = TaskTrainer.training_step

    def killed(self, *arguments):
        if self.state.global_step == number:
            raise Killed
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TaskTrainer, "training_step", killed)
        with pytest.raises(Killed):
            run_finetuning(finetuning, quiet=True)


def manifest_of(directory):
    return json.loads((directory / "training.json").read_text())


def log_of(directory):
    return [json.loads(line) for line in (directory / "training.jsonl").read_text().splitlines()]


def weights(directory):
    return load_file(directory / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


STOPPING = ("training={epochs: 6, batch_size: 4, learning_rate: 0.01, precision: float32, "
            "early_stopping: {metric: accuracy, patience: 2}}")  # fmt: skip


def test_the_best_epoch_is_kept_and_patience_ends_the_training(load, steps, scores):
    scores += [0.5, 0.7, 0.7, 0.6, 0.9, 0.9]
    (directory,) = run_finetuning(load("bert", "plain", STOPPING), quiet=True)
    manifest = manifest_of(directory)
    assert len(steps) == 3 * 4, "four epochs of three steps"
    assert manifest["epochs"] == 4
    assert manifest["best"] == {"epoch": 2, "step": 6, "accuracy": 0.7, "nll": 0.7}
    assert [entry["eval_accuracy"] for entry in log_of(directory) if "eval_accuracy" in entry] == scores[:4]


def test_the_card_has_the_best_epoch_s_scores_with_intervals(load, scores, monkeypatch):
    monkeypatch.setattr("nvreg.finetune.trainer.FEWEST", 1)
    scores += [0.5, 0.7, 0.7, 0.6, 0.9, 0.9]
    (directory,) = run_finetuning(load("bert", "plain", STOPPING), quiet=True)
    card = ModelCard.load(directory / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-classification")
    told = {result.metric_name: result for result in card.data.eval_results}
    assert {name: result.metric_value for name, result in told.items()} == {"accuracy": 0.7, "nll": 0.7}
    (entry,) = [entry for entry in log_of(directory) if entry["epoch"] == 2 and "eval_nll" in entry]
    low, high = entry["interval_nll"]
    assert low < high
    assert told["nll"].metric_args == {"low": low, "high": high}
    assert with_interval(0.7, low, high) in card.text
    assert "the best by accuracy on this set" in card.text
    assert "BertForSequenceClassification.from_pretrained" in card.text
    assert str(directory.parent) not in str(card)


def test_the_weights_are_those_of_the_best_epoch(load):
    stopping = STOPPING.replace("accuracy", "nll").replace("0.01", "0.05")  # soon too far
    finetuning = load("bert", "plain", stopping)
    (directory,) = run_finetuning(finetuning, quiet=True)
    manifest = manifest_of(directory)
    measured = [entry["eval_nll"] for entry in log_of(directory) if "eval_nll" in entry]
    assert manifest["best"]["nll"] == min(measured) < measured[-1]
    bench = open_bench(load("bert", "plain", stopping, f"model.path={directory}"))
    encoded = bench.splits["validation"].encoded
    assert score(bench.task.score(load_model(directory, CLASSIFIER), encoded), "nll") == min(measured)


def test_a_training_killed_before_its_patience_ends_stops_where_it_would_have(
    load, steps, scores, monkeypatch
):
    scores += [0.5, 0.7, 0.6, 0.6, 0.9, 0.9]
    finetuning = load("bert", "plain", STOPPING)
    killed_at(10, finetuning, monkeypatch)
    (directory,) = run_finetuning(finetuning, quiet=True)
    assert steps == [*range(10), 9, 10, 11]
    assert manifest_of(directory)["best"]["step"] == 6


@pytest.mark.parametrize("overrides", [[], [STOPPING]])
def test_a_kill_after_training_loses_neither_training_nor_the_end_of_its_log(
    load, steps, monkeypatch, tmp_path, overrides
):
    (expected,) = run_finetuning(
        load("bert", "plain", *overrides, f"output={tmp_path / 'whole'}"), quiet=True
    )
    finetuning = load("bert", "plain", *overrides)

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(TaskTrainer, "release", killed)
        with pytest.raises(Killed):
            run_finetuning(finetuning, quiet=True)
    steps.clear()
    (directory,) = run_finetuning(finetuning, quiet=True)
    assert not steps
    assert same(weights(directory), weights(expected))
    assert manifest_of(directory)["best"] == manifest_of(expected)["best"]
    assert {"total_flos", "train_loss"} <= log_of(directory)[-1].keys()
    assert numbers_of_training(directory.parent) == numbers_of_training(expected.parent)


def test_a_checkpoint_that_was_not_written_to_its_end_is_not_used(load, steps, monkeypatch):
    finetuning, save = load("bert"), TaskTrainer.save_model

    def killed(self, output_dir=None, _internal_call=False):
        save(self, output_dir, _internal_call)
        if self.state.global_step == 6:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(TaskTrainer, "save_model", killed)
        with pytest.raises(Killed):
            run_finetuning(finetuning, quiet=True)
    run_finetuning(finetuning, quiet=True)
    assert steps == [*range(6), *range(3, 9)]


@pytest.mark.parametrize("method", ["plain", "mvcr"])
def test_a_mixture_of_experts_goes_on_to_the_same_weights(load, steps, monkeypatch, tmp_path, method):
    """`save_pretrained` gives experts other names than the model in memory has."""
    tokenizer = AutoTokenizer.from_pretrained(load("gpt2").model.path)
    mixtral = next(each for each in ARCHITECTURES if each.name == "mixtral").build(dtype=torch.float32)
    mixtral.resize_token_embeddings(len(tokenizer))
    for part in (mixtral, tokenizer):
        part.save_pretrained(tmp_path / "mixtral")
    options = [f"model.path={tmp_path / 'mixtral'}", "training.early_stopping=nll"]
    (expected,) = run_finetuning(load("gpt2", method, *options, f"output={tmp_path / 'whole'}"), quiet=True)
    assert manifest_of(expected)["best"]["epoch"] < 3, "so that the best weights are read from a checkpoint"
    finetuning = load("gpt2", method, *options)
    steps.clear()
    killed_at(4, finetuning, monkeypatch)
    (directory,) = run_finetuning(finetuning, quiet=True)
    assert steps == [*range(4), *range(3, 9)]
    assert same(weights(directory), weights(expected))
    before = load_model(tmp_path / "mixtral", "AutoModelForCausalLM").state_dict()
    after = load_model(directory, "AutoModelForCausalLM").state_dict()
    assert not any(torch.equal(before[name], after[name]) for name in before if "experts" in name)
    bench = open_bench(load("gpt2", "plain", f"model.path={directory}"))
    measured = score(bench.task.score(bench.model(1), bench.splits["validation"].encoded), "nll")
    assert measured == manifest_of(directory)["best"]["nll"]


def test_finished_seeds_are_not_trained_again_and_others_can_follow(load, steps):
    first = run_finetuning(load("bert", "plain", "training.seed=1"), quiet=True)
    before = weights(first[0])
    steps.clear()
    finetuning = load("bert", "plain", "training={epochs: 3, batch_size: 4, learning_rate: 0.01, "
                      "precision: float32, seeds: [1, 2]}")  # fmt: skip
    both = run_finetuning(finetuning, quiet=True)
    assert [directory.name for directory in both] == ["seed-1", "seed-2"]
    assert len(steps) == 9
    assert same(weights(both[0]), before)
    assert not same(weights(both[1]), before)
    assert [manifest_of(directory)["seed"] for directory in both] == [1, 2]
    steps.clear()
    assert run_finetuning(finetuning, quiet=True) == both
    assert not steps


def test_seeds_differ_in_the_head_they_begin_with_and_not_in_the_body(load):
    bench = open_bench(load("bert"))
    one, again, two = bench.model(1).state_dict(), bench.model(1).state_dict(), bench.model(2).state_dict()
    assert same(one, again)
    assert {name for name in one if not torch.equal(one[name], two[name])} == {"classifier.weight"}


@pytest.mark.parametrize(
    ("overrides", "where"),
    [
        (["training.epochs=4"], r"training\.epochs"),
        (["method=mvcr", "regulariser={widths: [4]}"], "method, regulariser"),
        (["data.in_domain.train.limit=6"], r"data\.train\.examples, data\.train\.fingerprint"),
        (["data.max_length=63"], r"reading\.max_length"),
    ],
)
def test_an_output_directory_is_of_one_fine_tuning(load, tuned, overrides, where):
    output = tuned("bert", "plain").parent
    with pytest.raises(UserError, match=f"differs in {where}"):
        run_finetuning(load("bert", "plain", f"output={output}", *overrides), quiet=True)


def test_a_subset_is_what_is_trained_on(load):
    bench = open_bench(load("bert", "plain", "data.in_domain.train.limit=5", "data.in_domain.train.seed=3"))
    assert bench.splits["train"].examples == 5
    assert bench.splits["validation"].examples == 8
    other = open_bench(load("bert", "plain", "data.in_domain.train.limit=5", "data.in_domain.train.seed=4"))
    assert other.subject["data"]["train"]["fingerprint"] != bench.subject["data"]["train"]["fingerprint"]


def test_the_manifest_says_what_was_done(tuned):
    manifest = manifest_of(tuned("gpt2", "mvcr"))
    assert manifest["method"] == "mvcr"
    assert manifest["regulariser"]["noise"] == 0.002
    assert manifest["applied"] == {"layers": [0, 2], "widths": [4, 8]}
    assert manifest["seconds"] > 0
    assert (manifest["epochs"], manifest["steps"]) == (3, 9)
    assert manifest["model"].startswith("gpt2 ")
    assert manifest["data"]["train"]["examples"] == 12
    assert manifest["precision"] == "float32, as asked for"
    assert manifest["versions"]["transformers"]
    written = yaml.safe_load((tuned("gpt2", "mvcr").parent / "finetuning.yaml").read_text())
    assert written["regulariser"]["widths"] == [4, 8]


def test_a_new_head_has_the_labels_of_the_data(tuned, load):
    model = AutoModelForSequenceClassification.from_pretrained(tuned("bert", "plain"))
    assert model.config.id2label == {0: "aloof", 1: "fond"}
    assert AutoTokenizer.from_pretrained(tuned("bert", "plain"))("a cat").input_ids
    renamed = open_bench(load("bert", "plain", "data.labels={aloof: cold, fond: warm}"))
    assert renamed.model(1).config.id2label == {0: "cold", 1: "warm"}


def test_a_label_that_training_lacks_is_named_with_its_data_set(load, tmp_path):
    (tmp_path / "odd.jsonl").write_text('{"en": "the dog sees a cat", "mood": "odd"}\n')
    with pytest.raises(UserError, match=r"home validation, .*odd"):
        open_bench(load("bert", "plain", f"data.in_domain.validation.files={tmp_path / 'odd.jsonl'}"))


def test_the_head_of_a_subset_has_the_labels_of_all_training_data(load):
    assert open_bench(load("bert", "plain", "data.in_domain.train.limit=1")).classes == ["aloof", "fond"]


def test_numbers_as_labels_are_the_numbers_of_classes(load, tmp_path):
    paths = [tmp_path / f"{split}.jsonl" for split in ("train", "validation")]
    labels = [10, 2, 1, 0, 3, 4, 5, 6, 7, 8, 9]
    for path in paths:
        path.write_text("\n".join(json.dumps({"en": "a cat", "mood": label}) for label in labels))
    files = [f"data.in_domain.{path.stem}.files={path}" for path in paths]
    bench = open_bench(load("bert", "plain", *files))
    assert bench.task.batch(bench.splits["train"].encoded, range(11))["labels"].tolist() == labels


def test_a_checkpoint_that_knows_the_labels_keeps_its_head(load, tuned):
    bench = open_bench(load("bert", "plain", f"model.path={tuned('bert', 'plain')}"))
    assert bench.classes is None
    assert same(bench.model(5).state_dict(), weights(tuned("bert", "plain")))
    other = open_bench(
        load("bert", "plain", f"model.path={tuned('bert', 'plain')}", "data.labels={aloof: x, fond: y}")
    )
    assert other.classes == ["x", "y"]
    kept, new, of_another_seed = (
        each.state_dict() for each in (bench.model(5), other.model(5), other.model(6))
    )
    for weights_before in (kept, of_another_seed):
        changed = {name for name in new if not torch.equal(new[name], weights_before[name])}
        assert changed == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("labels", [{"aloof": "0", "fond": "1"}, {"aloof": "fond", "fond": "LABEL_2"}])
def test_a_head_of_more_classes_than_the_labels_is_not_kept(load, workshop, tmp_path, labels):
    config = AutoConfig.from_pretrained(workshop / "bert", num_labels=3)
    config.id2label[1] = "fond"
    model = AutoModelForSequenceClassification.from_config(config)
    for part in (model, AutoTokenizer.from_pretrained(workshop / "bert")):
        part.save_pretrained(tmp_path / "nli")
    renamed = f"data.labels={json.dumps(labels)}"
    bench = open_bench(load("bert", "plain", f"model.path={tmp_path / 'nli'}", renamed))
    assert bench.classes == list(labels.values())
    assert bench.model(1).config.num_labels == 2


def test_a_text_without_anything_to_predict_teaches_nothing(load, workshop, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text((workshop / "train.jsonl").read_text() + '{"en": ""}\n')
    files = f"data.in_domain.train.files={path}"
    finetuning = load("gpt2", "plain", files, "training.batch_size=1", "training.epochs=1")
    (directory,) = run_finetuning(finetuning, quiet=True)
    assert manifest_of(directory)["steps"] == 12
    assert manifest_of(directory)["data"]["train"]["examples"] == 13
    assert all(torch.isfinite(tensor).all() for tensor in weights(directory).values())


def test_a_decoder_classifies_too(load):
    finetuning = load("gpt2", "mvcr", "task=classification", "data.columns={text: en, label: mood}")
    (directory,) = run_finetuning(finetuning, quiet=True)
    assert type(load_model(directory, CLASSIFIER)).__name__ == "GPT2ForSequenceClassification"


def test_generated_text_can_decide_when_to_stop(load):
    (directory,) = run_finetuning(load("bart", "plain", "training.early_stopping=chrf"), quiet=True)
    best = manifest_of(directory)["best"]
    assert best["chrf"] == max(entry.get("eval_chrf", 0) for entry in log_of(directory))
    assert load_model(directory, "AutoModelForSeq2SeqLM").config.use_cache, "the Trainer turns it off"


@pytest.mark.parametrize(
    ("kind", "overrides", "message"),
    [
        (
            "bert",
            ["task=language-modelling", "data.columns={text: en}"],
            "expected a checkpoint with all weights",
        ),
        ("bert", ["model.device=cuda:3"], "model.device: expected auto, cpu or cuda, got cuda:3"),
        ("gpt2", ["task=translation", "data.columns={}"], "expected a model whose kind is encoder-decoder"),
        ("bert", ["data.in_domain.validation.files=missing.jsonl"], "expected a file"),
        (
            "bert",
            ["method=mvcr", "regulariser={layers: [9]}"],
            r"layers: expected layers from 0 to 2, got 9",
        ),
        ("bert", ["method=mvcr", "regulariser={widths: [99]}"], "expected widths from 2 to below"),
        (
            "bert",
            ["method=guided-dropout", "regulariser={fisher: missing.json}"],
            "expected Fisher scores written by",
        ),
        (
            "bert",
            ["method=guided-dropout", "regulariser={fisher: gpt2.fisher.json}"],
            r"expected Fisher scores of this model \(bert \w+\), .* gpt2 ",
        ),
        ("gpt2", ["method=head-only"], "expected a model with parameters outside its body"),
    ],
)
def test_what_cannot_be_trained_is_a_clear_error_that_claims_no_directory(load, kind, overrides, message):
    finetuning = load(kind, "plain", *overrides)
    with pytest.raises(UserError, match=message):
        run_finetuning(finetuning, quiet=True)
    assert not Path(finetuning.output).exists()


def test_training_needs_accelerate(load, monkeypatch):
    monkeypatch.setattr(training, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install nvreg\[finetune\]"):
        run_finetuning(load("bert"), quiet=True)


@pytest.mark.parametrize(
    ("wanted", "capabilities", "expected"),
    [
        ("auto", {"amx_bf16": True, "avx512_bf16": True}, (True, "bfloat16 by AMX, weights in float32")),
        ("auto", {"avx512_bf16": True}, (True, "bfloat16 by AVX-512 BF16, weights in float32")),
        ("auto", {"avx2": True}, (False, "float32, as this cpu has no instructions for bfloat16")),
        ("float32", {"avx512_bf16": True}, (False, "float32, as asked for")),
        ("bfloat16", {}, (True, "bfloat16, as asked for")),
    ],
)
def test_bfloat16_is_used_where_the_hardware_has_it(monkeypatch, wanted, capabilities, expected):
    monkeypatch.setattr(benches.torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_precision(wanted, CPU) == expected


@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_training_is_in_that_arithmetic_and_validation_in_float32(load, monkeypatch, wanted):
    seen = set()
    linear = torch.nn.functional.linear

    def noted(*arguments):
        out = linear(*arguments)
        seen.add((torch.is_grad_enabled(), out.dtype))
        return out

    monkeypatch.setattr(torch.nn.functional, "linear", noted)
    (directory,) = run_finetuning(load("bert", "plain", f"training.precision={wanted}"), quiet=True)
    assert seen == {(True, getattr(torch, wanted)), (False, torch.float32)}
    assert {tensor.dtype for tensor in weights(directory).values()} == {torch.float32}


def test_one_gpu_trains_however_many_there_are(load, monkeypatch, tmp_path):
    bench = open_bench(load("bert"))
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda _: 4))
    model = bench.model(1)
    trainer = TaskTrainer(model, Plain(model, Options(), seed=1), bench, 1, tmp_path)
    assert trainer.args.train_batch_size == 4
    assert trainer.args.n_gpu == 1


def test_only_one_process_trains_in_a_directory(load, monkeypatch):
    finetuning = load("bert")

    def again(*_):
        with pytest.raises(UserError, match="another"):
            run_finetuning(finetuning, quiet=True)
        raise Killed

    monkeypatch.setattr(training, "train_seed", again)
    with pytest.raises(Killed):
        run_finetuning(finetuning, quiet=True)
    assert training.RECORD == "training.json"
