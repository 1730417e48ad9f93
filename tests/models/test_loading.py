import io
import json
import sys

import pytest
import torch
import transformers
from torch.testing import assert_close
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    MarianConfig,
    T5Config,
    XLNetConfig,
    XLNetLMHeadModel,
)

import nvreg
from nvreg.digests import fingerprint
from nvreg.errors import DamagedError
from nvreg.models.loading import auto_class, load_config, load_model, load_tokenizer
from nvreg.tasks import TASKS
from tests.tiny import tiny_marian

SEQ2SEQ = "AutoModelForSeq2SeqLM"


@pytest.fixture
def saved(tmp_path):
    model, tokenizer = tiny_marian()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_directory_is_loaded_in_evaluation_mode(saved):
    model = load_model(saved, SEQ2SEQ, dtype="bfloat16", device="cpu")
    assert type(model).__name__ == "MarianMTModel"
    assert model.dtype == torch.bfloat16
    assert not model.training
    assert load_tokenizer(saved)("a cat").input_ids


def test_a_model_is_spread_over_devices_by_accelerate(saved, monkeypatch):
    pytest.importorskip("accelerate")
    whole, given = load_model(saved, SEQ2SEQ, device="cpu"), []
    own = transformers.AutoModelForSeq2SeqLM.from_pretrained

    def noted(*args, **options):
        given.append(options.get("device_map"))
        return own(*args, **options)

    monkeypatch.setattr(transformers.AutoModelForSeq2SeqLM, "from_pretrained", noted)
    spread = load_model(saved, SEQ2SEQ, device_map="auto")
    assert given == ["auto"]
    for one, other in zip(spread.parameters(), whole.parameters(), strict=True):
        assert torch.equal(one.cpu(), other)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(nvreg.UserError, match=r"model\.device_map: expected accelerate"):
        load_model(saved, SEQ2SEQ, device_map="auto")


def test_weights_that_get_no_memory_are_not_taken_for_broken_ones(saved, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(transformers.AutoModelForSeq2SeqLM, "from_pretrained", fails)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        load_model(saved, SEQ2SEQ)


def test_without_a_class_the_head_is_the_one_it_was_saved_with(saved):
    assert type(load_model(saved)).__name__ == "MarianMTModel"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int3"}, "dtype: expected one of float32, .*got 'int3'"),
        ({"device": "toaster"}, "device: expected a device that torch can use, got 'toaster'"),
        ({"device": "cuda:99"}, "device: expected a device that torch can use, got 'cuda:99'"),
    ],
)
def test_what_cannot_be_used_is_named(saved, options, message):
    with pytest.raises(nvreg.UserError, match=message):
        load_model(saved, SEQ2SEQ, **options)


@pytest.mark.parametrize("path", ["./nowhere", "/no/such/model", "~/no-such-model"])
def test_a_missing_directory_is_named(path):
    with pytest.raises(nvreg.UserError, match=r"expected a model directory, found none at .*no"):
        load_model(path)


def test_an_unreachable_hub_points_to_local_paths():
    for load in (load_model, load_tokenizer):
        with pytest.raises(nvreg.UserError, match=r"'facebook/bart-large-cnn'.*hub.*local directory"):
            load("facebook/bart-large-cnn")


