"""Libraries that take a model take a converted one, and compute what it computes by itself."""

import pytest
import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
    pipeline,
)

import nvreg
from nvreg.checkpoint import PRIOR_FILE
from tests.tiny import tiny_marian, tiny_model, word_tokenizer

SETTINGS = nvreg.Settings(tau_alpha=0.0, tau_sigma=0.4)
TEXTS = ["a small cat sees a big dog .", "the bird likes a red house ."]
SPACES = ["inputs", "heads"]


@pytest.fixture(params=SPACES)
def space(request):
    return request.param


@pytest.fixture
def opened(space, tmp_path):
    """Saves a model converted in a space, and opens it as anybody would."""

    def save_and_open(model, tokenizer, **inputs):
        with torch.no_grad():
            batch = {**tokenizer(TEXTS, return_tensors="pt", padding=True), **inputs}
            prior = nvreg.estimate_prior(model.eval(), [batch], space=space)
        nvreg.save_pretrained(nvreg.convert_(model, prior, SETTINGS), tmp_path / "OUT")
        tokenizer.save_pretrained(tmp_path / "OUT")
        return nvreg.from_pretrained(tmp_path / "OUT")

    return save_and_open


@pytest.fixture
def tokenizer():
    return word_tokenizer(pair="$A $B:1")


def bert(kind, tokenizer):
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return kind(BertConfig(vocab_size=len(tokenizer), **size))


def differs(model, call):
    """Whether what a call returns is another thing of the pretrained model."""
    regularised = call()
    nvreg.set_settings_(model, nvreg.Settings.identity())
    return regularised != call()


def scores(logits):
    return logits.softmax(-1).tolist()


def test_text_classification(opened, tokenizer):
    model = opened(tiny_model("classification", len(tokenizer)), tokenizer)
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)
    told = [{each["label"]: each["score"] for each in of_text} for of_text in classify(TEXTS)]
    with torch.no_grad():
        for text, by_label in zip(TEXTS, told, strict=True):
            (expected,) = scores(model(**tokenizer(text, return_tensors="pt")).logits)
            assert [by_label["good"], by_label["bad"]] == pytest.approx(expected, rel=1e-5)
    assert differs(model, lambda: classify(TEXTS[0]))


def test_token_classification(opened, tokenizer):
    model = opened(tiny_model("token-classification", len(tokenizer)), tokenizer)
    tag = pipeline("token-classification", model=model, tokenizer=tokenizer, ignore_labels=[])
    with torch.no_grad():
        expected = model(**tokenizer(TEXTS[0], return_tensors="pt")).logits[0].softmax(-1).max(-1)
    told = tag(TEXTS[0])
    assert [each["score"] for each in told] == pytest.approx(expected.values.tolist(), rel=1e-5)
    assert [each["entity"] for each in told] == [
        model.config.id2label[each] for each in expected.indices.tolist()
    ]
    assert differs(model, lambda: [each["score"] for each in tag(TEXTS[0])])


def test_fill_mask(opened, tokenizer):
    model = opened(bert(BertForMaskedLM, tokenizer), tokenizer)
    fill = pipeline("fill-mask", model=model, tokenizer=tokenizer, top_k=3)
    text = "a small <mask> sees a big dog ."
    inputs = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[inputs.input_ids == tokenizer.mask_token_id]
    expected = logits.softmax(-1).topk(3)
    told = fill(text)
    assert [each["token"] for each in told] == expected.indices[0].tolist()
    assert [each["score"] for each in told] == pytest.approx(expected.values[0].tolist(), rel=1e-5)
    assert differs(model, lambda: [each["score"] for each in fill(text)])


def test_feature_extraction(opened, tokenizer):
    model = opened(bert(BertModel, tokenizer), tokenizer)
    (told,) = pipeline("feature-extraction", model=model, tokenizer=tokenizer)(TEXTS[0])
    with torch.no_grad():
        expected = model(**tokenizer(TEXTS[0], return_tensors="pt")).last_hidden_state[0]
    torch.testing.assert_close(torch.tensor(told), expected)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_text_generation(opened, batch_size):
    tokenizer = word_tokenizer()
    tokenizer.padding_side = "left"
    model = opened(tiny_model("language-modelling", len(tokenizer)), tokenizer)
    continue_ = pipeline("text-generation", model=model, tokenizer=tokenizer, batch_size=batch_size)
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    told = [of_text[0]["generated_text"] for of_text in continue_(TEXTS, return_full_text=False, **options)]
    for text, generated in zip(TEXTS, told, strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        ids = model.generate(**inputs, **options)[0, inputs.input_ids.shape[1] :]
        assert generated.strip() == tokenizer.decode(ids, skip_special_tokens=True).strip()
        assert generated
    assert differs(model, lambda: model(**tokenizer(TEXTS[0], return_tensors="pt")).logits.tolist())


@pytest.mark.parametrize("task", ["translation", "summarization"])
def test_transformers_has_pipelines_of_sequences_to_sequences_no_more(task, opened):
    model, tokenizer = tiny_marian()
    batch = tokenizer(TEXTS, return_tensors="pt", padding=True)
    model = opened(model, tokenizer, labels=batch.input_ids)
    with pytest.raises(KeyError, match=task):
        pipeline(task, model=model, tokenizer=tokenizer)
    generated = model.generate(**batch, max_new_tokens=8, num_beams=2)
    assert len(tokenizer.batch_decode(generated, skip_special_tokens=True)) == 2


def test_trainer_evaluates(opened, tokenizer, tmp_path):
    pytest.importorskip("accelerate", reason="needs accelerate, which the Trainer needs")
    model = opened(tiny_model("token-classification", len(tokenizer)), tokenizer)
    rows = [dict(tokenizer(text)) for text in TEXTS]
    for row in rows:
        row["labels"] = [number % 3 for number in range(len(row["input_ids"]))]
    arguments = TrainingArguments(str(tmp_path / "trainer"), use_cpu=True, report_to=[])
    collator = DataCollatorForTokenClassification(tokenizer)
    trainer = Trainer(model, arguments, data_collator=collator, eval_dataset=Dataset.from_list(rows))
    with torch.no_grad():
        expected = model(**collator(rows)).loss.item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert differs(model, lambda: trainer.evaluate()["eval_loss"])


def test_sentence_transformers_encodes(opened, tokenizer, tmp_path):
    reason = "needs sentence-transformers (pip install sentence-transformers)"
    sentences = pytest.importorskip("sentence_transformers", reason=reason)
    model = opened(bert(BertModel, tokenizer), tokenizer)
    encoder = sentences.SentenceTransformer(str(tmp_path / "OUT"), device="cpu")
    unchanged = encoder.encode(TEXTS)
    nvreg.convert_(encoder[0].auto_model, nvreg.Prior.load(tmp_path / "OUT" / PRIOR_FILE), SETTINGS)
    with torch.no_grad():
        inputs = tokenizer(TEXTS, return_tensors="pt", padding=True)
        states, mask = model(**inputs).last_hidden_state, inputs.attention_mask[..., None]
    expected = (states * mask).sum(1) / mask.sum(1)
    torch.testing.assert_close(torch.tensor(encoder.encode(TEXTS)), expected)
    assert not torch.allclose(torch.tensor(unchanged), expected, atol=1e-4)
