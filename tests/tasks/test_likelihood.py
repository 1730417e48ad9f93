import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from nvreg.models.teacher_forcing import decoder_inputs
from nvreg.tasks.likelihood import negative_log_likelihood
from tests.models.architectures import ARCHITECTURES, random_ids

LANGUAGE_MODELS = [each for each in ARCHITECTURES if "TokenClassification" not in each.model_class]


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
    log_probability = model(hidden, use_cache=False).logits.detach().double().log_softmax(-1)
    expected = [
        -sum(
            log_probability[row, position, label] for position, label in enumerate(labels[row]) if label >= 0
        )
        for row in range(rows)
    ]
    with torch.inference_mode():
        got = negative_log_likelihood(model, labels, hidden=hidden)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)
    assert model(hidden, use_cache=False).logits.shape == (rows, positions, 7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits_are_normalised_in_float32(dtype):
    model = Projection(5, dtype)
    hidden = torch.randn(2, 700, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = torch.zeros(2, 700, dtype=torch.long)
    with torch.inference_mode():
        expected = -model(hidden, use_cache=False).logits.double().log_softmax(-1)[..., 0].sum(1)
        got = negative_log_likelihood(model, labels, hidden=hidden)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("architecture", LANGUAGE_MODELS, ids=str)
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
        got = negative_log_likelihood(model, labels, **inputs)
        logits = model(**inputs).logits
    assert projected[0][0] == (labels != -100).sum()
    rows = nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none").sum(1)
    torch.testing.assert_close(got, rows, rtol=1e-5, atol=1e-5)
    if architecture.is_encoder_decoder:
        loss = model(input_ids=inputs["input_ids"], labels=labels).loss
        assert got.sum().item() == pytest.approx(loss.item() * (labels != -100).sum().item(), rel=1e-5)