def test_a_directory_without_weights_is_refused(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(nvreg.UserError, match=f"checkpoint with weights in {saved}"):
        load_model(saved)


def test_an_unsupported_architecture_is_named_with_what_is_supported(tmp_path):
    XLNetLMHeadModel(XLNetConfig(vocab_size=10, d_model=8, n_layer=1, n_head=2, d_inner=8)).save_pretrained(
        tmp_path
    )
    with pytest.raises(nvreg.UserError, match=r"converts \(.*bart.*marian.*\), got 'xlnet'"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("config", "kind", "message"),
    [
        (GPT2Config(), "encoder-decoder", "is encoder-decoder, got 'gpt2', which is decoder-only"),
        (BertConfig(), "encoder-decoder", "is encoder-decoder, got 'bert', which is encoder-only"),
        (BertConfig(), "decoder-only", "is decoder-only, got 'bert', which is encoder-only"),
        (T5Config(), "decoder-only", "is decoder-only, got 't5', which is encoder-decoder"),
    ],
)
def test_a_model_of_a_kind_that_the_task_has_none_of_is_refused(tmp_path, config, kind, message):
    config.save_pretrained(tmp_path)
    with pytest.raises(nvreg.UserError, match=message):
        load_model(tmp_path, {kind: "AutoModel"})


@pytest.mark.parametrize(
    ("config", "loader"),
    [
        (GPT2Config(), "AutoModelForCausalLM"),
        (BertConfig(), "AutoModelForMaskedLM"),
        (BertConfig(is_decoder=True), "AutoModelForCausalLM"),
        (T5Config(), "AutoModelForSeq2SeqLM"),
        (MarianConfig(), "AutoModelForSeq2SeqLM"),
    ],
)
def test_language_models_are_loaded_by_their_kind(config, loader):
    assert auto_class(TASKS["language-modelling"].auto_class, config) == loader


def test_a_checkpoint_without_the_head_of_the_task_is_refused(tmp_path):
    config = BertConfig(
        vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    BertForMaskedLM(config).save_pretrained(tmp_path)
    message = (
        r"with all weights of BertForSequenceClassification, .* bert.pooler.dense.bias and 3 more; fine-tune"
    )
    with pytest.raises(nvreg.UserError, match=message):
        load_model(tmp_path, "AutoModelForSequenceClassification")
    assert type(load_model(tmp_path, "AutoModelForMaskedLM")).__name__ == "BertForMaskedLM"


@pytest.mark.parametrize(
    ("head", "other", "what"),
    [
        ("BertForSequenceClassification", "AutoModelForTokenClassification", "words"),
        ("BertForTokenClassification", "AutoModelForSequenceClassification", "texts"),
    ],
)
def test_the_head_of_another_classifier_is_not_taken_for_that_of_the_task(tmp_path, head, other, what):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = getattr(transformers, head)(BertConfig(vocab_size=10, **sizes))
    if what == "texts":  # which have a layer more
        model.bert.pooler = transformers.models.bert.modeling_bert.BertPooler(model.config)
    model.save_pretrained(tmp_path)
    with pytest.raises(nvreg.UserError, match=f"a head that chooses classes of {what}, got {head}; name"):
        load_model(tmp_path, other)
    new = load_model(tmp_path, other, labels=["a", "b"], device="cpu")
    assert type(new).__name__.endswith(other.removeprefix("Auto")[8:])
    assert not torch.equal(new.classifier.weight, model.classifier.weight)


def test_a_directory_of_another_kind_is_not_a_converted_model(saved):
    with pytest.raises(nvreg.UserError, match=r"written by nvreg.save_pretrained, found no nvreg.json"):
        nvreg.from_pretrained(saved)


def test_a_converted_directory_with_other_weights_is_refused(saved, tmp_path):
    model = load_model(saved)
    prior = nvreg.estimate_prior(
        model, [{"input_ids": torch.ones(2, 4).long(), "labels": torch.ones(2, 4).long()}]
    )
    nvreg.save_pretrained(nvreg.convert_(model, prior, nvreg.Settings(tau_alpha=1)), tmp_path / "nv")
    assert json.loads((tmp_path / "nv" / "nvreg.json").read_text()) == {
        "space": "inputs",
        "settings": {"tau_alpha": {"encoder": 1.0, "cross": 1.0, "decoder": 1.0}},
    }
    nvreg.from_pretrained(tmp_path / "nv")
    tiny_marian(seed=1)[0].save_pretrained(tmp_path / "nv")
    with pytest.raises(nvreg.UserError, match=r"model.safetensors as nvreg wrote it, got another or none; "):
        nvreg.from_pretrained(tmp_path / "nv")
    (tmp_path / "nv" / "digests.json").unlink()
    with pytest.raises(nvreg.UserError, match="prior of this model"):
        nvreg.from_pretrained(tmp_path / "nv")


@pytest.fixture
def converted(saved, tmp_path):
    """A converted directory."""
    model = load_model(saved)
    settings = nvreg.Settings(tau_sigma=0.25, tau_alpha={"cross": -1})
    nvreg.save_pretrained(nvreg.convert_(model, nvreg.Prior.gaussian(model), settings), tmp_path / "nv")
    return tmp_path / "nv"


def test_another_setting_or_prior_than_was_saved_is_refused(converted, saved):
    nvreg.from_pretrained(converted)
    path, message = (
        converted / "nvreg.json",
        r"nvreg.json: expected the setting and the prior that were saved",
    )
    whole, prior = path.read_text(), (converted / "nvreg_prior.safetensors").read_bytes()
    path.write_text(whole.replace("0.25", "0.75"))
    with pytest.raises(DamagedError, match=message):
        nvreg.from_pretrained(converted)
    path.write_text(whole)
    nvreg.from_pretrained(converted)
    (converted / "digests.json").unlink()  # by which another prior is noticed first
    model = load_model(saved)
    tokens = torch.arange(2, 10).view(2, 4)
    nvreg.estimate_prior(model, [{"input_ids": tokens, "labels": tokens}]).save(
        converted / "nvreg_prior.safetensors"
    )
    with pytest.raises(DamagedError, match=message):
        nvreg.from_pretrained(converted)
    (converted / "nvreg_prior.safetensors").write_bytes(prior)
    config = json.loads((converted / "config.json").read_text())
    for earlier in ({}, {"nvreg": {"space": "inputs"}}, {"nvreg": "x"}):  # which wrote no digest
        written = {key: value for key, value in config.items() if key != "nvreg"} | earlier
        (converted / "config.json").write_text(json.dumps(written))
        nvreg.from_pretrained(converted)


CODE = """
import pathlib
from transformers import MarianConfig, MarianMTModel


class OtherConfig(MarianConfig):
    pathlib.Path({mark!r}).touch()


class Other(MarianMTModel):
    config_class = OtherConfig
"""


def test_code_of_a_converted_directory_is_run_where_the_caller_says_so_alone(
    converted, tmp_path, monkeypatch
):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))  # nobody is asked
    mark = tmp_path / "code-was-run"
    (converted / "other.py").write_text(CODE.format(mark=str(mark)))
    config = json.loads((converted / "config.json").read_text())
    mapped = {"AutoConfig": "other.OtherConfig", "AutoModelForSeq2SeqLM": "other.Other"}
    config |= {"architectures": ["Other"], "auto_map": mapped}
    (converted / "config.json").write_text(json.dumps(config))
    with pytest.raises(nvreg.UserError, match="got 'Other'"):
        nvreg.from_pretrained(converted)
    assert not mark.exists()
    model = nvreg.from_pretrained(converted, trust_remote_code=True)
    assert mark.exists()
    assert "Other" in [each.__name__ for each in type(model).__mro__]
    assert type(load_model(converted, trust_remote_code=True)).__name__ == "Other"


