import pytest
from transformers import AutoConfig, AutoModel

from nvreg import UserError
from nvreg.models.layouts.bert import BertAdapter
from nvreg.tasks.limits import check_length, token_limit
from tests.models.architectures import Architecture, random_ids
from tests.tiny import word_tokenizer

ENCODER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
KINDS = BertAdapter.attention_classes
MORE = {"xmod": {"languages": ["en_XX"], "default_language": "en_XX"}}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pad", [0, 1, 3])
def test_the_limit_is_the_most_that_a_model_of_learned_positions_reads(kind, pad):
    config = AutoConfig.for_model(
        kind, **ENCODER, max_position_embeddings=12, vocab_size=40, pad_token_id=pad, **MORE.get(kind, {})
    )
    model = AutoModel.from_config(config).eval()
    limit = token_limit(model.config, word_tokenizer(limit=10**30))
    model(input_ids=random_ids(1, limit).clamp(min=4))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=random_ids(1, limit + 1).clamp(min=4))
    check_length(model.config, "data.max_length", limit)
    with pytest.raises(UserError, match=f"data.max_length: expected at most the model's {limit} positions"):
        check_length(model.config, "data.max_length", limit + 1)


def test_a_model_of_rotary_positions_has_as_many_as_its_config_says():
    config = AutoConfig.for_model("gemma3n_text", max_position_embeddings=12, pad_token_id=0)
    assert token_limit(config, word_tokenizer(limit=10**30)) == 12


def test_the_tokenizer_s_limit_counts_where_it_is_lower():
    config = Architecture("bert", "bert", "BertModel", ENCODER).build().config
    assert config.max_position_embeddings == 512
    assert token_limit(config, word_tokenizer(limit=40)) == 40
