import re
from contextlib import contextmanager

import pytest
import torch
from torch.nn import functional as F

from nvreg.errors import UserError
from nvreg.finetune.dropout import _places, dropout_sites, get_rate, set_rates_
from tests.models.architectures import ARCHITECTURES, Architecture, random_ids
from tests.models.running import each_of, of

BERT_BASE = {"hidden_size": 8, "num_hidden_layers": 12, "num_attention_heads": 2, "intermediate_size": 8}

NAMES = {
    "bert": ["embeddings.dropout"]
    + [
        f"encoder.layer.{i}.{name}"
        for i in range(3)
        for name in ("attention.self.dropout", "attention.output.dropout", "output.dropout")
    ],
    "distilbert": ["embeddings.dropout"]
    + [f"transformer.layer.{i}.{name}" for i in range(3) for name in ("attention.dropout", "ffn.dropout")],
    "gpt2": ["drop"]
    + [
        f"h.{i}.{name}"
        for i in range(4)
        for name in ("attn.attn_dropout", "attn.resid_dropout", "mlp.dropout")
    ],
    "bart": ["encoder.dropout"]
    + [
        f"encoder.layers.{i}.{name}"
        for i in range(2)
        for name in ("self_attn.dropout", "dropout", "activation_dropout")
    ]
    + ["decoder.dropout"]
    + [
        f"decoder.layers.{i}.{name}"
        for i in range(3)
        for name in ("self_attn.dropout", "dropout", "encoder_attn.dropout", "activation_dropout")
    ],
    "t5": ["encoder.dropout"]
    + [
        f"encoder.block.{i}.layer.{name}"
        for i in range(3)
        for name in ("0.SelfAttention.dropout", "0.dropout", "1.DenseReluDense.dropout", "1.dropout")
    ]
    + ["decoder.dropout"]
    + [
        f"decoder.block.{i}.layer.{name}"
        for i in range(3)
        for name in (
            *("0.SelfAttention.dropout", "0.dropout", "1.EncDecAttention.dropout", "1.dropout"),
            *("2.DenseReluDense.dropout", "2.dropout"),
        )
    ],
}
NAMES["roberta"] = NAMES["bert"]
NAMES["marian"] = NAMES["bart"]

of_the_named = of(*NAMES)


@contextmanager
def intercepted():
    """Note the rates that dropout and attention drop with, and the share of zeros that dropout made."""
    rates: dict[float, list[float]] = {}
    dropout, attention = F.dropout, F.scaled_dot_product_attention

    def note_dropout(x, p=0.5, training=True, inplace=False):
        y = dropout(x, p, training, inplace)
        if training and p:
            rates.setdefault(p, []).append((y == 0).double().mean().item())
        return y

    def note_attention(*args, dropout_p=0.0, **options):
        if dropout_p:
            rates.setdefault(dropout_p, [])
        return attention(*args, dropout_p=dropout_p, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "dropout", note_dropout)
        patch.setattr(F, "scaled_dot_product_attention", note_attention)
        yield rates


@of_the_named
def test_sites_have_the_names_of_their_modules_in_forward_order(architecture):
    model = architecture.build()
    assert [site.name for site in dropout_sites(model, architecture.inputs(model))] == NAMES[
        architecture.name
    ]


def test_bert_base_has_37_sites_fed_by_the_parameters_the_paper_names():
    architecture = Architecture("bert", "bert", "BertForMaskedLM", BERT_BASE)
    model = architecture.build()
    sites = {site.name: site.tensors for site in dropout_sites(model, architecture.inputs(model))}
    assert len(sites) == 37

    def pairs(*names):
        return tuple(f"{name}.{kind}" for name in names for kind in ("weight", "bias"))

    embeddings = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    assert sites["embeddings.dropout"] == (
        *(f"embeddings.{name}.weight" for name in embeddings),
        *pairs("embeddings.LayerNorm"),
    )
    layer = "encoder.layer.11"
    attention = f"{layer}.attention.self"
    assert sites[f"{attention}.dropout"] == pairs(
        f"{attention}.query", f"{attention}.key", f"{attention}.value"
    )
    for output in (f"{layer}.attention.output", f"{layer}.output"):
        assert sites[f"{output}.dropout"] == pairs(f"{output}.dense", f"{output}.LayerNorm")


FEEDING = {
    r".*embeddings\.dropout": r"embeddings\..*",
    r"drop": r"w[tp]e",
    r"(..coder)\.dropout": r"shared|{}\.(embed_positions|layernorm_embedding|final_layer_norm)",
    r"(.*)\.attn_dropout": r"{}\.c_attn",
    r"(.*)\.resid_dropout": r"{}\.c_proj",
    r"(.*mlp)\.dropout": r"{}\.c_proj",
    r"(.*attention)\.dropout": r"{}\.[qkv]_lin",
    r"(.*ffn)\.dropout": r"{}\.lin2",
    r"(.*_attn)\.dropout": r"{}\.[qkv]_proj",
    r"(.*)\.activation_dropout": r"{}\.fc1",
    r"(.*layers\.\d+)\.dropout": r"{}\.(\w+_attn\.out_proj|\w+_layer_norm|fc2)",
    r"(.*Attention)\.dropout": r"{}\.[qkv]",
    r"(.*DenseReluDense)\.dropout": r"{}\.wi",
    r"(.*layer\.\d+)\.dropout": r"{}\.(\w+Attention\.o|DenseReluDense\.wo)",
}


