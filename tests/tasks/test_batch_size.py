"""How much is scored at a time: by memory on GPUs, by speed elsewhere; GPUs and clocks are pretended."""

import re
from types import SimpleNamespace

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from nvreg.config import Evaluation, Reading
from nvreg.data import Examples
from nvreg.metrics import score
from nvreg.results import BatchSize
from nvreg.tasks import batch_size as module
from nvreg.tasks import make_task
from nvreg.tasks.base import BATCH_TOKENS
from nvreg.tasks.batch_size import (
    MOST_ON_GPU,
    SHARE_OF_MEMORY,
    fastest,
    find_batch_size,
    that_fits,
    tokens_that_fit,
)
from tests.models.architectures import VOCABULARY
from tests.tasks import test_classification
from tests.tasks.test_contract import FirstToken
from tests.tiny import tiny_marian, word_tokenizer

LENGTHS = [10 + number % 50 for number in range(600)]
"""Tokens of some rows, far more than any size that is tried."""


# --- memory -----------------------------------------------------------------------------------------


@given(st.floats(1e-3, 1e9), st.integers(0, 10**12), st.floats(1, 10), st.integers(1, 10**11))
def test_what_is_taken_fits_and_more_memory_never_makes_it_less(each, free, times, more):
    tokens = tokens_that_fit(each, free)
    assert tokens in [2**power for power in range(15)]
    assert tokens <= MOST_ON_GPU
    assert tokens * each <= SHARE_OF_MEMORY * free or tokens == 1
    assert 2 * tokens * each > SHARE_OF_MEMORY * free or tokens == MOST_ON_GPU
    assert tokens_that_fit(each, free + more) >= tokens >= tokens_that_fit(each * times, free)


class PretendedGPUs:
    """GPUs of which each batch takes so many bytes a padded token beside what the model holds."""

    def __init__(self, patch, lengths, *, free, kept=(0, 0), each=(1000, 1000)):
        self.lengths, self.each = lengths, each
        self.held, self.peaks, self.batches = [10**9, 10**9], [10**9, 10**9], []
        self.devices = [torch.device("cuda", number) for number in range(len(free))]
        patch.setattr(torch.cuda, "memory_allocated", lambda device: self.held[device.index])
        patch.setattr(torch.cuda, "max_memory_allocated", lambda device: self.peaks[device.index])
        patch.setattr(
            torch.cuda, "memory_reserved", lambda device: self.held[device.index] + kept[device.index]
        )
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (free[device.index], 10**12))
        patch.setattr(torch.cuda, "reset_peak_memory_stats", self.reset)

    def reset(self, device):
        self.peaks[device.index] = self.held[device.index]

    def run(self, rows):
        first = not self.batches
        self.batches.append(rows)
        for number, each in enumerate(self.each):
            taken = self.held[number] + each * len(rows) * max(self.lengths[row] for row in rows)
            self.peaks[number] = max(self.peaks[number], taken * (2 if first else 1))

    @property
    def model(self):
        return SimpleNamespace(parameters=lambda: [SimpleNamespace(device=each) for each in self.devices])


def test_a_gpu_takes_what_half_of_its_free_memory_holds_by_its_longest_rows(monkeypatch):
    gpus = PretendedGPUs(monkeypatch, LENGTHS, free=[10_000_000])
    size = that_fits(gpus.model, LENGTHS, gpus.run)
    assert size == BatchSize(tokens=4096, found="a token takes 1 kB, and 0.0 GB of cuda:0 are free")
    assert [sorted(LENGTHS[row] for row in rows) for rows in gpus.batches] == [sorted(LENGTHS)[-34:]] * 2


def test_what_pytorch_keeps_unused_is_free_and_the_fullest_of_several_gpus_decides(monkeypatch):
    gpus = PretendedGPUs(monkeypatch, LENGTHS, free=[10_000_000, 10_000_000], kept=(7_000_000, 0))
    assert that_fits(gpus.model, LENGTHS, gpus.run).tokens == 4096
    gpus = PretendedGPUs(monkeypatch, LENGTHS, free=[10_000_000, 90_000_000], kept=(7_000_000, 0))
    assert that_fits(gpus.model, LENGTHS, gpus.run).tokens == 8192


def test_a_gpu_that_has_room_for_any_size_takes_the_largest_that_pays(monkeypatch):
    gpus = PretendedGPUs(monkeypatch, LENGTHS, free=[10**11])
    assert that_fits(gpus.model, LENGTHS, gpus.run).tokens == MOST_ON_GPU


# --- speed ------------------------------------------------------------------------------------------


