"""Models that run the head-space definition at every site: slow, and sharing no code with what runs.

An attention function of the tests' own stands in for the model's, and reads what it is given by itself.
"""

import itertools

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

import nvreg
from tests.attention import heads_definition

NAME = "defined-by-tests"


def attends_with_(model, run):
    """Have every site of an unconverted model run a function, in place.

    Args:
        model: whose masks become those of eager attention.
        run: takes module, query, key, value, what is added to logits, scale, and what else there is.
    """
    sites = {}
    for site in nvreg.sites(model, space="heads"):
        sites.setdefault(site.path, []).append(site)
    for module in model.modules():
        if hasattr(getattr(module, "config", None), "_attn_implementation_internal"):
            module.config._attn_implementation_internal = NAME
    for path, runs in sites.items():
        model.base_model.get_submodule(path).run = run, itertools.cycle(runs)
    return model


def _dispatch(module, query, key, value, attention_mask, scaling=None, position_bias=None, **special):
    added = torch.zeros(*query.shape[:3], key.shape[2], dtype=torch.float64)
    if attention_mask is not None:
        attention_mask = attention_mask[..., : key.shape[2]]
        hidden = attention_mask <= torch.finfo(attention_mask.dtype).min / 2
        added = (added + attention_mask).masked_fill(hidden, -1e30)  # finite: nothing seen must not make NaN
    if (indices := special.get("indices")) is not None:
        seen = torch.zeros(*indices.shape[:2], key.shape[2], dtype=torch.bool).scatter(
            -1, indices.long(), True
        )
        added = added.masked_fill(~seen.unsqueeze(1), -1e30)
    if position_bias is not None:
        added = added + position_bias
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    run, sites = module.run
    known = {name: special.get(name) for name in ("softcap", "s_aux")}
    output, weights = run(next(sites), query, key, value, added, scale, **known)
    return output.transpose(1, 2).to(query.dtype).contiguous(), weights


AttentionInterface.register(NAME, _dispatch)
AttentionMaskInterface.register(NAME, eager_mask)


def run_head_definition_(model, prior, settings):
    """Replace, in place, the attention function of an unconverted model by the definition."""

    def run(site, query, key, value, added, scale, softcap, s_aux):
        output, weights, _ = heads_definition.attend(
            query,
            key,
            value,
            prior[site.name],
            settings.at(site.role, site.layer),
            scale,
            added=added,
            softcap=softcap,
            sink=s_aux,
        )
        return output, weights

    return attends_with_(model, run)


def head_shapes(model, inputs):
    """Return, by site, the number of key heads, and the widths of their keys and values."""
    found = {}

    def run(site, query, key, value, added, scale, softcap, s_aux):
        found[site] = (key.shape[1], key.shape[3], value.shape[3])
        return mean_value(query, value), None

    with torch.no_grad():
        attends_with_(model, run)(**inputs)
    return found


def mean_value(query, value):
    """Return the mean of all values, for every query."""
    groups = query.shape[1] // value.shape[1]
    mean = value.repeat_interleave(groups, 1).mean(2, keepdim=True)
    return mean.expand(-1, -1, query.shape[2], -1)
