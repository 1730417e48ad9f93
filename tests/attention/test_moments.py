import pytest
import torch

import nvreg
from nvreg.attention.moments import HeadMoments


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variance": torch.ones(3)}, r"one shape \(d,\), got \(2,\) and \(3,\)"),
        ({"mean": torch.ones(2, 2), "variance": torch.ones(2, 2)}, "one shape"),
        ({"mean": torch.tensor([0.0, torch.nan])}, "finite"),
        ({"log_alpha_mean": float("inf")}, "finite"),
        ({"variance": torch.tensor([1.0, -1.0])}, ">= 0"),
        ({"log_alpha_std": -1.0}, ">= 0"),
    ],
)
def test_what_is_no_prior_is_refused(change, message):
    right = {"mean": torch.zeros(2), "variance": torch.ones(2), "log_alpha_mean": 0.0, "log_alpha_std": 1.0}
    assert nvreg.Moments(**right).width == 2
    with pytest.raises(ValueError, match=message):
        nvreg.Moments(**(right | change))


def test_the_gaussian_prior_is_0_1_0_1():
    moments = nvreg.Moments.gaussian(3)
    assert moments.mean.tolist() == [0, 0, 0]
    assert moments.variance.tolist() == [1, 1, 1]
    assert (moments.log_alpha_mean, moments.log_alpha_std) == (0, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key_mean": torch.ones(3)}, r"\(g, e\) and \(g, f\), got \(3,\) and \(2, 4\)"),
        ({"value_mean": torch.ones(3, 4)}, r"shapes \(2, 4\), \(2, 3\), .*got \(3, 4\)"),
        ({"key_variance": torch.ones(2, 4)}, r"got \(2, 4\), \(2, 4\), \(2, 4, 3\), \(2,\)"),
        ({"covariance": torch.ones(2, 3, 4)}, r"\(2, 4, 3\), \(2,\) beside"),
        ({"log_alpha_mean": torch.ones(3)}, r"got .*\(3,\)"),
        ({"covariance": torch.full((2, 4, 3), torch.nan)}, "finite"),
        ({"log_alpha_std": float("inf")}, "finite"),
        ({"key_variance": -torch.ones(2, 3)}, ">= 0"),
        ({"log_alpha_std": -1.0}, ">= 0"),
    ],
)
def test_what_is_no_prior_of_heads_is_refused(change, message):
    right = {
        "key_mean": torch.zeros(2, 3),
        "value_mean": torch.zeros(2, 4),
        "key_variance": torch.ones(2, 3),
        "covariance": torch.zeros(2, 4, 3),
        "log_alpha_mean": torch.zeros(2),
        "log_alpha_std": 1.0,
    }
    moments = HeadMoments(**right)
    assert moments.shape == (2, 3, 4)
    assert moments.covariance.dtype == torch.float64
    with pytest.raises(ValueError, match=message):
        HeadMoments(**(right | change))
