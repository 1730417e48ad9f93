"""What only GPT-Neo has: no implementation but eager, and layers that see a window."""

import pytest
import torch
from torch.testing import assert_close

import nvreg
from nvreg.attention.settings import Settings
from nvreg.models.loading import load_model
from tests.models.architectures import ARCHITECTURES, random_ids
from tests.models.running import EXACT, converted

pytestmark = pytest.mark.usefixtures("no_gradients")
GPT_NEO = next(each for each in ARCHITECTURES if each.name == "gpt_neo")


def test_it_loads_as_what_transformers_has_of_it(tmp_path):
    GPT_NEO.build(dtype=torch.float32).save_pretrained(tmp_path)
    model = load_model(tmp_path, device="cpu")
    assert model.config._attn_implementation == "eager"
    nvreg.convert_(model, nvreg.Prior.gaussian(model))
    assert len(nvreg.sites(model)) == 4


def test_a_local_layer_sees_no_further_than_its_window():
    model = converted(GPT_NEO.build())
    local = model.transformer.h[1].attn
    x = torch.randn(1, 6, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[:, :3] += 1
    (first, _), (second, _) = local(x), local(changed)
    assert_close(second[:, 5:], first[:, 5:], **EXACT)
    assert not torch.allclose(second[:, 4], first[:, 4], atol=1e-3)


def test_attention_maps_are_made_when_asked_for():
    model = converted(GPT_NEO.build(), Settings(tau_alpha=0.5, tau_sigma=0.3))
    inputs = {"input_ids": random_ids(2, 5)}
    with_maps = model(**inputs, output_attentions=True)
    assert [each.shape for each in with_maps.attentions] == 4 * [(2, 4, 5, 6)]
    assert_close(model(**inputs).logits, with_maps.logits, **EXACT)
