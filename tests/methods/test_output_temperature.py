"""Output temperature against what Transformers computes, and where its best value is known."""

import math

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from nvreg.config import Evaluation, Reading
from nvreg.data import Examples
from nvreg.experiment import load_experiment
from nvreg.methods import METHODS
from nvreg.metrics import score
from nvreg.models.class_logits import RememberedClassLogits
from nvreg.report.reading import read_run
from nvreg.sweep.runner import run_sweep
from nvreg.tasks import TASKS, make_task
from nvreg.tasks.language_modelling import EncodedTexts
from tests.models.architectures import IN_HEAD_SPACE, Architecture
from tests.tasks import test_classification, test_language_modelling
from tests.tiny import tiny_marian, word_tokenizer

EXPERIMENT = """
name: softer
task: language-modelling
model: {path: model, device: cpu}
data:
  in_domain: {name: home, validation: {files: validation.txt}, test: {files: text.txt}}
  out_of_domain: [{name: away, test: {files: away.txt}}]
sweep: {sampler: grid, method: output-temperature, space: {output_temperature: {values: [1.25, 2]}}}
evaluation: {metrics: [nll]}
selection: {metric: nll, protocols: [in-domain]}
output: output
"""

METHOD = METHODS["output-temperature"]
LIKELIHOOD = {
    "nll",
    "perplexity",
    "bits-per-character",
    "bits-per-byte",
    "byte-perplexity",
    "word-perplexity",
}
T = 1.4


def attached(model, temperature):
    method = METHOD()
    method.attach_(model, None, [])
    method.set_(model, METHOD.setting_type(output_temperature=temperature))
    return model


def nll(task, model, examples):
    with torch.inference_mode():
        return score(task.score(attached(model, T), task.encode(examples)), "nll")


def test_language_modelling_is_transformers_own_with_logits_divided():
    model, tokenizer = test_language_modelling.build("llama"), word_tokenizer("<s> $A")
    examples = test_language_modelling.texts()
    total = tokens = 0
    for record in examples.records:
        ids = tokenizer(record["text"], return_tensors="pt").input_ids
        with torch.inference_mode():
            logits = model(ids).logits[0, :-1].double() / T
        total += F.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        tokens += ids.shape[1] - 1
    task = test_language_modelling.modelling(model, tokenizer, window=64)
    assert nll(task, model, examples) == pytest.approx(total / tokens, rel=1e-6)


def test_translation_is_transformers_own_with_logits_divided():
    model, tokenizer = tiny_marian()
    pairs = [("a small cat", "ein klein Kater"), ("the dog sees a tree .", "Hund sieht Baum ."), ("a", "ein")]
    total = tokens = 0
    for source, target in pairs:
        inputs = tokenizer(source, text_target=target, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**inputs).logits[0].double() / T
        total += F.cross_entropy(logits, inputs["labels"][0], reduction="sum").item()
        tokens += inputs["labels"].shape[1]
    evaluation = Evaluation(metrics=["nll"])
    task = make_task("translation", tokenizer, model.config, data=Reading(), evaluation=evaluation)
    examples = Examples([{"source": source, "target": target} for source, target in pairs])
    assert nll(task, model, examples) == pytest.approx(total / tokens, rel=1e-6)


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_classification_is_transformers_own_with_logits_divided(name):
    model, tokenizer = test_classification.build(name), word_tokenizer(test_classification.TEMPLATES[name])
    examples = test_classification.examples()
    total = 0.0
    for record in examples.records:
        with torch.inference_mode():
            logits = model(**tokenizer(record["text"], return_tensors="pt")).logits.double() / T
        total += F.cross_entropy(logits, torch.tensor([record["label"]])).item()
    task = test_classification.classification(model, tokenizer)
    assert nll(task, model, examples) == pytest.approx(total / len(examples), rel=1e-6)


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_a_classifier_runs_once_for_all_temperatures(name):
    tokenizer = word_tokenizer(test_classification.TEMPLATES[name])
    model, examples = test_classification.build(name), test_classification.examples()
    task = test_classification.classification(model, tokenizer)
    encoded, runs = task.encode(examples), []
    model.base_model.register_forward_pre_hook(lambda *_: runs.append(1))

    def scores(temperature):
        method.set_(model, METHOD.setting_type(output_temperature=temperature))
        return task.score(model, encoded)

    own = task.score(model, encoded)
    batches = len(runs)
    method = METHOD()
    method.attach_(model, None, [])
    at_identity, softer, again = scores(1), scores(T), scores(1)
    assert len(runs) == 2 * batches
    pd.testing.assert_frame_equal(at_identity, own, check_exact=True)
    pd.testing.assert_frame_equal(again, own, check_exact=True)
    pd.testing.assert_frame_equal(
        softer,
        task.score(attached(test_classification.build(name), T), encoded),
        check_exact=True,
    )
    method.detach_(model)
    assert "forward" not in vars(model)
    pd.testing.assert_frame_equal(task.score(model, encoded), own, check_exact=True)
    assert len(runs) == 3 * batches