def test_a_converted_directory_of_no_known_architecture_is_refused(saved, tmp_path):
    model = load_model(saved)
    nvreg.save_pretrained(
        nvreg.convert_(model, nvreg.Prior.gaussian(model), nvreg.Settings()), tmp_path / "nv"
    )
    config = tmp_path / "nv" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"architectures": ["NoSuchModel"]}))
    with pytest.raises(
        nvreg.UserError, match=r"expected architectures of Transformers .*, got 'NoSuchModel'"
    ):
        nvreg.from_pretrained(tmp_path / "nv")


# --- adapters -------------------------------------------------------------------------------------


@pytest.fixture
def lora(saved, tmp_path):
    """Save an adapter of the saved model with random weights; return its directory and the merged model."""
    peft = pytest.importorskip("peft", reason="needs peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(
        task_type="SEQ_2_SEQ_LM", r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False
    )
    adapted = peft.get_peft_model(load_model(saved, device="cpu"), config)
    adapted.save_pretrained(tmp_path / "lora")
    return tmp_path / "lora", adapted.merge_and_unload().eval()


INPUTS = {"input_ids": torch.tensor([[3, 4, 5, 1]]), "decoder_input_ids": torch.tensor([[0, 6, 7]])}


@pytest.mark.parametrize("head", [SEQ2SEQ, None])
def test_an_adapter_is_merged_into_its_model(lora, saved, head, tmp_path):
    directory, merged = lora
    model = load_model(directory, head, device="cpu")
    assert type(model) is type(merged)
    assert not model.training
    with torch.no_grad():
        logits = model(**INPUTS).logits
        assert_close(logits, merged(**INPUTS).logits)
        assert not torch.allclose(logits, load_model(saved)(**INPUTS).logits, atol=1e-3)
    assert load_tokenizer(directory)("a cat").input_ids == load_tokenizer(saved)("a cat").input_ids
    prior = nvreg.estimate_prior(model, [{**INPUTS, "labels": INPUTS["decoder_input_ids"]}])
    nvreg.save_pretrained(nvreg.convert_(model, prior, nvreg.Settings(tau_alpha=1.0)), tmp_path / "nv")
    assert fingerprint(nvreg.from_pretrained(tmp_path / "nv")) == fingerprint(model)


