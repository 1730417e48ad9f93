import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

import nvreg
from nvreg.config import Evaluation, Reading
from nvreg.data import Examples
from nvreg.models.teacher_forcing import decoder_inputs
from nvreg.tasks import forward, make_task
from nvreg.tasks.forward import ByRow, EncoderStates, negative_log_likelihood
from tests.models.architectures import ARCHITECTURES, random_ids, random_prior
from tests.models.running import each_of
from tests.tiny import LEXICON, word_tokenizer

CASES = [
    ("marian", 1),
    *((name, 3) for name in ("marian", "bart", "m2m_100", "blenderbot", "t5", "bert to gpt2")),
]


def examples(count=12):
    generator, words = torch.Generator().manual_seed(0), list(LEXICON)
    return Examples(
        [
            {
                side: " ".join(
                    words[index] for index in torch.randint(13, (2 + number,), generator=generator)
                )
                for side in ("source", "target")
            }
            for number in range(count)
        ]
    )


def build(name):
    (architecture,) = [each for each in ARCHITECTURES if each.name == name]
    return architecture.build(dtype=torch.float32)


@pytest.fixture
def marian():
    return build("marian")


def translation(model, beams=1, batch_tokens=30):
    generation = {"num_beams": beams, "max_new_tokens": 6}
    evaluation = Evaluation(metrics=["nll", "bleu"], batch_tokens=batch_tokens, generation=generation)
    return make_task(
        "translation", word_tokenizer("$A </s>"), model.config, data=Reading(), evaluation=evaluation
    )


class Runs:
    """Counts how often the encoder runs."""

    def __init__(self, model):
        self.count = 0
        model.get_encoder().register_forward_pre_hook(self.add)

    def add(self, *call):
        self.count += 1


@pytest.mark.parametrize(("name", "beams"), CASES)
def test_scores_with_kept_states_are_identical_and_the_encoder_does_not_run_again(name, beams):
    model = build(name)
    task, runs, kept = translation(model, beams), Runs(model), EncoderStates(10**9)
    encoded = task.encode(examples())
    expected = task.score(model, encoded)
    batches = runs.count
    assert batches > 3
    kept.use("setting")
    for _ in range(3):
        frame = task.score(model, encoded, encoder_states=kept)
        assert frame.equals(expected)
    assert runs.count == 2 * batches


def test_decoder_settings_are_scored_with_kept_states_as_without(marian):
    task, kept = translation(marian, beams=2), EncoderStates(10**9)
    encoded = task.encode(examples())
    nvreg.convert_(marian, random_prior(marian), nvreg.Settings(tau_alpha={"encoder": 1.0}))
    kept.use("encoder 1.0")
    for cross in (0.0, 0.5):
        nvreg.set_settings_(marian, nvreg.Settings(tau_alpha={"encoder": 1.0, "cross": cross}))
        frame = task.score(marian, encoded, encoder_states=kept)
        assert frame.equals(task.score(marian, encoded))
    nvreg.set_settings_(marian, nvreg.Settings(tau_alpha={"encoder": -1.0, "cross": 0.5}))
    kept.use("encoder -1.0")
    changed = task.score(marian, encoded, encoder_states=kept)
    assert changed.equals(task.score(marian, encoded))
    assert not changed.equals(frame)


def test_another_key_drops_everything_and_the_same_key_nothing(marian):
    task, runs, kept = translation(marian), Runs(marian), EncoderStates(10**9)
    encoded = task.encode(examples())
    counts, sizes = [], []
    for key in ("a", "a", "b", "a"):
        kept.use(key)
        task.score(marian, encoded, encoder_states=kept)
        counts.append(runs.count)
        sizes.append(kept.kept_bytes)
    assert counts == [counts[0], counts[0], 2 * counts[0], 3 * counts[0]]
    assert len(set(sizes)) == 1


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_memory_stays_within_the_budget_and_what_does_not_fit_is_run_again(marian, share):
    task, whole = translation(marian), EncoderStates(10**9)
    encoded = task.encode(examples())
    expected = task.score(marian, encoded, encoder_states=whole)
    budget = int(share * whole.kept_bytes)
    kept, runs = EncoderStates(budget), Runs(marian)
    sizes = []
    for _ in range(2):
        assert task.score(marian, encoded, encoder_states=kept).equals(expected)
        tensors = sum(tensor.numel() * tensor.element_size() for tensor in kept._kept.values())
        assert tensors == kept.kept_bytes <= budget
        sizes.append(kept.kept_bytes)
    assert sizes[0] == sizes[1] >= 0.5 * budget * (share > 0.1)
    batches = len({batch["input_ids"].shape for batch in task.teacher_forced(encoded)})
    assert batches < runs.count


