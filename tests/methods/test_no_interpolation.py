"""NV without interpolation against its definition, one head, query and token at a time."""

import copy
import math
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

import nvreg
from nvreg.methods import METHODS
from tests.models import definition
from tests.models.architectures import random_prior, random_settings
from tests.models.definition import run_definition_
from tests.models.running import EXACT, converted, of, padded


def without_interpolation(
    query,
    z,
    key_weight,
    key_bias,
    value_weight,
    value_bias,
    moments,
    settings,
    scale,
    mask=None,
    rotation=None,
):
    """Section 2 of docs/method.md without the observed vector in the output and ``log s`` in the logits.

    Arguments and results are those of `nvreg.attention.reference.nv_attention`.
    """
    (batch, heads, queries, _), keys = query.shape, z.shape[1]
    noise = 1 / scale
    token_variance = settings.tau_sigma**2 * moments.variance
    added = torch.zeros(()) if mask is None else mask
    added = added.double().expand(batch, heads, queries, keys)
    rotations = None if rotation is None else rotation.expand(batch, -1, -1, -1, -1)
    outputs, weights = torch.zeros_like(query), query.new_zeros(batch, heads, queries, 1 + keys)
    for row, head, m in product(range(batch), range(heads), range(queries)):
        logits, values = [], []
        for i in range(-1, keys):
            asked = query[row, head, m]
            if i < 0:
                mean, variance, log_alpha, bias = moments.mean, moments.variance, moments.log_alpha_mean, 0.0
                if math.isinf(settings.tau_alpha):
                    log_alpha = -math.inf
            else:
                token = z[row, i]
                mean = settings.tau_mu * token + (1 - settings.tau_mu) * moments.mean
                variance, bias = token_variance, added[row, head, m, i]
                log_alpha = scale * token.dot(token) / 2
                if not math.isinf(settings.tau_alpha):
                    log_alpha = log_alpha + settings.tau_alpha * moments.log_alpha_std
                if rotations is not None:
                    asked = rotations[row, m, i] @ asked
            spread = variance + noise
            observed = key_weight[head].T @ asked
            logit = (observed * mean / spread).sum() + scale * asked.dot(key_bias[head])
            logits.append(logit + log_alpha - (mean**2 / spread).sum() / 2 + bias)
            values.append(value_weight[head] @ (noise / spread * mean) + value_bias[head])
        weights[row, head, m] = torch.stack(logits).softmax(0)
        outputs[row, head, m] = weights[row, head, m] @ torch.stack(values)
    return outputs, weights


@pytest.fixture
def defined(monkeypatch):
    """Builds a model that runs the definition at every site."""

    def build(model, prior, settings):
        monkeypatch.setattr(definition, "reference", SimpleNamespace(nv_attention=without_interpolation))
        return run_definition_(copy.deepcopy(model), prior, settings)

    return build


@of("bert", "gpt2", "llama", "bart", "t5")
@torch.no_grad()
def test_it_is_the_definition(architecture, defined):
    model = architecture.build()
    full = converted(copy.deepcopy(model))
    prior, settings = random_prior(model), random_settings(model)
    expected = defined(model, prior, settings)
    method = METHODS["nv-no-interpolation"]()
    method.attach_(model, prior, [])
    method.set_(model, method.setting_type.from_dict(settings.to_dict()))
    for inputs in (architecture.inputs(model), padded(architecture, "right")[0]):
        logits = model(**inputs).logits
        real = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()
        real = ... if architecture.is_encoder_decoder else real
        assert_close(logits[real], expected(**inputs).logits[real], **EXACT)
        assert not torch.allclose(logits[real], full(**inputs).logits[real], rtol=1e-3, atol=1e-3)


@of("bert", "llama", "bart")
@torch.no_grad()
def test_means_alone_are_nv_s(architecture):
    """At tau_sigma = 0 and without the prior there is nothing to leave out."""
    logits = []
    for name in ("nv", "nv-no-interpolation"):
        model, method = architecture.build(), METHODS[name]()
        method.attach_(model, random_prior(model), [])
        method.set_(model, method.setting_type(tau_mu=0.7))
        logits.append(model(**architecture.inputs(model)).logits)
    assert_close(*logits, **EXACT)


@pytest.mark.parametrize("space", ["inputs", "heads"])
@of("llama")
@torch.no_grad()
def test_it_is_not_saved_as_if_it_were_nv(architecture, space, tmp_path):
    model = architecture.build()
    nvreg.convert_(model, random_prior(model, space=space), interpolates=False)
    with pytest.raises(ValueError, match="expected a model converted with interpolates=True, got the abl"):
        nvreg.save_pretrained(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
