"""Monte Carlo dropout: what is dropped, that it is the same again, and that it is dropout."""

import math
from contextlib import ExitStack

import pytest
import torch
from torch import nn

from nvreg.config import Evaluation, Reading
from nvreg.data import Examples
from nvreg.errors import UserError
from nvreg.experiment import load_experiment
from nvreg.finetune.dropout import layers_kept
from nvreg.methods import METHODS
from nvreg.metrics import score
from nvreg.models import passes
from nvreg.models.passes import DropoutPasses, _Dropout, _mixed
from nvreg.results import read_trials
from nvreg.sweep.runner import run_sweep
from nvreg.tasks import make_task
from tests.fake_gpu import NothingReachesTheHost, on_fake_gpu
from tests.models.architectures import ARCHITECTURES
from tests.models.running import of
from tests.tasks import (
    test_classification,
    test_language_modelling,
    test_multiple_choice,
    test_token_classification,
)
from tests.tiny import tiny_marian, word_tokenizer

METHOD = METHODS["mc-dropout"]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def attached(model, passes=3, **values):
    method = METHOD(passes=passes)
    method.attach_(model, None, [])
    method.set_(model, METHOD.setting_type(**values))
    return method


def with_rates(name, rate=0.2, **options):
    """A model of an architecture with dropout, in evaluation mode."""
    (architecture,) = [each for each in ARCHITECTURES if each.name == name]
    model = architecture.build(dtype=torch.float32, **options)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
        for attribute, value in vars(module).items():
            if "dropout" in attribute and isinstance(value, int | float):
                setattr(module, attribute, rate)
    model.config.dropout = rate
    return architecture, model


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_so_many_values_are_dropped_and_the_others_scaled_up(rate):
    keys = _mixed(torch.arange(8))
    values = torch.ones(8, 40, 50)
    with _Dropout(keys, [40], lambda own: rate):
        dropped, again = nn.functional.dropout(values, 0.3), nn.functional.dropout(values, 0.3)
    assert set(dropped.unique().tolist()) == {0.0, values.new_tensor(1 / (1 - rate)).item()}
    is_dropped = (dropped == 0).double()
    assert is_dropped.mean().item() == pytest.approx(rate, abs=4 * math.sqrt(rate * (1 - rate) / 16_000))
    for other in ((again == 0).double(), is_dropped.roll(1, 0), is_dropped.roll(1, 1), is_dropped.roll(1, 2)):
        correlation = torch.corrcoef(torch.stack([is_dropped.flatten(), other.flatten()]))[0, 1]
        assert abs(correlation) < 4 / math.sqrt(16_000)


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 2, 5, 7), (4, 0, 5)])
def test_what_is_dropped_does_not_depend_on_how_much_is_hashed_at_once(shape, monkeypatch):
    keys, values = _mixed(torch.arange(4)), torch.ones(shape)
    kept = []
    for entries in (2**14, 12, 1):
        monkeypatch.setattr(passes, "_CACHED", entries)
        with _Dropout(keys, [3], lambda own: 0.5):
            kept.append(nn.functional.dropout(values))
    assert torch.equal(kept[0], kept[1])
    assert torch.equal(kept[0], kept[2])


