"""The suites of hub checkpoints run from end to end on tiny stand-ins with the columns of the real data."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import yaml
from transformers import (
    BartForConditionalGeneration,
    DistilBertForSequenceClassification,
    GPT2LMHeadModel,
    PreTrainedModel,
    T5ForConditionalGeneration,
)
from typer.testing import CliRunner

from nvreg.cli import app
from tests.experiments.test_files import PAPER, REAL
from tests.tiny import LEXICON, tiny_marian, word_tokenizer

COLUMNS = {
    "summarisation": ("document", "summary"),
    "translation": ("source", "target"),
    "classification": ("text", "label"),
    "language-modelling": ("text",),
}
SIZES = {"train": 20, "validation": 4, "test": 4}
HUB = ("hub", "config", "revision", "split")

CLASSES = {
    "SetFit/sst2": ("negative", "positive"),
    "fancyzhx/amazon_polarity": ("negative", "positive"),
    "fancyzhx/yelp_polarity": ("1", "2"),
    "stanfordnlp/imdb": ("neg", "pos"),
}
"""What the hub's data sets call the classes, in their order."""

SEQUENCE_TO_SEQUENCE = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 128,
    "init_std": 0.3,
}
MODELS: dict[str, tuple[type[PreTrainedModel], dict[str, Any]]] = {
    "bart": (BartForConditionalGeneration, SEQUENCE_TO_SEQUENCE),
    "t5": (
        T5ForConditionalGeneration,
        {"d_model": 32, "d_kv": 8, "num_heads": 4, "num_layers": 2, "d_ff": 64},
    ),
    "gpt2": (GPT2LMHeadModel, {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}),
    "distilbert": (
        DistilBertForSequenceClassification,
        {
            "dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 64,
            "max_position_embeddings": 128,
            "id2label": {0: "NEGATIVE", 1: "POSITIVE"},
            "label2id": {"NEGATIVE": 0, "POSITIVE": 1},
        },
    ),
}
"""Class and config of the tiny models by what the names of their files contain; all others are Marian."""

QUICK = {"paper/opus-mt-en-fr", "real/distilbert-sst2"}
"""What the default suite runs: a task with a decoder, and one without."""


def save_tiny_model(name: str, path: Path) -> None:
    """Save an untrained model of the type that the real one of the name has."""
    model_type = next((each for each in MODELS if each in name), None)
    if model_type is None:
        model, tokenizer = tiny_marian()
    else:
        model_class, size = MODELS[model_type]
        tokenizer = word_tokenizer("$A </s>", limit=128)
        special = {
            f"{each}_token_id": getattr(tokenizer, f"{each}_token_id") for each in ("pad", "bos", "eos")
        }
        if model_class.config_class().is_encoder_decoder:
            special["decoder_start_token_id"] = tokenizer.pad_token_id
        torch.manual_seed(0)
        model = model_class(model_class.config_class(vocab_size=len(tokenizer), **special, **size))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def sources(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the dotted key, the split and the section of each source of an experiment."""
    data = document["data"]
    for split in ("train", "validation", "test"):
        yield f"data.in_domain.{split}", split, data["in_domain"][split]
    for number, domain in enumerate(data["out_of_domain"]):
        for split in ("validation", "test"):
            yield f"data.out_of_domain.{number}.{split}", split, domain[split]


def stand_in(
    columns: dict[str, str], classes: tuple[str, ...], size: int, rng: Random
) -> list[dict[str, str]]:
    """Return records of a few words under the names that columns have, and of the classes in turn."""
    return [
        {
            name: classes[number % len(classes)]
            if column == "label"
            else " ".join(rng.choices(list(LEXICON), k=rng.randint(2, 9)))
            for column, name in columns.items()
        }
        for number in range(size)
    ]


def write_stand_in(path: Path, records: list[dict[str, str]]) -> None:
    """Write records, with nested columns where a name has a dot."""
    with path.open("w") as file:
        if path.suffix == ".csv":
            csv.writer(file).writerows([list(records[0]), *(record.values() for record in records)])
            return
        for flat in records:
            record: dict[str, Any] = {}
            for column, text in flat.items():
                *parents, name = column.split(".")
                inner = record
                for parent in parents:
                    inner = inner.setdefault(parent, {})
                inner[name] = text
            file.write(json.dumps(record) + "\n")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=name, marks=[] if name in QUICK else pytest.mark.slow)
        for path in [*PAPER, *REAL]
        for name in [f"{path.parent.name}/{path.stem}"]
    ],
)
def test_it_runs_on_stand_ins(path: Path, tmp_path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    task = document["task"]
    save_tiny_model(path.stem, tmp_path / "model")
    changes: dict[str, Any] = {"model.path": tmp_path / "model", "model.device": "cpu"}
    if "generation" in document["evaluation"]:
        changes["evaluation.generation.max_new_tokens"] = 6
    if "window" in document["evaluation"]:
        changes |= {"evaluation.window": 64, "evaluation.stride": 32}
    if "max_length" in document["data"]:
        changes["data.max_length"] = 64
    rng = Random(0)
    for key, split, source in sources(document):
        mapping = {**document["data"].get("columns", {}), **source.get("columns", {})}
        columns = {column: mapping.get(column, column) for column in COLUMNS[task]}
        file = (tmp_path / key).with_suffix(f".{split}{Path(source.get('files', 'x.jsonl')).suffix}")
        write_stand_in(file, stand_in(columns, CLASSES.get(source.get("hub", ""), ()), SIZES[split], rng))
        changes[f"{key}.files"] = file
        changes |= {f"{key}.{name}": "null" for name in HUB if name in source}
    run = tmp_path / "run"
    methods = document["sweep"].get("methods", {"nv": None})
    trials = 2 if len(methods) == 1 else 1
    arguments = ["sweep", "--config", str(path), "--output", str(run), "--trials", str(trials), "--quiet"]
    for key, value in changes.items():
        arguments += ["--set", f"{key}={value}"]
    swept = CliRunner().invoke(app, arguments)
    assert swept.exit_code == 0, swept.output
    measured = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    assert [trial["status"] for trial in measured] == ["completed"] * (1 + trials * len(methods))
    metrics = measured[-1]["metrics"]
    assert len(metrics) == 1 + len(document["data"]["out_of_domain"])
    for splits in metrics.values():
        assert set(splits) == {"validation", "test"}
        assert all(set(document["evaluation"]["metrics"]) <= set(scores) for scores in splits.values())
    reported = CliRunner().invoke(app, ["report", str(run)])
    assert reported.exit_code == 0, reported.output
