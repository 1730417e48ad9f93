"""Models that run the plain definition at every site: slow, and sharing no code with the fast path.

The modules' own projections, masks and positions are used; attention itself is
`nvreg.attention.reference`. No cache: callers pass whole sequences.
"""

import itertools
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from transformers.models.gptj import modeling_gptj

import nvreg
from nvreg.attention import reference
from nvreg.attention.settings import Settings
from nvreg.models.registry import layouts


def run_definition_(model: nn.Module, prior: nvreg.Prior, settings: Settings) -> nn.Module:
    """Replace, in place, the attention of an unconverted model by the definition."""
    runs: dict[nn.Module, list] = {}
    for site in nvreg.sites(model):
        module = model.base_model.get_submodule(site.path)
        at = settings.at(site.role, site.layer)
        module.attention_factor = attention_factor(getattr(model.base_model, "rotary_emb", None), module)
        config = getattr(module, "config", model.config)
        run = partial(DEFINITIONS[config.model_type], module, prior[site.name], at)
        runs.setdefault(module, []).append(run)
    for module, each in runs.items():
        module.forward = each[0] if len(each) == 1 else _in_turn(each)
    return model


def _in_turn(runs: list) -> Callable:
    """Return what calls a module's runs, one after the other, again and again."""
    turns = itertools.cycle(runs)
    return lambda *args, **kwargs: next(turns)(*args, **kwargs)


def attention_factor(rotary, module) -> float:
    """Return by what the model multiplies the cosines and sines that a module is given."""
    if hasattr(rotary, "layer_types"):
        return getattr(rotary, f"{module.config.layer_types[module.layer_idx]}_attention_scaling")
    return getattr(rotary, "attention_scaling", 1.0)


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
        additive(attention_mask, query, z, getattr(module, "is_causal", False)),
    )
    return module.out_proj(output.transpose(1, 2).flatten(2)), weights


