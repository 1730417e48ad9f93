"""The kernel's ways of computing attention are one function."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nvreg.attention import plain
from nvreg.attention.kernel import attention_with_lse

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def defined(query, key, value, scale, columns, bias, mask, is_causal, softcap=None):
    groups = query.shape[1] // key.shape[1]
    logits = scale * query @ key.repeat_interleave(groups, 1).transpose(-1, -2)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    if bias is not None:
        logits = logits + (bias if bias.shape[1] == 1 else bias.repeat_interleave(groups, 1))
    if is_causal:
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool).tril()
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    weights = logits.softmax(-1)
    means = (
        None
        if columns is None
        else weights @ columns.repeat_interleave(len(weights[0]) // len(columns[0]), 1)
    )
    return weights @ value.repeat_interleave(groups, 1), logits.logsumexp(-1), means


@pytest.mark.parametrize("entries", [1, 5000, 2**19])
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 2), st.integers(1, 3)),
    queries=st.sampled_from([1, 5, 64, 65, 130]),
    masked=st.sampled_from(["none", "bool", "padding", "additive", "shared", "causal"]),
    biased=st.sampled_from(["", "keys", "heads"]),
    with_columns=st.sampled_from(["", "keys", "heads"]),
    width=st.sampled_from([4, 3, 6]),
    softcap=st.sampled_from([None, 0.7]),
    need_weights=st.booleans(),
)
def test_every_way_of_computing_it_is_one_function(
    entries, seed, sizes, queries, masked, biased, with_columns, width, softcap, need_weights
):
    generator = torch.Generator().manual_seed(seed)
    batch, key_heads, groups = sizes

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    query = normal(batch, queries, key_heads * groups, 4).transpose(1, 2)
    keys = queries if masked == "causal" else 70
    key, value = normal(batch, key_heads, keys, 4), normal(batch, key_heads, keys, width)
    columns = normal(batch, key_heads if with_columns == "heads" else 1, keys, 3) if with_columns else None
    bias = normal(batch, key_heads if biased == "heads" else 1, 1, keys) if biased else None
    mask = None
    if masked == "bool":
        mask = normal(batch, 1, queries, keys) < 0.5
        mask[..., 0] = True
    elif masked == "padding":
        mask = (torch.arange(keys) < 60).expand(batch, 1, queries, keys)
    elif masked in ("additive", "shared"):
        mask = normal(1 if masked == "shared" else batch, key_heads * groups, queries, keys)
    options = {"columns": columns, "bias": bias, "mask": mask, "is_causal": masked == "causal"}
    options["softcap"] = softcap
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(plain._MAP_ENTRIES, "cpu", entries)
        attended = attention_with_lse(query, key, value, 0.5, **options, need_weights=need_weights)
    assert (attended.weights is not None) == need_weights
    expected = defined(query, key, value, 0.5, **options)
    for one, other in zip(attended, expected, strict=False):
        torch.testing.assert_close(one, other, **EXACT)


@pytest.mark.parametrize("map_rows", [0, 1, 2])
@pytest.mark.parametrize("with_columns", [False, True])
@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_that_of_the_inputs_and_no_worse(dtype, queries, with_columns, map_rows):
    generator = torch.Generator().manual_seed(0)
    mask = torch.randn(map_rows, 4, queries, 40, generator=generator).to(dtype) if map_rows else None
    query, key, value = (torch.randn(2, 4, n, 8, generator=generator).to(dtype) for n in (queries, 40, 40))
    columns = torch.randn(2, 1, 40, 6, generator=generator).to(dtype) if with_columns else None
    bias = 300 + torch.rand(2, 1, 1, 40, generator=generator)
    attended = attention_with_lse(4 * query, key, value, 0.35, columns=columns, bias=bias, mask=mask)
    wide = (each if each is None else each.float() for each in (4 * query, key, value, columns))
    query, key, value, columns = wide
    output, lse, means = defined(query, key, value, 0.35, columns, bias, mask, False)
    assert attended.output.dtype in (dtype, torch.float32)
    assert attended.lse.dtype == torch.float32
    torch.testing.assert_close(attended.lse, lse, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(attended.output.float(), output, rtol=0.02, atol=0.02)
    if with_columns:
        torch.testing.assert_close(attended.columns.float(), means, rtol=0.02, atol=0.02)


def test_a_bias_may_be_less_wide_than_queries():
    query, key, value = torch.randn(3, 1, 2, 5, 4, dtype=torch.float64)
    mask, bias = torch.ones(1, 1, 5, 5, dtype=torch.bool).tril(), torch.rand(1, 1, 1, 5)
    attended = attention_with_lse(query, key, value, 0.5, mask=mask, bias=bias)
    expected = defined(query, key, value, 0.5, None, bias, mask, False)
    torch.testing.assert_close(attended.output, expected[0], **EXACT)


@pytest.mark.gpu
@pytest.mark.parametrize("is_causal", [False, True])
def test_an_accelerator_computes_the_same(is_causal):
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 130, 8, generator=generator, dtype=torch.float64)
    columns, bias = query[:, :1, :, :6], key[:, :1, None, :, 0]
    mask = None if is_causal else value[:, :1, None, :, 0] < 1
    inputs = (query, key[:, :2], value[:, :2])
    options = {"columns": columns, "bias": bias, "mask": mask}
    expected = defined(*inputs, 0.5, **options, is_causal=is_causal)
    there = {name: None if each is None else each.cuda() for name, each in options.items()}
    attended = attention_with_lse(*(each.cuda() for each in inputs), 0.5, **there, is_causal=is_causal)
    for one, other in zip(attended, expected, strict=False):
        torch.testing.assert_close(one.cpu(), other, **EXACT)
