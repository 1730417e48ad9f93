"""Models that run the plain definition at every site: slow, and sharing no code with the fast path.

The modules' own projections, masks and positions are used; attention itself is
`nvreg.attention.reference`. No cache: callers pass whole sequences.
"""

from functools import partial

import torch
from torch import Tensor, nn

import nvreg
from nvreg.attention import reference
from nvreg.attention.settings import Settings


def run_definition_(model: nn.Module, prior: nvreg.Prior, settings: Settings) -> nn.Module:
    """Replace, in place, the attention of an unconverted model by the definition."""
    for site in nvreg.sites(model):
        module = model.base_model.get_submodule(site.name)
        at = settings.at(site.role, site.layer)
        module.forward = partial(DEFINITIONS[model.config.model_type], module, prior[site.name], at)
    return model


def bart(module, moments, settings, hidden_states, key_value_states=None, attention_mask=None, **_):
    z = hidden_states if key_value_states is None else key_value_states
    heads = module.num_heads
    query = module.q_proj(hidden_states).unflatten(-1, (heads, -1)).transpose(1, 2)
    output, weights = reference.nv_attention(
        query,
        z,
        *by_head(module.k_proj, heads),
        *by_head(module.v_proj, heads),
        moments,
        settings,
        module.scaling,
        additive(attention_mask, query, z, module.is_causal),
    )
    return module.out_proj(output.transpose(1, 2).flatten(2)), weights


DEFINITIONS = dict.fromkeys(
    ("bart", "mbart", "marian", "pegasus", "blenderbot", "blenderbot-small", "m2m_100", "plbart"), bart
)


def by_head(linear: nn.Linear, heads: int) -> tuple[Tensor, Tensor]:
    bias = torch.zeros(linear.out_features).to(linear.weight) if linear.bias is None else linear.bias
    return linear.weight.unflatten(0, (heads, -1)), bias.unflatten(0, (heads, -1))


def additive(mask: Tensor | None, query: Tensor, keys: Tensor, is_causal: bool) -> Tensor | None:
    """Turn what Transformers passes as a mask into numbers to add, ``-inf`` where a key is not seen."""
    if mask is None:
        future = torch.ones(query.shape[2], keys.shape[1], dtype=torch.bool).triu(1)
        return torch.zeros(future.shape).to(query).masked_fill(future, -torch.inf) if is_causal else None
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape).to(query).masked_fill(~mask, -torch.inf)
    return mask.masked_fill(mask <= torch.finfo(mask.dtype).min, -torch.inf)
