from contextlib import ExitStack

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nvreg.estimation.running import RunningHeadMoments, RunningMoments
from nvreg.models.teacher_forcing import RealTokens
from tests.fake_gpu import NothingReachesTheHost, on_fake_gpu


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**31),
    batches=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) > 1),
    offset=st.sampled_from([0.0, 1e6]),
)
def test_one_pass_in_batches_is_two_passes_over_everything(seed, batches, offset):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(sum(batches), 3, generator=generator, dtype=torch.float64) + offset
    moments = RunningMoments(3)
    for batch in rows.split(batches):
        moments.update(batch)
    assert moments.count == len(rows)
    torch.testing.assert_close(moments.mean, rows.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(moments.variance, rows.var(0), rtol=1e-7, atol=1e-9)


def test_low_precision_rows_are_summed_in_float64():
    rows = torch.full((100_000, 1), 1.001, dtype=torch.float16)
    moments = RunningMoments(1)
    for batch in rows.split(1000):
        moments.update(batch)
    torch.testing.assert_close(moments.mean, rows[0].double())
    assert moments.variance.item() == 0


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**31),
    batches=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5)), min_size=1, max_size=5),
    offset=st.sampled_from([0.0, 1e5]),
)
def test_moments_of_heads_in_batches_are_those_of_everything(seed, batches, offset):
    generator = torch.Generator().manual_seed(seed)
    running, all_keys, all_values, longest = RunningHeadMoments(2, 3, 4), [], [], 0
    for rows, tokens in [(2, 4), *batches]:
        key, value = (offset + torch.randn(rows, 2, tokens, n, generator=generator) for n in (3, 4))
        mask = torch.rand(rows, tokens, generator=generator) < 0.7
        mask[0] |= len(all_keys) == 0  # two tokens at least
        running.update(key, value, RealTokens.marked(mask, key.device), 0.5)
        all_keys += [key[row, :, i].double() for row, i in mask.nonzero().tolist()]
        all_values += [value[row, :, i].double() for row, i in mask.nonzero().tolist()]
        longest = max(longest, *mask.sum(-1).tolist())
    moments, keys, values = running.moments(), torch.stack(all_keys), torch.stack(all_values)
    assert (moments.tokens, moments.longest) == (len(keys), longest)
    close = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(moments.key_mean, keys.mean(0), **close)
    torch.testing.assert_close(moments.value_mean, values.mean(0), **close)
    torch.testing.assert_close(moments.key_variance, keys.var(0), **close)
    log_alpha = keys.square().sum(-1) / 4
    torch.testing.assert_close(moments.log_alpha_mean, log_alpha.mean(0), **close)
    assert moments.log_alpha_std == pytest.approx(log_alpha.var(0).mean().sqrt().item(), rel=1e-6)
    for head in range(2):
        expected = torch.cov(torch.cat([values[:, head], keys[:, head]], dim=-1).T)[:4, 4:]
        torch.testing.assert_close(moments.covariance[head], expected, **close)


def test_moments_of_heads_need_two_tokens():
    running = RunningHeadMoments(1, 2, 2)
    one = RealTokens.marked(torch.tensor([[True, False, False]]), torch.device("cpu"))
    running.update(torch.ones(1, 1, 3, 2), torch.ones(1, 1, 3, 2), one, 1.0)
    with pytest.raises(ValueError, match="at least two tokens, got 1"):
        running.moments()


def test_no_moment_waits_for_a_gpu():
    running = RunningHeadMoments(2, 3, 4)
    tokens = RealTokens.marked(torch.tensor([[True, False, True], [True, True, True]]), torch.device("cpu"))
    key, value = torch.ones(2, 2, 3, 3), torch.ones(2, 2, 3, 4)
    with ExitStack() as modes:
        key, value, places = on_fake_gpu(modes, (key, value, tokens.places))
        modes.enter_context(NothingReachesTheHost())
        for _ in range(2):
            running.update(key, value, tokens._replace(places=places), 0.5)
        assert (running.count, running.longest) == (10, 3)
        assert {running.keys.mean.device.type, running.log_alphas.variance.device.type} == {"cuda"}


def test_tokens_of_another_batch_are_refused():
    tokens = RealTokens.marked(torch.tensor([[True, True, False]]), torch.device("cpu"))
    with pytest.raises(IndexError, match=r"rows and tokens \(1, 3\), got \(1, 4\)"):
        tokens.of(torch.ones(1, 4, 2))