@pytest.mark.parametrize(
    ("task", "head"),
    [
        ("SEQ_CLS", "AutoModelForSequenceClassification"),
        ("TOKEN_CLS", "AutoModelForTokenClassification"),
    ],
)
def test_an_adapter_brings_the_head_that_was_trained_with_it(task, head, tmp_path):
    peft = pytest.importorskip("peft", reason="needs peft")
    sizes = {"vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(**sizes, intermediate_size=8)
    BertForMaskedLM(config).save_pretrained(tmp_path / "base")
    options = {"num_labels": 3, "ignore_mismatched_sizes": True}
    model = getattr(transformers, head).from_pretrained(tmp_path / "base", **options)
    modules = ["classifier", *(["pooler"] if task == "SEQ_CLS" else [])]
    config = peft.LoraConfig(task_type=task, target_modules=["query"], modules_to_save=modules)
    adapted = peft.get_peft_model(model, config).eval()
    adapted.save_pretrained(tmp_path / "lora")
    loaded = load_model(tmp_path / "lora", head, device="cpu")
    ids = torch.tensor([[1, 2, 3]])
    assert loaded.config.num_labels == 3
    assert load_config(tmp_path / "lora").model_type == "bert"
    with torch.no_grad():
        assert_close(loaded(input_ids=ids).logits, adapted(input_ids=ids).logits)
    labelled = load_model(tmp_path / "lora", head, labels=["a", "b", "c"], device="cpu")
    assert not torch.equal(labelled.classifier.weight, loaded.classifier.weight)
    with pytest.raises(nvreg.UserError, match="size mismatch"):
        load_model(tmp_path / "lora", head, labels=["a", "b"], device="cpu")


def test_without_peft_one_line_says_how_to_merge_an_adapter(lora, monkeypatch):
    directory, _ = lora
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(nvreg.UserError, match=r"adapter of .*model in .*lora; install peft.*merge_and"):
        load_model(directory, SEQ2SEQ)


def test_an_adapter_that_cannot_be_merged_is_refused(saved, tmp_path):
    peft = pytest.importorskip("peft", reason="needs peft")
    config = peft.PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=2)
    peft.get_peft_model(load_model(saved, device="cpu"), config).save_pretrained(tmp_path / "prompt")
    with pytest.raises(nvreg.UserError, match="can be merged, as LoRA, got PROMPT_TUNING"):
        load_model(tmp_path / "prompt", SEQ2SEQ)


def test_an_adapter_of_a_model_that_is_not_there_is_named(lora, tmp_path):
    directory, _ = lora
    file = directory / "adapter_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"base_model_name_or_path": "./gone"}))
    with pytest.raises(nvreg.UserError, match=r"found none at \./gone"):
        load_model(directory, SEQ2SEQ)
    file.write_text(json.dumps(config | {"base_model_name_or_path": None}))
    with pytest.raises(nvreg.UserError, match="names its model as base_model_name_or_path"):
        load_model(directory, SEQ2SEQ)
