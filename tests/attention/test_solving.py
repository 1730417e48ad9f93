"""What is named by its effect is found: the prior's weight, and the share of noise."""

import math
from contextlib import ExitStack

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nvreg.attention.solving import solve_shift, solve_tau_sigma
from nvreg.errors import UserError
from tests.fake_gpu import NothingReachesTheHost, on_fake_gpu

log_odds = st.lists(st.floats(-500, 500), min_size=1, max_size=20).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)
wanted = st.floats(1e-9, 1 - 1e-9)


@given(log_odds, wanted)
def test_the_mean_weight_is_the_wanted_one(odds, weight):
    shift = solve_shift(odds, weight)
    assert torch.sigmoid(odds - shift).mean().item() == pytest.approx(weight, rel=1e-5)


@given(log_odds, wanted, wanted)
def test_less_weight_takes_a_larger_shift(odds, weight, other):
    if weight < other:
        assert solve_shift(odds, weight) >= solve_shift(odds, other) - 1e-6


@given(log_odds, wanted, st.floats(-1e6, 1e6))
def test_the_shift_moves_with_the_log_odds(odds, weight, by):
    assert solve_shift(odds + by, weight).item() == pytest.approx(
        solve_shift(odds, weight).item() + by, abs=1e-5
    )


@given(wanted)
def test_a_query_that_nothing_moves_does_not_hang_it(weight):
    solve_shift(torch.tensor([0.0, 3e38, -3e38], dtype=torch.float64), weight)


class OnGpu(torch.Tensor):
    """Numbers that are on the CPU and say that they are not."""

    device = torch.device("cuda")


@pytest.mark.parametrize("weight", [1e-9, 0.1, 1 - 1e-9])
def test_a_gpu_finds_the_same_without_being_asked(weight):
    odds = torch.tensor([-500.0, -3.0, 0.0, 2.0, 500.0], dtype=torch.float64)
    shift = solve_shift(odds.as_subclass(OnGpu), weight).as_subclass(torch.Tensor)
    assert shift.item() == pytest.approx(solve_shift(odds, weight).item(), abs=1e-6)
    with ExitStack() as modes:
        (there,) = on_fake_gpu(modes, (odds,))
        modes.enter_context(NothingReachesTheHost())
        assert solve_shift(there, weight).device.type == "cuda"


# --- tau_sigma ----------------------------------------------------------------------------------------


def noise_share(tau_sigma, variance, scale):
    spread = tau_sigma**2 * variance
    return (spread / (spread + 1 / scale)).mean().item()


variances = st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=20).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


@given(variances, st.floats(1e-9, 1 - 1e-9), st.sampled_from([1.0, 0.125, 3e-3]))
def test_noise_has_the_wanted_share(variance, share, scale):
    tau_sigma = solve_tau_sigma(share, variance, scale, site="a")
    assert noise_share(tau_sigma, variance, scale) == pytest.approx(share, rel=1e-12)


@given(variances, st.floats(1e-6, 0.9))
def test_more_noise_takes_a_larger_tau_sigma(variance, share):
    assert solve_tau_sigma(1.1 * share, variance, 0.5, site="a") > solve_tau_sigma(
        share, variance, 0.5, site="a"
    )


def test_equal_variances_have_a_closed_form():
    variance = torch.full((2, 3), 4.0, dtype=torch.float64)
    assert solve_tau_sigma(0.25, variance, 0.5, site="a") == pytest.approx(math.sqrt(1 / 6), rel=1e-15)
    assert solve_tau_sigma(0.0, torch.zeros(3), 0.5, site="a") == 0


def test_coordinates_that_do_not_vary_stay_without_noise():
    variance = torch.tensor([0.0, 2.0, 0.0, 0.1], dtype=torch.float64)
    tau_sigma = solve_tau_sigma(0.4, variance, 0.5, site="a")
    assert noise_share(tau_sigma, variance, 0.5) == pytest.approx(0.4, rel=1e-12)
    with pytest.raises(UserError, match=r"layer\.1: expected a noise_share below 0\.5, .* got 0\.5;"):
        solve_tau_sigma(0.5, variance, 0.5, site="layer.1")
    with pytest.raises(UserError, match=r"expected a noise_share 0, got 0\.01"):
        solve_tau_sigma(0.01, torch.zeros(4), 0.5, site="a")
