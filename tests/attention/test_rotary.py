"""The mean rotation, read off attended columns, against a sum over keys."""

import pytest
import torch

from nvreg.attention.rotary import Rotation, split_columns


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("rotated", "key_heads"), [(8, 2), (6, 2), (8, 3), (2, 5), (8, 1)])
def test_queries_are_turned_back_by_the_mean_rotation_of_their_keys(rotated, key_heads, interleaved):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    angles = torch.arange(5.0).double()[:, None] * normal(rotated // 2)
    both = torch.stack([angles, angles], -1).flatten(-2) if interleaved else torch.cat([angles, angles], -1)
    rotation = Rotation(both.cos()[None, None], both.sin()[None, None], interleaved)
    back = Rotation(rotation.cos, -rotation.sin, interleaved)
    query, weights = normal(2, 3, 5, 8), normal(2, 3, 5, 5).softmax(-1)

    value = normal(2, key_heads, 5, 8)
    shares = rotation.columns(2, key_heads)
    kept, columns = split_columns(torch.cat([value, shares], dim=-1), 8)
    assert torch.equal(kept, value)
    assert shares.shape[-1] * key_heads < rotated + key_heads
    relative = rotation.relative(rotation(query), torch.einsum("bhmi,bir->bhmr", weights, columns[:, 0]))

    turned = rotation(query)
    expected = torch.zeros_like(query)
    for key in range(5):
        one = Rotation(back.cos[..., key : key + 1, :], back.sin[..., key : key + 1, :], interleaved)
        expected += weights[..., key, None] * one(turned)
    torch.testing.assert_close(relative, expected, rtol=1e-12, atol=1e-12)


def test_values_without_columns_stay_as_they_are():
    value = torch.randn(2, 3, 4, 8)
    assert split_columns(value, 8) == (value, None)