def test_batches_that_differ_in_padding_alone_are_kept_apart(marian):
    kept = EncoderStates(10**9)
    ids = torch.tensor([[5, 6, 0]])
    for mask in ([[1, 1, 0]], [[1, 1, 1]]):
        inputs = {"input_ids": ids, "attention_mask": torch.tensor(mask)}
        expected = marian.get_encoder()(**inputs).last_hidden_state
        assert torch.equal(kept.of_encoder(marian, inputs), expected)
    assert kept.kept_bytes == 2 * expected.numel() * 4


LANGUAGE_MODELS = [
    each
    for each in ARCHITECTURES
    if "TokenClassification" not in each.model_class and each.model_type != "whisper"  # which reads no text
]


class Projection(nn.Module):
    """Output embeddings alone: of hidden states as they are."""

    def __init__(self, vocabulary=7, dtype=torch.float32):
        super().__init__()
        self.head = nn.Linear(4, vocabulary, dtype=dtype)
        self.projected = []
        self.head.register_forward_pre_hook(lambda _, hidden: self.projected.append(len(hidden[0])))

    def get_output_embeddings(self):
        return self.head

    def forward(self, hidden, use_cache):
        return CausalLMOutput(logits=self.head(hidden))


@given(rows=st.integers(1, 4), positions=st.integers(1, 5), seed=st.integers(0, 100))
def test_sums_what_is_scored_of_each_row(rows, positions, seed):
    generator, model = torch.Generator().manual_seed(seed), Projection()
    hidden = 5 * torch.randn(rows, positions, 4, generator=generator)
    labels = torch.randint(-1, 7, (rows, positions), generator=generator)
    labels[labels < 0] = -100
    logits, temperatures = model(hidden, use_cache=False).logits.detach().double(), (0.5, 1.0, 1.1, 4.0)
    of_labels = labels.clamp(min=0)[..., None]
    expected = [
        -(logits / each).log_softmax(-1).gather(2, of_labels)[..., 0].mul(labels >= 0).sum(1)
        for each in temperatures
    ]
    with torch.inference_mode():
        got = negative_log_likelihood(model, labels, temperatures, hidden=hidden)
        assert torch.equal(got[1], negative_log_likelihood(model, labels, hidden=hidden)[0])
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, torch.stack(expected), rtol=1e-6, atol=1e-5)
    assert model(hidden, use_cache=False).logits.shape == (rows, positions, 7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits_are_normalised_in_float32(dtype):
    model = Projection(5, dtype)
    hidden = torch.randn(2, 700, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = torch.zeros(2, 700, dtype=torch.long)
    with torch.inference_mode():
        expected = -model(hidden, use_cache=False).logits.double().log_softmax(-1)[..., 0].sum(1)
        got = negative_log_likelihood(model, labels, hidden=hidden)[0]
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)


def test_likelihoods_stay_on_the_device_until_a_data_set_has_run(monkeypatch):
    meta = torch.device("meta")  # nothing comes back from it
    monkeypatch.setattr(forward, "in_float64", torch.Tensor.double)  # as on a GPU
    labels, totals = torch.tensor([[1, 2, -100], [3, -100, -100]]), ByRow()
    with torch.inference_mode():
        for _ in range(2):
            nats = negative_log_likelihood(
                Projection().to(meta), labels, (1.0, 2.0), hidden=torch.ones(2, 3, 4, device=meta)
            )
            assert (nats.device, nats.shape, nats.dtype) == (meta, (2, 2), torch.float64)
            totals.add([0, 1], nats.T)
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        totals.whole(2, 2)


@pytest.mark.parametrize("architecture", each_of(LANGUAGE_MODELS))
def test_every_language_model_scores_what_it_predicts_at_scored_positions_alone(architecture):
    model, labels = architecture.build(), random_ids(3, 5, seed=1)
    labels[0, 3:] = -100
    inputs = {"input_ids": random_ids(3, 5)}
    if architecture.is_encoder_decoder:
        inputs["decoder_input_ids"] = decoder_inputs(model, labels)
    else:
        labels[1, :2] = -100
    projected = []
    model.get_output_embeddings().register_forward_hook(lambda _, hidden, out: projected.append(out.shape))
    with torch.inference_mode():
        got = negative_log_likelihood(model, labels, **inputs)[0]
        logits = model(**inputs).logits
    assert projected[0][0] == (labels != -100).sum()
    rows = nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none").sum(1)
    torch.testing.assert_close(got, rows, rtol=1e-5, atol=1e-5)
    if architecture.is_encoder_decoder:
        with torch.inference_mode():
            loss = model(input_ids=inputs["input_ids"], labels=labels).loss
        assert got.sum().item() == pytest.approx(loss.item() * (labels != -100).sum().item(), rel=1e-5)
