"""What a model runs for its attention alone, against the same with labels and all logits."""

import pytest
import torch

from nvreg.errors import UserError
from nvreg.models.registry import attention_modules
from nvreg.models.teacher_forcing import check_vocabulary, query_masks, run_body
from tests.estimation.test_calibration import sample
from tests.models.running import EXACT, of
from tests.tiny import tiny_marian


@of("marian", "t5", "bert", "gpt2", "llama", "t5 encoder", "opt", "bert to gpt2")
def test_attention_is_that_of_a_run_with_labels_and_logits_are_of_one_position(architecture):
    model = architecture.build()
    outputs, logits = {}, []
    for site, (_, module) in attention_modules(model).items():
        module.register_forward_hook(lambda _, args, output, site=site: outputs.update({site: output[0]}))
    if head := model.get_output_embeddings():
        head.register_forward_hook(lambda _, args, output: logits.append(output))
    for batch in sample(architecture):
        masks = query_masks(model, batch)
        with torch.no_grad():
            model(**batch)
            whole = dict(outputs)
            outputs.clear()
            run_body(model, batch)
        assert outputs.keys() == whole.keys() > set()
        for site, output in outputs.items():
            mask = masks[site.role]
            torch.testing.assert_close(output[mask], whole[site][mask], **EXACT)
        assert not head or logits[-2].shape[1] > logits[-1].shape[1] == 1


def test_labels_of_classes_are_no_text():
    from transformers import BartConfig, BartForSequenceClassification

    config = BartConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1, eos_token_id=2)
    model = BartForSequenceClassification(config).eval()
    ids = torch.tensor([[4, 5, 2], [6, 2, 1]])
    seen = []
    model.get_decoder().register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
    )
    batch = {"input_ids": ids, "attention_mask": (ids != 1).long(), "labels": torch.tensor([0, 1])}
    model(**batch)
    run_body(model, batch)
    assert torch.equal(*seen)


def test_a_tokenizer_of_too_many_tokens_is_named_by_its_directory_if_it_has_one(tmp_path):
    model, tokenizer = tiny_marian()
    check_vocabulary(model.config, tokenizer)
    model.config.vocab_size = 4
    expected = f"the model's 4 tokens (vocab_size), got one of {tokenizer.vocab_size}"
    with pytest.raises(UserError) as in_memory:
        check_vocabulary(model.config, tokenizer)
    assert f"{expected}; put the model's tokenizer back" in str(in_memory.value)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError) as loaded:
        check_vocabulary(model.config, type(tokenizer).from_pretrained(tmp_path))
    assert f"{expected} in {tmp_path}; put" in str(loaded.value)
