import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nvreg.estimation.running import RunningMoments


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