@pytest.mark.parametrize("attention", ["sdpa", pytest.param("eager", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["bart", "t5", "bert", "gpt2", "llama"])
def test_many_passes_are_the_mean_of_training_mode(name, attention):
    """Both means are over draws of their own: they agree as their standard error says."""
    passes, drawn = 100, 1000
    architecture, model = with_rates(name, attention=attention)
    inputs = architecture.inputs(model)
    torch.manual_seed(0)
    model.train()
    with layers_kept(model):
        many = {key: ids.repeat(drawn, 1) for key, ids in inputs.items()}
        draws = model(**many).logits.softmax(-1).unflatten(0, (drawn, -1))
    model.eval()
    plain = model(**inputs).logits.softmax(-1)
    attached(model, passes=passes, rate_scale=1.0)
    got = model(**inputs).logits.exp()
    error = draws.std(0) * math.sqrt(1 / passes + 1 / drawn)
    distances = ((got - draws.mean(0)) / error).abs()
    assert distances.median() < 1.2
    assert (distances < 4).double().mean() > 0.98
    assert ((plain - draws.mean(0)) / error).abs().median() > 2  # which is not what one pass without says


@of("bart", "gpt2", "bert")
def test_the_passes_are_those_of_other_seeds_and_are_repeated(architecture):
    _, model = with_rates(architecture.name)
    inputs = architecture.inputs(model)
    method = attached(model, rate=0.2)
    first = model(**inputs).logits
    assert torch.equal(model(**inputs).logits, first)
    method.set_(model, METHOD.setting_type(rate=0.2, seed=1))
    assert not torch.allclose(model(**inputs).logits, first)
    method.set_(model, METHOD.setting_type(rate=0.2))
    assert torch.equal(model(**inputs).logits, first)


def test_probabilities_of_a_batch_are_normalised_and_more_passes_are_others():
    architecture, model = with_rates("bert")
    inputs = architecture.inputs(model)
    one, three = (self_logits(with_rates("bert")[1], inputs, passes) for passes in (1, 3))
    assert one.exp().sum(-1) == pytest.approx(1)
    assert three.exp().sum(-1) == pytest.approx(1)
    assert not torch.allclose(one, three)


def self_logits(model, inputs, passes):
    attached(model, passes=passes, rate=0.3)
    return model(**inputs).logits


def classification(size):
    model, tokenizer = test_classification.build("bert"), word_tokenizer("<s> $A </s>")
    return model, test_classification.classification(model, tokenizer, size), test_classification.examples()


def token_classification(size):
    model, tokenizer = test_token_classification.build("bert"), test_token_classification.tokenizer_of("bert")
    task = test_token_classification.token_classification(model, tokenizer, size)
    return model, task, test_token_classification.examples()


def multiple_choice(size):
    model, tokenizer = test_multiple_choice.build("gpt2"), word_tokenizer("<s> $A")
    task = test_multiple_choice.multiple_choice(model, tokenizer, size)
    return model, task, test_multiple_choice.QUESTIONS


def language_modelling(name):
    def build(size):
        model = test_language_modelling.build(name)
        tokenizer = word_tokenizer(test_language_modelling.KINDS[name])
        return (
            model,
            test_language_modelling.modelling(model, tokenizer, size),
            test_language_modelling.texts(),
        )

    return build


def translation(size):
    model, tokenizer = tiny_marian()
    evaluation = Evaluation(metrics=["nll"], batch_tokens=size)
    task = make_task("translation", tokenizer, model.config, data=Reading(), evaluation=evaluation)
    pairs = [("a small cat", "ein klein Kater"), ("the dog sees a tree .", "Hund sieht Baum ."), ("a", "ein")]
    return model, task, Examples([{"source": source, "target": target} for source, target in pairs])


BUILT = {
    "classification": classification,
    "token-classification": token_classification,
    "multiple-choice": multiple_choice,
    "translation": translation,
    **{f"language-modelling {name}": language_modelling(name) for name in test_language_modelling.KINDS},
}


@pytest.mark.parametrize("case", BUILT)
def test_scores_do_not_depend_on_the_size_of_batches(case):
    scores = []
    for size in (1, 40, 100_000):
        model, task, examples = BUILT[case](size)
        encoded = task.encode(examples)
        plain = score(task.score(model, encoded), "nll")
        attached(model, rate=0.3)
        scores.append(score(task.score(model, encoded), "nll"))
        assert abs(scores[-1] - plain) > 1e-4
    assert scores == pytest.approx(scores[:1] * 3, rel=1e-6)


def test_the_encoder_of_a_translation_drops_too():
    model, task, examples = translation("auto")
    encoded = task.encode(examples)
    attached(model, rate=0.3)
    runs = []
    model.get_encoder().register_forward_pre_hook(lambda *_: runs.append(1))
    inside = score(task.score(model, encoded), "nll")
    assert len(runs) == 3
    decoder_alone = DecoderAlone()
    outside = score(task.score(model, encoded, encoder_states=decoder_alone), "nll")
    assert inside != pytest.approx(outside, rel=1e-4)


class DecoderAlone:
    """Gives a model the states of its encoder."""

    def of_encoder(self, model, inputs):
        return model.get_encoder()(**inputs).last_hidden_state


def test_a_checkpoint_without_rates_is_told_to_search_rate():
    (architecture,) = [each for each in ARCHITECTURES if each.name == "llama"]
    model = architecture.build()
    model.config.attention_dropout = 0.0
    method = attached(model)
    with pytest.raises(ValueError, match="rate_scale: expected a checkpoint with rates of dropout"):
        method.set_(model, METHOD.setting_type(rate_scale=1))
    method.set_(model, METHOD.setting_type(rate=0.1))


def test_tensors_of_other_rows_than_those_of_examples_are_refused():
    with (
        _Dropout(torch.arange(3), [4], lambda own: 0.5),
        pytest.raises(UserError, match=r"3 examples, got one of shape \(6, 8\)"),
    ):
        nn.functional.dropout(torch.ones(6, 8))
    with _Dropout(torch.arange(3), [4], lambda own: 0.5):
        flat, heads = nn.functional.dropout(torch.ones(12, 8)), nn.functional.dropout(torch.ones(6, 4, 4))
    assert flat.shape == (12, 8)
    assert heads.shape == (6, 4, 4)


def test_one_of_rate_and_rate_scale_is_given():
    with pytest.raises(ValueError, match="expected rate or rate_scale, got both"):
        METHOD.setting_type(rate=0.1, rate_scale=1)


def test_a_replaced_forward_of_the_model_is_given_back():
    _, model = with_rates("bert")
    replaced = model.forward
    model.forward = replaced
    passes = DropoutPasses(model, 2)
    passes.revert()
    assert vars(model)["forward"] is replaced


SWEEP = "sweep={sampler: grid, method: mc-dropout, passes: 2, space: {rate: {values: [0.1, 0.3]}}}"


def test_a_sweep_scores_likelihood_and_repeats_itself(tiny_experiment, tmp_path):
    nll = []
    for output in ("one", "two"):
        options = [SWEEP, "evaluation.metrics=[nll]", "selection.metric=nll", f"output={tmp_path / output}"]
        assert run_sweep(load_experiment(tiny_experiment, options), quiet=True) == (3, 0, 0)
        trials = list(read_trials(tmp_path / output / "trials.jsonl"))
        nll.append([trial.metrics["away"]["test"]["nll"] for trial in trials])
        assert [trial.strength for trial in trials] == pytest.approx([0, 0.1, 0.3])
    assert nll[0] == nll[1]
    assert len(set(nll[0])) == 3


def test_generated_text_is_refused_when_the_file_is_read(tiny_experiment):
    with pytest.raises(UserError, match="generated text with mc-dropout, which generates none, got bleu"):
        load_experiment(tiny_experiment, [SWEEP])


def test_a_layer_may_be_on_another_gpu_than_the_inputs():
    with ExitStack() as modes:
        keys, values = on_fake_gpu(modes, (torch.zeros(2, dtype=torch.int64), torch.zeros(2, 3, 4)))
        values = values.to("cuda:1")
        modes.enter_context(NothingReachesTheHost())
        modes.enter_context(_Dropout(keys, (3,), lambda own: own))
        assert nn.functional.dropout(values, 0.5).device == torch.device("cuda:1")