def test_a_classifier_runs_for_what_is_more_than_logits_and_beyond_the_budget():
    model = test_classification.build("bert")
    inputs = {"input_ids": torch.tensor([[3, 4, 5]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    runs = []
    model.base_model.register_forward_pre_hook(lambda *_: runs.append(1))
    remembered = RememberedClassLogits(model, budget_bytes=4 * model.config.num_labels)
    labels = torch.tensor([0])
    with torch.inference_mode():
        for _ in range(2):
            assert model(**inputs, labels=labels).loss is not None
            assert model(**inputs, output_hidden_states=True).hidden_states is not None
    for _ in range(2):
        assert model(**inputs).logits.requires_grad
    assert len(runs) == 6
    other = {**inputs, "input_ids": torch.tensor([[5, 4, 3]])}
    with torch.inference_mode():
        first = model(**inputs).logits
        own = first.clone()
        first += 1
        again = model(**inputs).logits
        assert len(runs) == 7
        assert torch.equal(again, own)
        assert torch.equal(model(**other).logits, model(**other).logits)
    assert len(runs) == 9
    remembered.revert()


def gemma2():
    (architecture,) = [each for each in IN_HEAD_SPACE if each.name == "gemma2"]
    config = {**architecture.config, "final_logit_softcapping": 0.5}
    return Architecture("capped", "gemma2", "Gemma2ForCausalLM", config)


def test_it_acts_after_the_cap_of_logits():
    inputs = gemma2().inputs(gemma2().build())
    with torch.inference_mode():
        logits = attached(gemma2().build(), 0.25)(**inputs).logits
        capped = gemma2().build()(**inputs).logits
    assert torch.equal(logits, capped / 0.25)
    assert 0.5 < logits.abs().max() <= 0.5 / 0.25


def test_a_sweep_of_it_alone_needs_no_prior_nor_training_text_nor_attention_that_nv_expresses(tmp_path):
    tokenizer, model = word_tokenizer("<s> $A"), gemma2().build(dtype=torch.float32)
    for part in (tokenizer, model):
        part.save_pretrained(tmp_path / "model")
    (tmp_path / "text.txt").write_text("a small cat sees the dog .\na red bird\nthe big tree\n")
    (tmp_path / "validation.txt").write_text("a red dog\nthe small tree sees a bird\n")
    (tmp_path / "away.txt").write_text("a dog\nthe red cat\n")
    path = tmp_path / "experiment.yaml"
    path.write_text(EXPERIMENT)
    experiment = load_experiment(path, [f"output={tmp_path / 'output'}"])
    assert run_sweep(experiment, quiet=True) == (3, 0, 0)
    run = read_run(tmp_path / "output")
    assert run.score(1, "home", "test", "nll") == pytest.approx(
        run.score(0, "home", "test", "nll", temperature=1.25), rel=1e-6
    )
    assert [run.trials[number].strength for number in (0, 1, 2)] == pytest.approx(
        [0, math.log(1.25), math.log(2)]
    )
    assert not (tmp_path / "output" / "prior.safetensors").exists()


def test_only_what_softens_is_strong():
    settings = [METHOD.setting_type(output_temperature=each) for each in (0.5, 1, 2)]
    assert [METHOD().strength(each, None) for each in settings] == [0, 0, math.log(2)]


def test_the_factor_of_a_model_whose_logits_are_scaled_is_found():
    """The tokens are drawn from the model, so that 1 is its own best temperature and 1.3 the copy's."""
    model, tokenizer = test_language_modelling.build("llama"), word_tokenizer("<s> $A")
    scaled = test_language_modelling.build("llama")
    scaled.lm_head.weight.data *= 1.3
    torch.manual_seed(0)
    ids = torch.full((64, 1), tokenizer.bos_token_id)
    with torch.inference_mode():
        for _ in range(32):
            ids = torch.cat([ids, model(ids).logits[:, -1].softmax(-1).multinomial(1)], dim=1)
    task = test_language_modelling.modelling(model, tokenizer, window=64)
    encoded = EncodedTexts(ids[:, 1:].tolist(), [1] * 64, 0, ["a"] * 64)

    def best(model):
        method, scores = METHOD(), {}
        method.attach_(model, None, [])
        for temperature in [0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5]:
            method.set_(model, METHOD.setting_type(output_temperature=temperature))
            scores[temperature] = score(task.score(model, encoded), "nll")
        return min(scores, key=scores.get)

    assert (best(model), best(scaled)) == (1.0, 1.3)


@pytest.mark.parametrize(
    ("task", "beams", "unchanged"),
    [
        ("classification", 1, {"accuracy", "macro-f1"}),
        ("token-classification", 1, {"accuracy", "macro-f1", "f1"}),
        ("multiple-choice", 1, set()),
        ("language-modelling", 1, set()),
        ("translation", 4, set()),
        ("translation", 1, set(TASKS["translation"].metrics()) - LIKELIHOOD),
    ],
)
def test_it_says_which_metrics_it_cannot_change(task, beams, unchanged):
    metrics = TASKS[task].metrics()
    evaluation = Evaluation(metrics=metrics, generation={"num_beams": beams})
    assert METHOD.unchanged(TASKS[task], evaluation) == unchanged
    assert METHODS["temperature"].unchanged(TASKS[task], evaluation) == set()
