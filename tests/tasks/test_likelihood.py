import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nvreg.tasks.likelihood import negative_log_likelihood


@given(rows=st.integers(1, 4), positions=st.integers(1, 5), seed=st.integers(0, 100))
def test_sums_what_is_scored_of_each_row(rows, positions, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(rows, positions, 7, generator=generator)
    labels = torch.randint(-1, 7, (rows, positions), generator=generator)
    labels[labels < 0] = -100
    log_probability = logits.double().log_softmax(-1)
    expected = [
        -sum(
            log_probability[row, position, label] for position, label in enumerate(labels[row]) if label >= 0
        )
        for row in range(rows)
    ]
    received = negative_log_likelihood(logits, labels)
    assert received.dtype == torch.float64
    torch.testing.assert_close(received, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits_are_normalised_in_float32(dtype):
    logits = torch.randn(2, 3000, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = torch.zeros(2, 3000, dtype=torch.long)
    expected = -logits.double().log_softmax(-1)[..., 0].sum(1)
    torch.testing.assert_close(negative_log_likelihood(logits, labels), expected, rtol=1e-6, atol=0)
