import pytest
import torch
from torch.nn import functional as F

from nvreg.finetune import autoencoders
from nvreg.finetune.autoencoders import HierarchicalAutoencoder, Views, draw_views

D, H = 12, 6


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def shares(numbers, kinds):
    return [(numbers == kind).double().mean().item() for kind in range(kinds)]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, [1]), (2, [1 / 3, 1 / 3, 1 / 3]), (3, [1 / 5, 1 / 5, 1 / 5, 1 / 5, 1 / 5]), (4, [1 / 7] * 7)],
)
def test_each_autoencoder_has_the_published_share_of_positions(count, expected):
    drawn = draw_views(200_000, count)
    assert shares(drawn, 2 * count - 1) == pytest.approx(expected, abs=0.005)
    assert drawn.max() == 2 * (count - 1)


def test_positions_go_through_their_autoencoder_or_none_in_the_whole_batch(monkeypatch):
    """Selection frequencies of three autoencoders: 1/5, 1/5, 1/5 and 2/5 for the identity."""
    views = Views(D, [H, H, H], dropout=0.0, noise=0.0)
    for number, autoencoder in enumerate(views.autoencoders):
        monkeypatch.setattr(autoencoder, "forward", lambda states, number=number: 0 * states + number)
    states = torch.full((3, 50_000, D), -1.0)
    out = views(states, torch.ones(3, 50_000))
    assert torch.equal(out[0], out[1])
    assert torch.equal(out[0], out[2])
    assert torch.equal(out, out[..., :1].expand_as(out))
    assert shares(out[0, :, 0], 3) == pytest.approx([0.2, 0.2, 0.2], abs=0.01)
    assert (out[0, :, 0] == -1).double().mean().item() == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("way", [0, 1, 2])
def test_an_autoencoder_is_the_formula(monkeypatch, way):
    model = HierarchicalAutoencoder(D, H, dropout=0.2).double().eval()
    monkeypatch.setattr(torch, "randint", lambda *_: torch.tensor(way))
    states = torch.randn(2, 5, D, dtype=torch.double)
    codes = torch.tanh(states @ model.down.weight.T + model.down.bias)
    if way < 2:
        inner = model.inner[way]
        assert inner.down.weight.shape == (H // 2, H)
        codes = torch.tanh(torch.tanh(codes @ inner.down.weight.T) @ inner.up.weight.T)
    expected = codes @ model.up.weight.T + model.up.bias
    torch.testing.assert_close(model(states), expected)


def test_codes_are_dropped_in_training_at_both_levels(monkeypatch):
    rates = []
    dropout = F.dropout
    monkeypatch.setattr(F, "dropout", lambda x, p, training, *_: rates.append((p, training)) or x)
    monkeypatch.setattr(torch, "randint", lambda *_: torch.tensor(0))
    HierarchicalAutoencoder(D, H, dropout=0.2)(torch.randn(2, 5, D))
    assert rates == [(0.2, True), (0.2, True)]
    assert dropout is not F.dropout


def test_the_way_through_is_drawn_once_a_call_uniformly(monkeypatch):
    model = HierarchicalAutoencoder(D, H, dropout=0.0)
    taken = []
    for number, inner in enumerate(model.inner):
        monkeypatch.setattr(inner, "forward", lambda codes, number=number: taken.append(number) or codes)
    calls = 3000
    for _ in range(calls):
        model(torch.zeros(1, 4, D))
    ways = torch.tensor(taken + [2] * (calls - len(taken)))
    assert shares(ways, 3) == pytest.approx([1 / 3] * 3, abs=0.03)


def test_noise_is_added_before_the_choice_on_the_identity_too(monkeypatch):
    views = Views(D, [H, H, H], dropout=0.0, noise=0.002)
    monkeypatch.setattr(autoencoders, "draw_views", lambda positions, _: torch.full((positions,), 3))
    states = torch.randn(8, 100, D)
    difference = views(states, torch.ones(8, 100)) - states
    assert difference.std().item() == pytest.approx(0.002, rel=0.05)


def test_reconstruction_is_the_mean_error_over_autoencoders_and_real_tokens():
    views = Views(D, [H, H + 1], dropout=0.0, noise=0.0)
    for autoencoder in views.autoencoders:
        autoencoder.inner = torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Identity()])
    states, mask = torch.randn(2, 4, D, requires_grad=True), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    views(states, mask)
    loss = views.reconstruction_loss()
    tokens = torch.cat([states[0, :3], states[1, :1]])
    errors = [(autoencoder(tokens) - tokens).square().mean() for autoencoder in views.autoencoders]
    torch.testing.assert_close(loss, sum(errors) / 2)
    loss.backward()
    assert states.grad is None, "reconstruction must not train what comes before"
    assert all(p.grad.abs().sum() > 0 for p in views.parameters())


def test_the_task_loss_reaches_the_autoencoders_even_where_no_position_chose_one(monkeypatch):
    views = Views(D, [H, H, H], dropout=0.0, noise=0.0)
    monkeypatch.setattr(autoencoders, "draw_views", lambda positions, _: torch.full((positions,), 4))
    views(torch.randn(1, 2, D), torch.ones(1, 2)).sum().backward()
    assert views.autoencoders[0].up.weight.grad is not None
