"""Each check of `nvreg.testing` passes what is sound, as nvreg's own tests show, and catches what is not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nvreg.methods import Method
from nvreg.metrics import METRICS
from nvreg.parameters import Parameter, Setting
from nvreg.protocols import PROTOCOLS, Protocol
from nvreg.testing import METHOD_CHECKS, SUBJECTS, check_metric, check_mistake, check_protocol, check_task
from tests.metrics.examples import likelihood_rows
from tests.tasks.test_not_finite import classifier

CHECKS = {check.__name__: check for check in METHOD_CHECKS}
GPT2 = next(each for each in SUBJECTS if each.name == "gpt2")
BERT = next(each for each in SUBJECTS if each.name == "bert")


class FactorSetting(Setting):
    parameters = {"factor": Parameter(1.0, "a number from 0 to 1", lambda v: 0 <= v <= 1)}  # noqa: RUF012


class Factor(Method):
    """Logits are multiplied by a factor."""

    name = "factor"
    setting_type = FactorSetting

    def attach_(self, model, prior, sample):
        self.factor = 1.0
        self.hook = model.get_output_embeddings().register_forward_hook(self.multiply)

    def multiply(self, module, inputs, outputs):
        return outputs * self.factor if self.factor != 1 else None

    def set_(self, model, setting):
        setting.check({"decoder": 4, "encoder": 3})
        self.factor = setting.value("factor", "decoder")

    def detach_(self, model):
        self.hook.remove()

    def strength(self, setting, record):
        return 1 - setting.value("factor", "decoder")


class AtOnce(Factor):
    def attach_(self, model, prior, sample):
        super().attach_(model, prior, sample)
        self.factor = 0.5


class Staying(Factor):
    def detach_(self, model):
        pass


class Idle(Factor):
    def multiply(self, module, inputs, outputs):
        return None


class Adding(Factor):
    def set_(self, model, setting):
        factor = setting.value("factor", "decoder")
        self.factor = self.factor * factor if factor != 1 else 1.0


class Weak(Factor):
    def strength(self, setting, record):
        return 0.0


class OfLength(Factor):
    def attach_(self, model, prior, sample):
        super().attach_(model, prior, sample)
        model.register_forward_pre_hook(self.measure, with_kwargs=True)

    def measure(self, module, inputs, options):
        self.length = options["input_ids"].shape[1]

    def multiply(self, module, inputs, outputs):
        shift = (torch.arange(outputs.shape[-1]) * self.length).remainder(7)
        return outputs * self.factor + shift if self.factor != 1 else None


class Careless(Factor):
    def set_(self, model, setting):
        self.factor = setting.value("factor", "decoder")


def run(check, method, subject=GPT2):
    CHECKS[check](method(), subject, {"factor": 0.9}, {"factor": 0.3})


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("subject", [GPT2, BERT], ids=str)
def test_what_is_sound_passes(check, subject):
    run(check, Factor, subject)


@pytest.mark.parametrize(
    ("check", "method", "said"),
    [
        ("check_attached", AtOnce, "attaching changed the outputs"),
        ("check_detached", Idle, "changes nothing"),
        ("check_detached", Staying, "the detached model is not the pretrained one"),
        ("check_setting", Adding, "is another after"),
        ("check_strength", Weak, "expected strengths that grow from 0 to 1, got 0.0 and 0.0"),
        ("check_generation", OfLength, "a cache changes what is generated"),
        ("check_padding", OfLength, "not close"),
        ("check_roles", Careless, "expected a ValueError with 'factor', got none"),
    ],
)
def test_a_method_that_breaks_a_promise_is_caught(check, method, said):
    with pytest.raises(AssertionError, match=said):
        run(check, method)


def test_a_value_that_ought_to_be_refused_is_caught():
    with pytest.raises(AssertionError, match="expected a ValueError with 'factor', got none"):
        check_mistake(Factor, {"factor": 0.5})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"signature": lambda _: ""}, "signature"),
        ({"of_corpus": lambda rows, counts: counts[:, 0]}, "resamples|repeating"),
        ({"of_corpus": lambda rows, counts: np.full(len(counts), rows[0, 0])}, "repeating|order"),
        ({"of_corpus": lambda rows, counts: (counts > 0) @ rows[:, 0]}, "repeating"),
        ({"of_examples": lambda rows: np.full(len(rows), np.nan)}, "not finite"),
    ],
)
def test_a_metric_that_breaks_a_promise_is_caught(changes, said):
    with pytest.raises(AssertionError, match=said):
        check_metric(replace(METRICS["nll"], **changes), likelihood_rows(1))


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (lambda evidence, domain: np.full(4, 9), "expected a candidate"),
        (lambda evidence, domain: np.full(4, 1), "of equal candidates the first has to win"),
        (lambda evidence, domain: np.argmax(evidence.scores["home"], axis=-1), "score is no number"),
        (lambda evidence, domain: np.zeros(3, int), "for each of 4 resamples"),
    ],
)
def test_a_protocol_that_breaks_a_promise_is_caught(rule, said):
    with pytest.raises((AssertionError, IndexError), match=said):
        check_protocol(Protocol(rule))
    check_protocol(PROTOCOLS["in-domain"])


def test_a_task_whose_scores_depend_on_the_batch_is_caught(monkeypatch):
    model, _, task, records = classifier()
    score = type(task).score

    def by_batch(self, model, encoded, **options):
        frame = score(self, model, encoded, **options)
        frame["likelihood"] = [[value + len(frame) for value in each] for each in frame["likelihood"]]
        return frame

    check_task(task, model, records)
    monkeypatch.setattr(type(task), "score", by_batch)
    with pytest.raises(AssertionError, match="scores otherwise in a batch than alone"):
        check_task(task, model, records)