@of("distilbert", "gpt2", "bart", "marian", "t5")
def test_a_site_is_fed_by_the_projections_before_it(architecture):
    model = architecture.build()
    for site in dropout_sites(model, architecture.inputs(model)):
        where, feeding = next(
            (match, FEEDING[pattern]) for pattern in FEEDING if (match := re.fullmatch(pattern, site.name))
        )
        expected = feeding.format(*map(re.escape, where.groups()))
        for tensor in site.tensors:
            assert re.fullmatch(rf"({expected})\.(weight|bias)", tensor), (site.name, tensor)


READ_BY_NONE = {
    "opt": r"decoder\.dropout",
    "nllb-moe": r"decoder\.layers\.\d+\.dropout|.*\.moe_token_dropout",
    "albert": r".*\.albert_layers\.\d+\.dropout",
}
"""Modules that may be places of dropout and that the model's code passes by."""


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "architecture",
    each_of(
        each for each in ARCHITECTURES if each.model_type != "falcon"
    ),  # reads its config at every forward
)
def test_the_running_model_drops_at_every_site_with_its_rate_and_nowhere_else(architecture, attention):
    model = architecture.build(attention=attention, dtype=torch.float32)
    inputs = architecture.inputs(model)
    before = torch.random.get_rng_state()
    sites = dropout_sites(model, inputs)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not model.training
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # of heads, too
    rates = {site.name: 0.01 + 0.001 * number for number, site in enumerate(sites)}
    set_rates_(model, rates)
    assert {name: get_rate(model, name) for name in rates} == rates
    with intercepted() as fired:
        model(**inputs)
    assert not fired, "dropout in evaluation"
    with intercepted() as fired:
        model.train()(**inputs)
    assert set(fired) == set(rates.values())
    assert all(site.tensors for site in sites)
    of_none = re.compile(READ_BY_NONE.get(architecture.model_type, "nothing"))
    places = set(_places(model.base_model))
    assert places - set(rates) == {place for place in places if of_none.fullmatch(place)}


@of("falcon")
def test_a_model_that_reads_its_rates_from_its_config_is_refused(architecture):
    model = architecture.build(dtype=torch.float32)
    with pytest.raises(UserError, match="expected a model with dropout, got falcon"):
        dropout_sites(model, architecture.inputs(model))


@of("bert", "gpt2", "bart", "t5")
def test_the_share_of_zeros_is_the_rate(architecture):
    model = architecture.build(attention="eager")
    inputs = {name: ids.repeat(20, 1) for name, ids in architecture.inputs(model).items()}
    sites = dropout_sites(model, inputs)
    set_rates_(model, {site.name: 0.1 + 0.02 * number for number, site in enumerate(sites)})
    torch.manual_seed(0)
    with intercepted() as fired:
        model.train()(**inputs)
    kept = {rate: shares for rate, shares in fired.items() if shares}
    assert len(kept) == len(sites)
    causal_or_activated = (
        0.9  # attention weights of later tokens, and what an activation cuts off, are zero too
    )
    for rate, shares in kept.items():
        assert all(rate - 0.06 < share < causal_or_activated for share in shares)
    dense = [(rate, share) for rate, shares in kept.items() for share in shares if share < rate + 0.06]
    assert len(dense) > len(sites) / 2


def test_layers_that_are_dropped_as_a_whole_still_have_sites():
    bart = next(architecture for architecture in ARCHITECTURES if architecture.name == "bart")
    architecture = Architecture(
        "bart", "bart", "BartForConditionalGeneration", {**bart.config, "encoder_layerdrop": 1.0}
    )
    model = architecture.build()
    assert [site.name for site in dropout_sites(model, architecture.inputs(model))] == NAMES["bart"]
    assert model.model.encoder.layerdrop == 1.0


def test_a_body_has_the_same_sites_under_every_head():
    names = []
    for head in ("BertForMaskedLM", "BertForSequenceClassification"):
        architecture = Architecture("bert", "bert", head, BERT_BASE)
        model = architecture.build()
        names.append(dropout_sites(model, {"input_ids": random_ids(2, 5)}))
    assert names[0] == names[1]


def test_an_unknown_site_is_a_clear_error():
    architecture = Architecture("bert", "bert", "BertForMaskedLM", BERT_BASE)
    model = architecture.build()
    with pytest.raises(UserError, match=r"expected a dropout site.*'encoder\.layer\.99\.output\.dropout'"):
        set_rates_(model, {"encoder.layer.99.output.dropout": 0.1})
    with pytest.raises(UserError, match="expected a dropout site"):
        set_rates_(model, {"encoder.layer.0.output.dense": 0.1})
