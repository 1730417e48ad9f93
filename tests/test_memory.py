import pytest
import torch

import nvreg
from nvreg.config import Evaluation, Reading
from nvreg.data import Examples
from nvreg.memory import in_halves, over_rows
from nvreg.methods import METHODS
from nvreg.methods.change import attention_change
from nvreg.models.registry import attention_modules
from nvreg.tasks import make_task
from tests.estimation.test_calibration import sample
from tests.models.running import of
from tests.tiny import tiny_marian

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
]


def failing_beyond(limit, error, done):
    def run(group):
        if len(group) > limit:
            raise error
        done.append(group)

    return run


@pytest.mark.parametrize("error", ERRORS)
def test_what_does_not_fit_runs_in_halves_in_order(error):
    done = []
    halved = in_halves([[0, 1, 2, 3, 4], [5, 6]], failing_beyond(2, error, done))
    assert done == [[0, 1], [2], [3, 4], [5, 6]]
    assert halved == 2


def test_an_example_that_does_not_fit_by_itself_is_an_error():
    done = []
    with pytest.raises(torch.OutOfMemoryError):
        in_halves([[0, 1]], failing_beyond(0, ERRORS[0], done))
    assert done == []


def test_any_other_error_is_not_caught():
    with pytest.raises(RuntimeError, match="shapes"):
        in_halves([[0, 1]], failing_beyond(1, RuntimeError("shapes differ"), []))


def test_a_real_failure_of_the_cpu_allocator_is_recognised():
    sizes = []

    def run(group):
        sizes.append(len(group))
        if len(group) > 1:
            torch.empty(2**60)

    assert in_halves([[0, 1]], run) == 1
    assert sizes == [2, 1, 1]


def test_the_rows_of_a_batch_that_does_not_fit_run_in_halves():
    batch = {"ids": torch.arange(10).reshape(5, 2), "label": torch.arange(5)}
    seen = []

    def run(part):
        if len(part["ids"]) > 2:
            raise ERRORS[0]
        seen.append(part)

    assert over_rows(batch, run) == 2
    assert [len(part["label"]) for part in seen] == [2, 1, 2]
    for name, tensor in batch.items():
        assert torch.equal(torch.cat([part[name] for part in seen]), tensor)


@of("marian", "gpt2")
def test_prior_and_change_are_the_same_in_halves(architecture):
    model = architecture.build()
    method = METHODS["temperature"]()

    def prior():
        moments = nvreg.estimate_prior(model, sample(architecture))
        return [value for site in moments.values() for value in (site.mean, site.variance, site.tokens)]

    def change():
        method.attach_(model, None, ())
        changes = attention_change(model, method, method.setting_type(temperature=2.0), sample(architecture))
        method.detach_(model)
        return list(changes.values())

    expected = [prior(), change()]
    refused = []

    def refuse(module, args, kwargs):
        if len(args[0] if args else kwargs["hidden_states"]) > 1:
            refused.append(module)
            raise ERRORS[0]

    last = list(attention_modules(model).values())[-1][1]
    last.register_forward_pre_hook(refuse, with_kwargs=True)
    torch.testing.assert_close([prior(), change()], expected)
    assert refused


@pytest.mark.parametrize("metrics", [["nll"], ["bleu"], ["nll", "bleu"]])
def test_a_task_scores_the_same_in_halves_and_counts_them(metrics):
    model, tokenizer = tiny_marian()
    evaluation = Evaluation(metrics=metrics, generation={"num_beams": 1, "max_new_tokens": 6})
    task = make_task("translation", tokenizer, model.config, data=Reading(), evaluation=evaluation)
    encoded = task.encode(Examples([{"source": "a cat " * n, "target": "Kater " * n} for n in range(1, 8)]))
    expected = task.score(model, encoded)
    assert task.halved == 0

    def refuse(module, args, kwargs):
        if len(kwargs["input_ids"]) > 2:
            raise ERRORS[0]

    hook = model.get_encoder().register_forward_pre_hook(refuse, with_kwargs=True)
    frame = task.score(model, encoded)
    hook.remove()
    assert task.halved == 3
    assert list(frame.columns) == list(expected.columns)
    for column in set(frame) - {"prediction"}:
        for row, other in zip(frame[column], expected[column], strict=True):
            assert row == pytest.approx(other, rel=1e-6)
