"""The published protocol runs from end to end on tiny stand-ins that have the columns of the real data."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from transformers import BartConfig, BartForConditionalGeneration
from typer.testing import CliRunner

from nvreg.cli import app
from tests.experiments.test_files import PAPER
from tests.tiny import LEXICON, tiny_marian

COLUMNS = {"summarisation": ("document", "summary"), "translation": ("source", "target")}
SIZES = {"train": 20, "validation": 4, "test": 4}
HUB = ("hub", "config", "revision", "split")


def save_tiny_model(model_type: str, path: Path) -> None:
    model, tokenizer = tiny_marian()
    if model_type == "bart":
        config = BartConfig(
            vocab_size=len(tokenizer),
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_position_embeddings=128,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.eos_token_id,
            forced_eos_token_id=tokenizer.eos_token_id,
            init_std=0.3,
        )
        model = BartForConditionalGeneration(config)
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


def write_stand_in(path: Path, columns: list[str], size: int, rng: Random) -> None:
    """Write records of a few words, with nested columns where a name has a dot."""
    rows = [[" ".join(rng.choices(list(LEXICON), k=rng.randint(2, 9))) for _ in columns] for _ in range(size)]
    with path.open("w") as file:
        if path.suffix == ".csv":
            csv.writer(file).writerows([columns, *rows])
            return
        for row in rows:
            record: dict[str, Any] = {}
            for column, text in zip(columns, row, strict=True):
                *parents, name = column.split(".")
                inner = record
                for parent in parents:
                    inner = inner.setdefault(parent, {})
                inner[name] = text
            file.write(json.dumps(record) + "\n")


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_it_runs_on_stand_ins(path: Path, tmp_path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    save_tiny_model("bart" if "bart" in path.stem else "marian", tmp_path / "model")
    changes: dict[str, Any] = {"model.path": tmp_path / "model", "model.device": "cpu"}
    changes["evaluation.generation.max_new_tokens"] = 6
    rng = Random(0)
    for key, split, source in sources(document):
        mapping = {**document["data"].get("columns", {}), **source.get("columns", {})}
        columns = [mapping.get(column, column) for column in COLUMNS[document["task"]]]
        file = (tmp_path / key).with_suffix(f".{split}{Path(source.get('files', 'x.jsonl')).suffix}")
        write_stand_in(file, columns, SIZES[split], rng)
        changes[f"{key}.files"] = file
        changes |= {f"{key}.{name}": "null" for name in HUB if name in source}
    run = tmp_path / "run"
    arguments = ["sweep", "--config", str(path), "--output", str(run), "--trials", "2", "--quiet"]
    for key, value in changes.items():
        arguments += ["--set", f"{key}={value}"]
    swept = CliRunner().invoke(app, arguments)
    assert swept.exit_code == 0, swept.output
    trials = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    assert [trial["status"] for trial in trials] == ["completed"] * 3
    metrics = trials[-1]["metrics"]
    assert len(metrics) == 1 + len(document["data"]["out_of_domain"])
    for splits in metrics.values():
        assert set(splits) == {"validation", "test"}
        assert all(set(document["evaluation"]["metrics"]) <= set(scores) for scores in splits.values())
    reported = CliRunner().invoke(app, ["report", str(run)])
    assert reported.exit_code == 0, reported.output