def llama(module, moments, settings, hidden_states, position_embeddings, attention_mask=None, **kwargs):
    heads, groups = module.q_proj.out_features // module.head_dim, getattr(module, "num_key_value_groups", 1)
    query = module.q_proj(hidden_states).unflatten(-1, (heads, -1)).transpose(1, 2)
    query, rotations = unit_rotations(module, query, position_embeddings)
    if "position_ids" in kwargs and (beta := module.config.rope_parameters.get("llama_4_scaling_beta")):
        length = module.config.rope_parameters["original_max_position_embeddings"]
        scale = 1 + beta * torch.log(1 + torch.floor(kwargs["position_ids"] / length))
        query = query * scale[:, None, :, None]
    if not getattr(module, "use_rope", True):  # some layers of SmolLM3
        rotations = None
    output, weights = reference.nv_attention(
        query,
        hidden_states,
        *by_head(module.k_proj, heads // groups, groups),
        *by_head(module.v_proj, heads // groups, groups),
        moments,
        settings,
        module.scaling * module.attention_factor**2,
        additive(attention_mask, query, hidden_states, module.is_causal),
        rotations,
    )
    project = module.o_proj if hasattr(module, "o_proj") else module.dense
    return project(output.transpose(1, 2).flatten(2)), weights


def fused_rotary(
    module, moments, settings, hidden_states, position_embeddings, attention_mask=None, *, rows, fused, **_
):
    """``rows`` of the projection make queries, keys and values: index tensors of shape (heads, e)."""
    bias = torch.zeros(fused.out_features).to(fused.weight) if fused.bias is None else fused.bias
    weights, biases = [fused.weight[each] for each in rows], [bias[each] for each in rows]
    query = torch.einsum("bmd,hed->bhme", hidden_states, weights[0]) + biases[0][:, None]
    groups = len(rows[0]) // len(rows[1])
    query, rotations = unit_rotations(module, query, position_embeddings)
    output, weights = reference.nv_attention(
        query,
        hidden_states,
        *(each.repeat_interleave(groups, 0) for i in (1, 2) for each in (weights[i], biases[i])),
        moments,
        settings,
        module.scaling * module.attention_factor**2,
        additive(attention_mask, query, hidden_states, module.is_causal),
        rotations,
    )
    return output.transpose(1, 2).flatten(2), weights


def neox(module, moments, settings, hidden_states, **kwargs):
    fused, heads = module.query_key_value, module.config.num_attention_heads
    rows = torch.arange(fused.out_features).unflatten(0, (heads, 3, -1)).unbind(1)
    output, weights = fused_rotary(module, moments, settings, hidden_states, **kwargs, rows=rows, fused=fused)
    return module.dense(output), weights


def phi3(module, moments, settings, hidden_states, **kwargs):
    config, fused = module.config, module.qkv_proj
    rows = torch.arange(fused.out_features).unflatten(0, (-1, module.head_dim))
    rows = rows.split([config.num_attention_heads, *2 * [config.num_key_value_heads]])
    output, weights = fused_rotary(module, moments, settings, hidden_states, **kwargs, rows=rows, fused=fused)
    return module.o_proj(output), weights


def modernbert(module, moments, settings, hidden_states, **kwargs):
    module.scaling = module.head_dim**-0.5
    rows = torch.arange(module.Wqkv.out_features).unflatten(0, (3, -1, module.head_dim)).unbind(0)
    output, weights = fused_rotary(
        module, moments, settings, hidden_states, **kwargs, rows=rows, fused=module.Wqkv
    )
    return module.Wo(output), weights


def falcon(module, moments, settings, hidden_states, alibi, attention_mask, position_embeddings, **_):
    heads, fused = module.num_heads, module.query_key_value
    rows = torch.arange(fused.out_features).unflatten(0, (-1, module.head_dim))
    if module.new_decoder_architecture:
        groups = rows.unflatten(0, (-1, heads // module.num_kv_heads + 2))
        rows = (
            groups[:, :-2].flatten(0, 1),
            *(each.repeat_interleave(heads // module.num_kv_heads, 0) for each in groups[:, -2:].unbind(1)),
        )
    elif module.multi_query:
        rows = rows[:heads], rows[heads : heads + 1].expand(heads, -1), rows[heads + 1 :].expand(heads, -1)
    else:
        rows = rows.unflatten(0, (heads, 3)).unbind(1)
    bias = torch.zeros(fused.out_features).to(fused.weight) if fused.bias is None else fused.bias
    weights, biases = [fused.weight[each] for each in rows], [bias[each] for each in rows]
    query = torch.einsum("bmd,hed->bhme", hidden_states, weights[0]) + biases[0][:, None]
    mask, rotations = additive(attention_mask, query, hidden_states, True), None
    if alibi is None:
        query, rotations = unit_rotations(module, query, position_embeddings)
    elif module.config._attn_implementation == "eager":
        mask = mask + alibi.view(len(query), heads, 1, -1) / module.head_dim**0.5
    output, weights = reference.nv_attention(
        query,
        hidden_states,
        *(each[i] for i in (1, 2) for each in (weights, biases)),
        moments,
        settings,
        module.head_dim**-0.5 * (module.attention_factor**2 if alibi is None else 1),
        mask,
        rotations,
    )
    return module.dense(output.transpose(1, 2).flatten(2)), weights


def gptj(module, moments, settings, hidden_states, position_ids, attention_mask=None, **_):
    heads = module.num_attention_heads
    query = module.q_proj(hidden_states).unflatten(-1, (heads, -1)).transpose(1, 2)
    positions = modeling_gptj.create_sinusoidal_positions(int(position_ids.max()) + 1, module.rotary_dim)
    sin, cos = positions[position_ids].to(query).chunk(2, dim=-1)
    output, weights = reference.nv_attention(
        query,
        hidden_states,
        *by_head(module.k_proj, heads),
        *by_head(module.v_proj, heads),
        moments,
        settings,
        module.head_dim**-0.5,
        additive(attention_mask, query, hidden_states, is_causal=True),
        relative_rotations(rotate_neighbours, cos.repeat(1, 1, 2), sin.repeat(1, 1, 2), module.head_dim),
    )
    return module.out_proj(output.transpose(1, 2).flatten(2)), weights


def rotate_neighbours(query, key, cos, sin):
    rotate = modeling_gptj.apply_rotary_pos_emb
    half = cos.shape[-1] // 2
    return [
        rotate(each.transpose(1, 2), sin[..., :half], cos[..., :half]).transpose(1, 2)
        for each in (query, key)
    ]


def gpt2(
    module,
    moments,
    settings,
    hidden_states,
    attention_mask=None,
    encoder_hidden_states=None,
    encoder_attention_mask=None,
    **_,
):
    z = hidden_states if encoder_hidden_states is None else encoder_hidden_states
    mask = attention_mask if encoder_hidden_states is None else encoder_attention_mask
    heads, width = module.num_heads, module.embed_dim
    query = module.c_attn(hidden_states)[..., :width] if z is hidden_states else module.q_attn(hidden_states)
    query = query.unflatten(-1, (heads, -1)).transpose(1, 2)
    weights, biases = module.c_attn.weight.T.split(width)[-2:], module.c_attn.bias.split(width)[-2:]
    (key_weight, value_weight), (key_bias, value_bias) = (
        [part.unflatten(0, (heads, -1)) for part in parts] for parts in (weights, biases)
    )
    output, weights = reference.nv_attention(
        query,
        z,
        key_weight,
        key_bias,
        value_weight,
        value_bias,
        moments,
        settings,
        module.scaling,
        additive(mask, query, z, module.is_causal),
    )
    return module.c_proj(output.transpose(1, 2).flatten(2)), weights


def gpt_bigcode(module, moments, settings, hidden_states, attention_mask=None, **_):
    fused, heads = module.c_attn, module.num_heads
    rows = torch.arange(fused.out_features)
    if module.multi_query:
        query_rows, *shared = rows.unflatten(0, (-1, module.head_dim)).split([heads, 1, 1])
        key_rows, value_rows = (each.expand(heads, -1) for each in shared)
    else:
        query_rows, key_rows, value_rows = rows.unflatten(0, (heads, 3, -1)).unbind(1)
    query = fused(hidden_states)[..., query_rows].transpose(1, 2)
    output, weights = reference.nv_attention(
        query,
        hidden_states,
        *(part[rows] for rows in (key_rows, value_rows) for part in (fused.weight, fused.bias)),
        moments,
        settings,
        module.scaling,
        additive(attention_mask, query, hidden_states, module.is_causal),
    )
    return module.c_proj(output.transpose(1, 2).flatten(2)), weights


def gpt_neo(module, moments, settings, hidden_states, attention_mask=None, **_):
    heads = module.num_heads
    query = module.q_proj(hidden_states).unflatten(-1, (heads, -1)).transpose(1, 2)
    mask = additive(attention_mask, query, hidden_states, True)
    if module.attention_type == "local":
        distance = torch.arange(mask.shape[-2])[:, None] - torch.arange(mask.shape[-1])
        mask = mask.masked_fill(distance >= module.config.window_size, -torch.inf)
    output, weights = reference.nv_attention(
        query,
        hidden_states,
        *by_head(module.k_proj, heads),
        *by_head(module.v_proj, heads),
        moments,
        settings,
        1.0,
        mask,
    )
    return module.out_proj(output.transpose(1, 2).flatten(2)), weights


def t5(module, moments, settings, hidden_states, mask=None, key_value_states=None, position_bias=None, **_):
    z = hidden_states if key_value_states is None else key_value_states
    heads = module.n_heads
    query = module.q(hidden_states).unflatten(-1, (heads, -1)).transpose(1, 2)
    added = additive(mask, query, z, module.is_causal)
    if position_bias is None and module.has_relative_attention_bias:
        position_bias = module.compute_bias(hidden_states.shape[1], z.shape[1])
    if position_bias is not None:
        added = position_bias if added is None else position_bias + added
    key, value = by_head(module.k, heads), by_head(module.v, heads)
    output, weights = reference.nv_attention(query, z, *key, *value, moments, settings, 1.0, added)
    return module.o(output.transpose(1, 2).flatten(2)), position_bias, weights


def umt5(module, moments, settings, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):
    output, _, weights = t5(module, moments, settings, hidden_states, attention_mask, encoder_hidden_states)
    return output, weights


def bert(module, moments, settings, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):
    z = hidden_states if encoder_hidden_states is None else encoder_hidden_states
    heads = module.num_attention_heads
    query = module.query(hidden_states).unflatten(-1, (heads, -1)).transpose(1, 2)
    output, weights = reference.nv_attention(
        query,
        z,
        *by_head(module.key, heads),
        *by_head(module.value, heads),
        moments,
        settings,
        module.attention_head_size**-0.5,
        additive(attention_mask, query, z, getattr(module, "is_causal", False)),
    )
    return output.transpose(1, 2).flatten(2), weights


def mpnet(module, moments, settings, hidden_states, attention_mask=None, position_bias=None, **_):
    heads = module.num_attention_heads
    query = module.q(hidden_states).unflatten(-1, (heads, -1)).transpose(1, 2)
    mask = additive(attention_mask, query, hidden_states, is_causal=False)
    output, weights = reference.nv_attention(
        query,
        hidden_states,
        *by_head(module.k, heads),
        *by_head(module.v, heads),
        moments,
        settings,
        module.attention_head_size**-0.5,
        position_bias if mask is None else position_bias + mask,
    )
    return module.o(output.transpose(1, 2).flatten(2)), weights


def albert(module, moments, settings, hidden_states, attention_mask=None, **_):
    output, weights = bert(module, moments, settings, hidden_states, attention_mask=attention_mask)
    return module.LayerNorm(hidden_states + module.dense(output)), weights


def distilbert(module, moments, settings, hidden_states, attention_mask=None, **_):
    heads = module.n_heads
    query = module.q_lin(hidden_states).unflatten(-1, (heads, -1)).transpose(1, 2)
    output, weights = reference.nv_attention(
        query,
        hidden_states,
        *by_head(module.k_lin, heads),
        *by_head(module.v_lin, heads),
        moments,
        settings,
        module.attention_head_size**-0.5,
        additive(attention_mask, query, hidden_states, is_causal=False),
    )
    return module.out_lin(output.transpose(1, 2).flatten(2)), weights


_BY_LAYOUT = {"bart": bart, "opt": bart, "t5": t5, "bert": bert, "distilbert": distilbert, "gpt2": gpt2}
_BY_LAYOUT |= {"gpt_neo": gpt_neo, "llama": llama, "neox": neox, "gptj": gptj}
DEFINITIONS = {
    model_type: _BY_LAYOUT[layout] for layout, model_types in layouts().items() for model_type in model_types
}
DEFINITIONS |= {"umt5": umt5, "mpnet": mpnet, "gpt_bigcode": gpt_bigcode, "phi3": phi3}
DEFINITIONS |= {"albert": albert, "modernbert": modernbert, "falcon": falcon}


def by_head(linear: nn.Linear, heads: int, groups: int = 1) -> tuple[Tensor, Tensor]:
    """Return weight and bias of every query head; ``groups`` of them share one of ``heads``."""
    bias = torch.zeros(linear.out_features).to(linear.weight) if linear.bias is None else linear.bias
    weight, bias = linear.weight.unflatten(0, (heads, -1)), bias.unflatten(0, (heads, -1))
    return weight.repeat_interleave(groups, 0), bias.repeat_interleave(groups, 0)


def unit_rotations(
    module, query: Tensor, position_embeddings: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the query for which c a^2 is the scale of the whole head, and rotations without a."""
    rotate = sys.modules[type(module).__module__].apply_rotary_pos_emb
    cos, sin = (each.to(query) / module.attention_factor for each in position_embeddings)
    scale = torch.ones(query.shape[-1]).to(query)
    scale[cos.shape[-1] :] = module.attention_factor**-2
    return query * scale, relative_rotations(rotate, cos, sin, query.shape[-1])


def relative_rotations(rotate, cos: Tensor, sin: Tensor, head_dim: int) -> Tensor:
    """Return ``R_i^T R_m`` for every query m and key i, from a model's own rotation of basis vectors."""
    batch, tokens, rotated = cos.shape
    basis = torch.eye(rotated).to(cos)[None, :, None].expand(batch, -1, tokens, -1)
    columns, _ = rotate(basis, basis, cos, sin)  # (batch, input dimension, tokens, output dimension)
    matrices = torch.eye(head_dim).to(cos).repeat(batch, tokens, 1, 1)
    matrices[..., :rotated, :rotated] = columns.permute(0, 2, 3, 1)
    return torch.einsum("bijl,bmjk->bmilk", matrices, matrices)


def additive(mask: Tensor | None, query: Tensor, keys: Tensor, is_causal: bool) -> Tensor | None:
    """Turn what Transformers passes as a mask into numbers to add, ``-inf`` where a key is not seen."""
    if mask is None:
        future = torch.ones(query.shape[2], keys.shape[1], dtype=torch.bool).triu(1)
        return torch.zeros(future.shape).to(query).masked_fill(future, -torch.inf) if is_causal else None
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape).to(query).masked_fill(~mask, -torch.inf)
    return mask.masked_fill(mask <= torch.finfo(mask.dtype).min, -torch.inf)