class Pretended:
    """A clock, and a run that takes time by the padded tokens of its batch: a pace, or several one by one."""

    def __init__(self, usual=1000.0, **paces):
        self.now, self.tried = 0.0, []
        self.usual, self.paces = usual, {int(size[1:]): pace for size, pace in paces.items()}

    def run(self, rows):
        padded = len(rows) * max(LENGTHS[row] for row in rows)
        size = 1 << (padded - 1).bit_length()
        pace = self.paces.get(size, self.usual)
        if isinstance(pace, list):
            pace = pace.pop(0) if len(pace) > 1 else pace[0]
        self.now += sum(LENGTHS[row] for row in rows) / pace
        if not self.tried or self.tried[-1] != size:
            self.tried.append(size)

    def size(self, **options):
        options = {"scored": 10**7, "clock": lambda: self.now, **options}
        return fastest(LENGTHS, self.run, **options)


@pytest.mark.parametrize(
    ("paces", "tokens", "tried"),
    [
        ({"_4096": 990.0, "_1024": 900.0}, 2048, [512, 2048, 4096, 1024]),
        ({"_4096": 1050.0, "_8192": 1090.0, "_1024": 900.0}, 2048, [512, 2048, 4096, 8192, 1024]),
        ({"_4096": 1200.0}, 4096, [512, 2048, 4096, 8192, 1024, 4096, 2048]),
        ({"_4096": 1200.0, "_8192": 1500.0}, 8192, [512, 2048, 4096, 8192, 1024, 8192, 2048]),
        ({"_1024": 1300.0}, 1024, [512, 2048, 4096, 1024, 512, 1024, 2048]),
        ({"_1024": 1300.0, "_512": 1400.0}, 512, [512, 2048, 4096, 1024, 512, 2048]),
        ({"_4096": [1300.0, 1000.0]}, 2048, [512, 2048, 4096, 8192, 1024, 4096, 2048]),
    ],
)
def test_another_size_is_taken_where_it_is_clearly_faster_twice(paces, tokens, tried):
    pretended = Pretended(**paces)
    size = pretended.size()
    assert size.tokens == tokens
    assert pretended.tried == tried
    assert size.found.startswith("tokens a second by size are ")
    assert (tokens == 2048) == size.found.endswith("; none is clearly faster than the usual")
    assert f"{tokens}: {paces.get(f'_{tokens}', 1000):.0f}" in size.found


@settings(max_examples=20)
@given(st.lists(st.floats(950, 1044), min_size=5, max_size=5))
def test_a_clock_that_is_a_little_wrong_changes_nothing(paces):
    sizes = ("_512", "_1024", "_2048", "_4096", "_8192")
    assert Pretended(**dict(zip(sizes, paces, strict=True))).size().tokens == 2048


def test_trying_takes_a_hundredth_of_all_scoring_and_no_more():
    pretended = Pretended(_4096=2000.0)
    assert pretended.size(scored=200_000).tokens == 2048
    assert pretended.tried == [512, 2048]


def test_logits_are_not_let_grow_beyond_a_gigabyte():
    pretended = Pretended(_4096=2000.0, _8192=4000.0)
    assert pretended.size(most=4096).tokens == 4096
    assert 8192 not in pretended.tried
    pretended = Pretended(_512=4000.0, _1024=2000.0)
    assert pretended.size(most=100).tokens == 512


def test_sizes_that_no_data_set_fills_are_not_tried():
    pretended = Pretended()
    few = LENGTHS[:100]
    assert BATCH_TOKENS < sum(few) < 4096
    fastest(few, pretended.run, 10**7, clock=lambda: pretended.now)
    assert 4096 not in pretended.tried


# --- both, with a task --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def marian():
    return tiny_marian()


@pytest.fixture
def translation(marian):
    model, tokenizer = marian
    evaluation = Evaluation(metrics=["nll", "bleu"], generation={"num_beams": 2, "max_new_tokens": 6})
    return make_task("translation", tokenizer, model.config, data=Reading(), evaluation=evaluation)


@pytest.fixture
def encoded(translation):
    texts = [{"source": "a cat " * n, "target": "Kater " * n} for n in range(1, 12)]
    return translation.encode(Examples(texts))


@pytest.fixture
def everything_pays(monkeypatch):
    monkeypatch.setattr(module, "LEAST_WORK", 0)
    monkeypatch.setattr(module, "LEAST_BATCHES", 0)


def test_where_little_is_scored_nothing_is_run(marian, translation, encoded):
    model, _ = marian
    hook = model.register_forward_pre_hook(lambda *_: pytest.fail("the model is run"))
    size = find_batch_size(model, translation, [encoded, encoded], repeats=100)
    hook.remove()
    assert size == BatchSize(tokens=2048, found="too little is scored for another size to pay")


