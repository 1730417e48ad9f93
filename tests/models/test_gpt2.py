"""What only GPT-2 has: one projection that makes queries, keys and values."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import nvreg
from nvreg.attention.settings import Settings
from nvreg.models import projections as projections_of
from nvreg.models.projections import affine_map
from tests.models.architectures import ARCHITECTURES
from tests.models.running import EXACT, converted

pytestmark = pytest.mark.usefixtures("no_gradients")
GPT2 = next(each for each in ARCHITECTURES if each.name == "gpt2")


class LowRank(nn.Module):
    """An adapter in the manner of LoRA around a projection."""

    def __init__(self, base: nn.Module, width: int) -> None:
        super().__init__()
        self.base = base
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(width, 2, generator=generator).double() / 4
        self.down = nn.Parameter(weight)
        self.up = nn.Parameter(torch.randn(2, base.nf, generator=generator).double())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + x @ self.down @ self.up


def low_rank_and_merged():
    adapted = GPT2.build()
    merged = copy.deepcopy(adapted)
    for block, merged_block in zip(adapted.transformer.h, merged.transformer.h, strict=True):
        block.attn.c_attn = LowRank(block.attn.c_attn, 16)
        merged_block.attn.c_attn.weight += block.attn.c_attn.down @ block.attn.c_attn.up
    return adapted, merged


def rows_projected(model, settings):
    """Rows of every run of the first layer's fused projection, for a batch of three."""
    nvreg.set_settings_(model, settings)
    rows = []
    fused = model.transformer.h[0].attn.c_attn
    forward = fused.forward

    def counted(z):
        if z.ndim == 3:  # what only asks for the projection's map hands it two dimensions
            rows.append(len(z))
        return forward(z)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "forward", counted)
        model(**GPT2.inputs(model))
    return rows


def test_a_low_rank_adapter_equals_its_merged_weight():
    adapted, merged = map(converted, low_rank_and_merged())
    inputs = GPT2.inputs(adapted)
    assert_close(adapted(**inputs).logits, merged(**inputs).logits, **EXACT)


def test_the_map_of_an_adapted_projection_is_the_merged_one():
    adapted, merged = low_rank_and_merged()
    projections = (model.transformer.h[0].attn.c_attn for model in (adapted, merged))
    for part, expected in zip(*(affine_map(each, 16) for each in projections), strict=True):
        assert_close(part, expected, **EXACT)


def test_what_is_plain_is_projected_once():
    model = converted(GPT2.build())
    assert rows_projected(model, Settings(tau_alpha=0.5)) == [3]
    assert rows_projected(model, Settings(tau_sigma=0.5)) == []  # its weight is split instead
    adapted, _ = low_rank_and_merged()
    converted(adapted)
    assert rows_projected(adapted, Settings(tau_alpha=0.5)) == [3]
    assert rows_projected(adapted, Settings(tau_sigma=0.5)) == [6]


def test_the_weight_is_not_split_for_few_tokens_nor_past_hooks():
    model = converted(GPT2.build(), Settings(tau_sigma=0.5))
    inputs = GPT2.inputs(model)
    expected = model(**inputs).logits
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projections_of, "_FEW_TOKENS", {torch.float64: 1000})
        assert_close(model(**inputs).logits, expected, **EXACT)
    for block in model.transformer.h:
        block.attn.c_attn.register_forward_hook(lambda _, __, features: 0 * features)
    hooked = model(**inputs).logits
    for block in model.transformer.h:
        block.attn.c_attn.weight.zero_()
        block.attn.c_attn.bias.zero_()
    assert_close(hooked, nvreg.revert_(model)(**inputs).logits, **EXACT)
