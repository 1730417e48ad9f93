"""What is measured on a model, the empirical prior and the prior's weight, is right in every layout."""

import pytest
from torch.testing import assert_close

import nvreg
from nvreg.diagnostics import recording
from nvreg.models import IGNORED
from nvreg.models.registry import attention_modules
from nvreg.models.site import Runs
from nvreg.models.teacher_forcing import key_masks, query_masks
from tests.models.architectures import random_ids
from tests.models.running import converted, padded, real

IN_BOTH_SPACES = True

pytestmark = [
    pytest.mark.usefixtures("no_gradients"),
    pytest.mark.filterwarnings("ignore:Version v4.12.0 introduces"),  # EncoderDecoderModel, given labels
]
KEY_PROJECTIONS = ("k_proj", "k_lin", "key", "k", "c_attn", "query_key_value", "qkv_proj", "Wqkv")
MAPS = {
    "encoder": ("encoder_attentions", "attentions"),
    "cross": ("cross_attentions",),
    "decoder": ("decoder_attentions", "attentions"),
}


def teacher_forced(architecture):
    """A padded batch, with labels where they are what the decoder reads."""
    batch, _ = padded(architecture, "right")
    if batch.pop("decoder_input_ids", None) is not None:
        batch["labels"] = random_ids(3, 5, seed=1)
        batch["labels"][1, 3:] = IGNORED
    return batch


def key_projection(module):
    inner = getattr(module, "attention", module)  # GPT-Neo wraps it once more
    return next(getattr(inner, name) for name in KEY_PROJECTIONS if hasattr(inner, name))


def test_the_prior_is_that_of_what_keys_are_projected_from_in_input_space(architecture, plain):
    batch, read, hooks = teacher_forced(architecture), {}, []
    modules = attention_modules(plain)
    projections = {site: key_projection(module) for site, (_, module) in modules.items()}
    runs = Runs(projections)
    for projection in set(projections.values()):
        hooks.append(
            projection.register_forward_pre_hook(
                lambda module, args: read.update({runs.next_site(module): args[0]})
            )
        )
    plain(**batch)
    for hook in hooks:
        hook.remove()
    prior, masks = nvreg.estimate_prior(plain, [batch]), key_masks(plain, batch)
    for site, (adapter, module) in modules.items():
        z = real(read[site], masks[site.role])
        log_alpha = adapter.scale(module) / 2 * z.square().sum(-1)
        assert prior[site.name].tokens == len(z)
        assert_close(prior[site.name].mean, z.mean(0))
        assert_close(prior[site.name].variance, z.var(0))
        assert prior[site.name].log_alpha_mean == pytest.approx(log_alpha.mean().item())
        assert prior[site.name].log_alpha_std == pytest.approx(log_alpha.std().item())


def test_the_recorded_weight_is_that_of_the_maps(architecture):
    model = converted(
        architecture.build(attention="eager"), nvreg.Settings(tau_alpha=0.5, tau_sigma=0.3, tau_mu=0.9)
    )
    batch = teacher_forced(architecture)
    with recording(model) as record:
        outputs = model(**batch, output_attentions=True)
    masks, weights = query_masks(model, batch), []
    for site in nvreg.sites(model):
        maps = next(outputs[name] for name in MAPS[site.role] if name in outputs)
        weights.append(real(maps[site.layer][..., 0].transpose(1, 2), masks[site.role]).mean().item())
    assert 0 < sum(weights) < len(weights)
    assert record.prior_weight == pytest.approx(sum(weights) / len(weights))
    assert record.prior_weight < record.strength < 1