@pytest.mark.parametrize("many", ["repeats", "work"])
def test_much_is_what_takes_long_and_many_batches(marian, translation, encoded, monkeypatch, many):
    model, _ = marian
    tokens = 2 * sum(translation.lengths(encoded))
    monkeypatch.setattr(module, "LEAST_WORK", tokens * model.num_parameters() + (many == "repeats"))
    monkeypatch.setattr(module, "LEAST_BATCHES", tokens * 3 / BATCH_TOKENS + (many == "work"))
    little = "too little is scored for another size to pay"
    assert find_batch_size(model, translation, [encoded, encoded], repeats=3).found == little
    monkeypatch.setattr(module, "LEAST_WORK", module.LEAST_WORK - (many == "repeats"))
    monkeypatch.setattr(module, "LEAST_BATCHES", module.LEAST_BATCHES - (many == "work"))
    assert find_batch_size(model, translation, [encoded, encoded], repeats=3).found != little


def test_it_is_tried_by_what_scoring_runs_and_nothing_stays_of_it(
    marian, translation, encoded, everything_pays
):
    model, _ = marian
    generated = []
    generate = model.generate
    model.generate = lambda **inputs: generated.append(len(inputs["attention_mask"])) or generate(**inputs)
    expected = translation.score(model, encoded)
    generated.clear()
    size = find_batch_size(model, translation, [encoded])
    del model.generate
    assert generated, "generation is part of what is tried"
    assert size.found.startswith("tokens a second by size are ")
    assert (translation.batch_tokens, translation.halved) == (2048, 0)
    translation.batch_tokens = 20
    frame = translation.score(model, encoded)
    for name in ("nll", "bleu"):
        assert score(frame, name) == pytest.approx(score(expected, name), rel=1e-6)


def test_a_clock_is_not_read_before_a_device_has_computed(
    marian, translation, encoded, everything_pays, monkeypatch
):
    model, _ = marian
    waited = []
    monkeypatch.setattr(module, "device_of", lambda model: torch.device("mps"))
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    size = find_batch_size(model, translation, [encoded])
    assert size.found.startswith("tokens a second by size are ")
    assert set(waited) == {torch.device("mps")}


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), "nan"])
def test_what_is_wrong_with_a_model_is_left_to_scoring_to_say(
    marian, translation, encoded, everything_pays, error
):
    model, _ = marian

    def fail(module, inputs, output):
        if error != "nan":
            raise error
        output.logits.fill_(torch.nan)

    hook = model.register_forward_hook(fail)
    size = find_batch_size(model, translation, [encoded])
    hook.remove()
    assert size == BatchSize(tokens=2048, found="no other could be tried")
    assert len(translation.score(model, encoded)) == 11


def test_a_task_that_forms_its_batches_itself_is_not_run(marian, everything_pays):
    model, tokenizer = marian
    task = FirstToken(tokenizer, model.config, Reading(), Evaluation(metrics=["nll"]))
    encoded = task.encode(Examples([{"source": "a cat", "target": ""}] * 5))
    hook = model.register_forward_pre_hook(lambda *_: pytest.fail("the model is run"))
    size = find_batch_size(model, task, [encoded])
    hook.remove()
    assert size == BatchSize(tokens=2048, found="this task scores alike at any size")


def test_what_is_read_teacher_forced_is_the_same_whatever_is_found(translation, encoded):
    def read():
        batches = translation.teacher_forced(encoded)
        return [{name: ids.tolist() for name, ids in batch.items()} for batch in batches]

    before = read()
    translation.batch_tokens = 1
    assert read() == before


def test_rows_that_cannot_be_padded_are_scored_one_by_one_whatever_is_found(everything_pays):
    model, tokenizer = test_classification.build("gpt2"), word_tokenizer("$A")
    model.config.pad_token_id = VOCABULARY
    task = test_classification.classification(model, tokenizer)
    encoded = task.encode(test_classification.examples())
    assert find_batch_size(model, task, [encoded]).found == "this task scores alike at any size"
    rows = []
    hook = model.register_forward_pre_hook(
        lambda _, __, inputs: rows.append(len(inputs["input_ids"])), with_kwargs=True
    )
    task.batch_tokens = 4096
    task.score(model, encoded)
    hook.remove()
    assert set(rows) == {1}


@pytest.mark.gpu
def test_on_a_gpu_what_is_found_fits(translation, encoded, everything_pays):
    model = tiny_marian()[0].cuda()
    size = find_batch_size(model, translation, [encoded])
    assert size.tokens == MOST_ON_GPU
    assert re.fullmatch(r"a token takes \d+ kB, and [\d.]+ GB of cuda:\d are free", size.found)
    assert translation.batch_tokens == BATCH_TOKENS
    translation.batch_tokens = size.tokens
    assert len(translation.score(model, encoded)) == 11
    assert translation.halved == 0
