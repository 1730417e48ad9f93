"""How a checkpoint keeps its weights, and a copy that keeps them so."""

import json

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

import nvreg
from nvreg.files import changed_files
from nvreg.models.loading import load_model
from nvreg.models.weight_files import WeightFiles
from tests.cli.running import run
from tests.models.architectures import ARCHITECTURES
from tests.tiny import tiny_marian, word_tokenizer


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_the_dtype_of_a_config_is_read_without_its_code(tmp_path, key):
    code = {"AutoConfig": "configuration_other.OtherConfig"}
    config = {"model_type": "other", "auto_map": code, key: "bfloat16"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "configuration_other.py").write_text("raise RuntimeError")
    assert WeightFiles.of(tmp_path) == WeightFiles(torch.bfloat16)


def test_what_no_config_says_of_the_dtype_is_not_known(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert WeightFiles.of(tmp_path) == WeightFiles()


def test_a_copy_has_the_dtypes_and_digests_of_all_its_weights(tmp_path):
    model, _ = tiny_marian()
    model.to(torch.float16).save_pretrained(tmp_path / "kept")
    WeightFiles.of(tmp_path / "kept").save(model.float(), tmp_path / "copy")
    dtypes = WeightFiles.of(tmp_path / "copy").dtypes
    assert set(dtypes.values()) == {torch.float16}
    assert "final_logits_bias" in dtypes  # no parameter
    assert json.loads((tmp_path / "copy" / "digests.json").read_text()).keys() == {"model.safetensors"}
    (tmp_path / "copy" / "model.safetensors").write_bytes(b"")
    assert changed_files(tmp_path / "copy") == ["model.safetensors"]


def write_checkpoint(directory, dtype=torch.float16, shards="10KB"):
    """Write a small decoder, whose largest weights fill a shard of 10 KB, with text for a prior."""
    (architecture,) = (each for each in ARCHITECTURES if each.name == "llama")
    architecture.build().to(dtype).save_pretrained(directory, max_shard_size=shards)
    word_tokenizer("<s> $A").save_pretrained(directory)
    (directory / "text.txt").write_text("a small cat sees the red dog .\n" * 5)
    return directory


def converted(model, out, sigma="0.2"):
    text = ("--prior-data", model / "text.txt", "--column", "text")
    result = run("convert", model, out, *text, "--tau-sigma", sigma)
    assert result.exit_code == 0, result.output
    return out


def weights(directory):
    """Return the weights of a directory by name, and how many files they are in."""
    paths = sorted(directory.glob("model*.safetensors"))
    found = {}
    for path in paths:
        with safe_open(path, framework="pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return found, len(paths)


@pytest.mark.parametrize(("shards", "dtype"), [("10KB", torch.float16), ("1GB", torch.float32)])
def test_convert_keeps_dtype_shards_and_permissions(tmp_path, dtype, shards):
    model = write_checkpoint(tmp_path / "model", dtype, shards)
    for path in model.glob("*.safetensors"):
        path.chmod(0o640)
    out = converted(model, tmp_path / "out")
    (before, files), (after, files_after) = weights(model), weights(out)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(after[name].dtype == dtype for name in after)
    assert files == files_after
    assert (files > 1) == (shards == "10KB")
    assert {path.stat().st_mode & 0o777 for path in out.glob("model*.safetensors")} == {0o640}


def test_the_config_says_that_it_is_converted_and_transformers_loads_it_unchanged(tmp_path):
    model = write_checkpoint(tmp_path / "model")
    outs = [converted(model, tmp_path / sigma, sigma) for sigma in ("0.2", "0.3")]
    keys = [json.loads((out / "config.json").read_text())["nvreg"] for out in outs]
    assert [key["space"] for key in keys] == ["inputs", "inputs"]
    assert keys[0]["settings_digest"] != keys[1]["settings_digest"]
    plain, loaded = (AutoModelForCausalLM.from_pretrained(path).eval() for path in (model, outs[0]))
    ids = torch.tensor([[1, 5, 6, 7]])
    assert torch.equal(plain(ids).logits, loaded(ids).logits)
    assert not torch.equal(nvreg.from_pretrained(outs[0])(ids).logits, plain(ids).logits)
    assert not hasattr(load_model(model, device="cpu").config, "nvreg")


def test_what_is_saved_in_python_has_the_permissions_of_any_file(tmp_path):
    model = load_model(write_checkpoint(tmp_path / "model"), device="cpu")
    nvreg.save_pretrained(nvreg.convert_(model, nvreg.Prior.gaussian(model)), tmp_path / "out")
    (tmp_path / "any").write_text("")
    modes = {path.stat().st_mode for path in (tmp_path / "any", tmp_path / "out/model.safetensors")}
    assert len(modes) == 1


def test_auto_is_the_dtype_of_the_checkpoint(tmp_path):
    path = write_checkpoint(tmp_path / "model")
    assert load_model(path, dtype="auto", device="cpu").dtype == torch.float16
    assert load_model(path, device="cpu").dtype == torch.float32
