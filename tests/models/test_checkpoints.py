"""Real trained decoders: GPT-2's layout, and Llama's with rotary positions and grouped keys."""

import copy

import pytest
import torch
from torch.testing import assert_close

import nvreg
from nvreg.attention.settings import Settings
from nvreg.models.loading import load_model, load_tokenizer
from tests.models.definition import run_definition_

pytestmark = pytest.mark.usefixtures("no_gradients")
TEXT = (
    "The river rises in the hills north of the town and flows through two lakes before it reaches the sea.",
    "In 1921 the company opened a second factory, and its first locomotive was finished a year later.",
    "The song received mixed reviews from critics, but it reached the top ten in several countries.",
)
SETTINGS = Settings(tau_alpha=1.0, tau_sigma=0.1, tau_mu=0.98)


@pytest.fixture(scope="module", params=["gpt2-wikitext2", "stories260k"])
def checkpoint(shared, request):
    path = shared / "models" / request.param
    model, tokenizer = load_model(path, device="cpu"), load_tokenizer(path)
    return model, [tokenizer(text, return_tensors="pt") for text in TEXT]


def test_it_is_the_definition(checkpoint):
    model, texts = checkpoint
    model = copy.deepcopy(model).double()
    prior = nvreg.estimate_prior(model, texts)
    defined = run_definition_(copy.deepcopy(model), prior, SETTINGS)
    nvreg.convert_(model, prior, SETTINGS)
    assert_close(model(**texts[0]).logits, defined(**texts[0]).logits, rtol=0, atol=1e-9)


def test_it_generates_with_a_cache_what_it_generates_without(checkpoint):
    model, texts = checkpoint
    model = copy.deepcopy(model)
    plain = copy.deepcopy(model)
    prior = nvreg.estimate_prior(model, texts)
    nvreg.convert_(model, prior)
    assert torch.equal(model(**texts[0]).logits, plain(**texts[0]).logits)
    nvreg.set_settings_(model, SETTINGS)
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    ids = model.generate(**texts[1], **options)
    assert ids.tolist() == model.generate(**texts[1], **options, use_cache=False).tolist()
    assert not torch.allclose(model(**texts[1]).logits, plain(**texts[1]).logits, atol=1e-3)
