"""Checkpoints that cannot be loaded, or would be loaded in part: the file, and what is wrong with it."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, MarianConfig, MarianMTModel

from tests.bad_input.checking import check_refused, one_in
from tests.cli.running import run


def changed(**values: Any) -> Callable[[Path], None]:
    """Return what changes keys of config.json."""

    def change(model: Path) -> None:
        path = model / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def written(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda model: (model / name).write_bytes(content)


def cut(name: str, share: float) -> Callable[[Path], Any]:
    def change(model: Path) -> None:
        content = (model / name).read_bytes()
        (model / name).write_bytes(content[: int(share * len(content))])

    return change


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def write(model: Path) -> None:
        tensors = load_file(model / "model.safetensors")
        change(tensors)
        save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})

    return write


def without(name: str) -> Callable[[Path], Any]:
    return lambda model: (model / name).unlink()


def index(content: Any) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        (model / "model.safetensors").unlink()
        (model / "model.safetensors.index.json").write_text(json.dumps(content))

    return change


class Malice:
    """Writes a file where it is unpickled."""

    def __reduce__(self) -> Any:
        return open, ("owned", "w")


def pickled(value: Any) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        (model / "model.safetensors").unlink()
        (model / "pytorch_model.bin").write_bytes(pickle.dumps(value))

    return change


def torch_saved(model: Path) -> None:
    (model / "model.safetensors").unlink()
    torch.save({"a": Malice()}, model / "pytorch_model.bin")


def larger_tokenizer(model: Path) -> None:
    path = model / "tokenizer.json"
    document = json.loads(path.read_text())
    vocabulary = document["model"]["vocab"]
    vocabulary |= {f"extra{number}": len(vocabulary) + number for number in range(50)}
    path.write_text(json.dumps(document))


CUT = ("model.safetensors: expected weights", "cut or damaged")
Q = "model.decoder.layers.0.self_attn.q_proj.weight"

DAMAGES: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "no config": (without("config.json"), ("config.json",)),
    "empty config": (written("config.json", b""), ("config.json: expected JSON",)),
    "half a config": (cut("config.json", 0.5), ("config.json: expected JSON",)),
    "a list as config": (written("config.json", b"[]"), ("config.json: expected keys and values",)),
    "binary config": (written("config.json", b"\xff\xfe\x00"), ("config.json: expected JSON",)),
    "no model type": (changed(model_type=None), ("model",)),
    "unknown model type": (changed(model_type="nothing"), ("model",)),
    "no weights": (without("model.safetensors"), ("weights",)),
    "empty weights": (
        written("model.safetensors", b""),
        CUT,
    ),
    "header of weights": (
        cut("model.safetensors", 0.05),
        CUT,
    ),
    "half of weights": (
        cut("model.safetensors", 0.5),
        CUT,
    ),
    "weights but a byte": (cut("model.safetensors", 0.9999), ("model.safetensors: expected weights",)),
    "noise as weights": (
        written("model.safetensors", b"noise" * 99),
        ("model.safetensors: expected weights",),
    ),
    "weights as text": (written("model.safetensors", b"version https://git-lfs"), ("model.safetensors",)),
    "a weight missing": (weights(lambda tensors: tensors.pop(Q)), (f"has no {Q}",)),
    "a weight of another shape": (
        weights(lambda tensors: tensors.update({Q: torch.zeros(7, 5)})),
        ("expected weights of the shapes that config.json says, (32, 32)", Q, "got (7, 5)"),
    ),
    "a weight of one dimension": (
        weights(lambda tensors: tensors.update({Q: torch.zeros(5)})),
        (Q, "got (5,)"),
    ),
    "a weight under another name": (weights(lambda all: all.update({f"{Q}x": all.pop(Q)})), (Q,)),
    "no weight at all": (weights(lambda tensors: tensors.clear()), ("model",)),
    "fewer layers": (
        changed(decoder_layers=1, num_hidden_layers=1),
        ("expected no weights but those of the model that config.json says", "layers.1."),
    ),
    "fewer encoder layers": (changed(encoder_layers=1), ("encoder.layers.1.", "would not use")),
    "no layers": (changed(decoder_layers=0), ("decoder.layers.0.",)),
    "more layers": (changed(decoder_layers=3), ("has no", "decoder.layers.2.")),
    "another width": (changed(d_model=16), ("shapes that config.json says",)),
    "width of 0": (changed(d_model=0), ("model",)),
    "negative width": (changed(d_model=-8), ("model",)),
    "text as width": (changed(d_model="wide"), ("model",)),
    "a number in quotes as width": (changed(d_model="32"), ("model",)),
    "a list as width": (changed(d_model=[32]), ("model",)),
    "null as width": (changed(d_model=None), ("model",)),
    "no vocabulary": (changed(vocab_size=0), ("model",)),
    "a smaller vocabulary": (changed(vocab_size=4), ("model",)),
    "no heads": (changed(decoder_attention_heads=0), ("model",)),
    "heads that do not fit": (changed(decoder_attention_heads=5), ("model",)),
    "unknown activation": (changed(activation_function="none such"), ("model",)),
    "unknown quantisation": (changed(quantization_config={"quant_method": "none such"}), ("model",)),
    "quantisation of nothing": (changed(quantization_config={}), ("model",)),
    "quantisation as text": (changed(quantization_config="int8"), ("model",)),
    "unknown architecture": (changed(architectures=["NoSuchModel"], model_type="none-such"), ("model",)),
    "index without its shard": (
        index({"metadata": {}, "weight_map": {Q: "a.safetensors"}}),
        ("a.safetensors",),
    ),
    "index without weights": (index({"metadata": {}}), ("model.safetensors.index.json", "weight_map")),
    "index as a list": (index([1]), ("model.safetensors.index.json",)),
    "a pickle": (pickled({"a": Malice()}), ("pytorch_model.bin", "is not read")),
    "a pickle of PyTorch": (torch_saved, ("pytorch_model.bin", "is not read")),
    "half a pickle": (pickled([1] * 99), ("pytorch_model.bin",)),
    "no tokenizer": (
        lambda model: [path.unlink() for path in model.glob("tokenizer*")],
        ("tokenizer",),
    ),
    "empty tokenizer": (written("tokenizer.json", b""), ("tokenizer.json: expected JSON",)),
    "a tokenizer of nothing": (written("tokenizer.json", b"{}"), ("tokenizer",)),
    "half a tokenizer": (cut("tokenizer.json", 0.5), ("tokenizer.json: expected JSON",)),
    "a broken tokenizer config": (
        written("tokenizer_config.json", b"{"),
        ("tokenizer_config.json: expected JSON",),
    ),
    "a list as tokenizer config": (written("tokenizer_config.json", b"[]"), ("tokenizer_config.json",)),
    "a larger tokenizer": (
        larger_tokenizer,
        ("expected a tokenizer of at most the model's", "(vocab_size), got one of"),
    ),
    "broken options of generation": (written("generation_config.json", b"{"), ("generation_config.json",)),
    "options of generation without a start": (
        written("generation_config.json", b"{}"),
        ("generation_config.json", "decoder_start_token_id"),
    ),
    "a broken adapter": (written("adapter_config.json", b"{"), ("adapter_config.json",)),
    "a deep adapter": (written("adapter_config.json", b"[" * 100_000), ("adapter_config.json",)),
    "an adapter as a list": (written("adapter_config.json", b"[]"), ("adapter_config.json",)),
}

OF_GENERATION = {"options of generation without a start"}
"""Damages that what generates nothing has no need of."""

COLUMNS = ("--column", "en", "--target-column", "de")


@pytest.mark.parametrize("damage", one_in(10, list(DAMAGES), list(DAMAGES)))
def test_a_checkpoint_that_does_not_load_names_the_file(damage, tiny_experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_experiment.parent / "model", tmp_path / "model")
    change, names = DAMAGES[damage]
    change(tmp_path / "model")
    data = tiny_experiment.parent / "home/train.jsonl"
    prior = ["prior", "model", "out", "--data", data, *COLUMNS]
    sweep = ["sweep", "--config", tiny_experiment, "--output", "run", "--set", f"model.path={tmp_path}/model"]
    for arguments in (sweep,) if damage in OF_GENERATION else (sweep, prior):
        line = check_refused(tmp_path, arguments, *names)
        assert "weights_only" not in line
        assert "unsafe" not in line


def test_the_checkpoint_that_is_damaged_loads(tiny_experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = tiny_experiment.parent / "home/train.jsonl"
    result = run("prior", tiny_experiment.parent / "model", "out", "--data", data, *COLUMNS)
    assert result.exit_code == 0, result.output


def another_width(directory: Path) -> None:
    changed(d_model=16, encoder_ffn_dim=16)(directory)
    config = MarianConfig.from_pretrained(directory)
    MarianMTModel(config).save_pretrained(directory)


def another_architecture(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()
    config = BertConfig(vocab_size=29, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
    BertModel(config).save_pretrained(directory)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (another_architecture, "pretrained: expected the checkpoint that the model was fine-tuned from"),
        (another_width, "pretrained: expected the checkpoint that the model was fine-tuned from"),
        (shutil.rmtree, "expected a model directory, found none at"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_sweep_of_wise_ft_refuses_what_is_not_the_pretrained_checkpoint(
    change, name, options, tiny_experiment, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_experiment.parent / "model", tmp_path / "pretrained")
    change(tmp_path / "pretrained")
    written = f"method: wise-ft, pretrained: {tmp_path}/pretrained, space: {{mix: 0.5}}"
    sweep = f"sweep={{sampler: grid, {written}}}"
    arguments = ("sweep", "--config", tiny_experiment, "--output", "run", "--set", sweep, *options)
    check_refused(tmp_path, arguments, name, f"{tmp_path}/pretrained")
