"""A site is a site under every head that Transformers has for an architecture."""

from dataclasses import replace

import pytest
import torch
from transformers.models.auto import modeling_auto

import nvreg
from tests.models.architectures import ARCHITECTURES, EOS, random_ids, random_prior

HEADS = (
    modeling_auto.MODEL_MAPPING_NAMES,
    modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
)
ONE_A_TYPE = {each.model_type: each for each in reversed(ARCHITECTURES)}
CASES = [
    pytest.param(architecture, head[model_type], id=head[model_type])
    for model_type, architecture in ONE_A_TYPE.items()
    for head in HEADS
    if model_type in head
]


@pytest.mark.parametrize(("architecture", "head"), CASES)
@torch.no_grad()
def test_the_sites_are_the_same_under_every_head(architecture, head):
    expected = architecture.build()
    model = replace(architecture, model_class=head).build(dtype=torch.float32)
    assert set(nvreg.sites(model)) <= set(nvreg.sites(expected))
    ids = torch.cat([random_ids(2, 5), torch.full((2, 1), EOS)], dim=1)
    is_speech = architecture.model_type == "whisper"
    inputs = architecture.inputs(model, batch=2) if is_speech else {"input_ids": ids}
    if model.config.is_encoder_decoder and "ForTokenClassification" not in head:
        inputs["decoder_input_ids"] = ids
    before = model(**inputs)[0]
    nvreg.convert_(model, random_prior(expected), nvreg.Settings(tau_alpha=0.0, tau_sigma=0.5))
    assert not torch.allclose(model(**inputs)[0], before, atol=1e-3)
    assert torch.equal(nvreg.revert_(model)(**inputs)[0], before)
