"""How a checkpoint keeps its weights, and a copy that keeps them so."""

import json

import pytest
import torch

from nvreg.files import changed_files
from nvreg.models.weight_files import WeightFiles
from tests.tiny import tiny_marian


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
    assert WeightFiles.of(tmp_path / "copy").dtype == torch.float16
    assert json.loads((tmp_path / "copy" / "digests.json").read_text()).keys() == {"model.safetensors"}
    (tmp_path / "copy" / "model.safetensors").write_bytes(b"")
    assert changed_files(tmp_path / "copy") == ["model.safetensors"]
