"""Tiny checkpoints of three kinds, and text they are fine-tuned on."""

import gc
import json
import random
from functools import cache

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
)
from transformers.utils.logging import disable_progress_bar

from nvreg.digests import body_digest
from nvreg.finetune.dropout import dropout_sites
from nvreg.finetune.fisher import Fisher
from nvreg.finetune.schema import load_finetuning
from nvreg.finetune.trainer import TaskTrainer
from nvreg.finetune.training import run_finetuning
from nvreg.models.loading import load_model
from tests.tiny import LEXICON, tiny_marian

TASK_OF_KIND = {"bert": "classification", "gpt2": "language-modelling", "bart": "translation"}

FILE = """
name: tiny
task: {task}
model: {{path: {kind}, device: cpu}}
data:
  columns: {columns}
  in_domain:
    name: home
    train: {{files: train.jsonl}}
    validation: {{files: validation.jsonl}}
method: plain
training: {{epochs: 3, batch_size: 4, learning_rate: 0.01, seed: 1, precision: float32}}
output: tuned
"""

TAGS = {"small": "B-pet", "big": "B-pet", "cat": "I-pet", "dog": "I-pet", "house": "B-place"}
"""Tags of words; others are O."""

TAGGING = ("task=token-classification", "data.columns={tokens: words, tags: tags}")
"""What makes a fine-tuning one of tags."""

COLUMNS = {
    "bert": "{text: en, label: mood}",
    "gpt2": "{text: en}",
    "bart": "{source: en, target: de}",
}

OPTIONS = {
    "plain": "{}",
    "head-only": "{}",
    "weight-decay-to-pretrained": "{strength: 0.5}",
    "guided-dropout": "{fisher: %s.fisher.json}",
    "mvcr": "{widths: [4, 8], warm_up: 0.3}",
}


def build(kind, size, ids):
    torch.manual_seed(0)
    if kind == "bert":
        sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 24}
        return BertModel(BertConfig(vocab_size=size, **sizes, max_position_embeddings=64, **ids))
    if kind == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(vocab_size=size, n_embd=16, n_layer=3, n_head=4, n_positions=64, **ids)
        )
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=size,
            d_model=16,
            encoder_layers=3,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=24,
            decoder_ffn_dim=24,
            max_position_embeddings=64,
            decoder_start_token_id=ids["eos_token_id"],
            forced_eos_token_id=ids["eos_token_id"],
            **ids,
        )
    )


def write_text(path, examples, seed):
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(examples):
            words = draw.choices(list(LEXICON), k=draw.randint(3, 9))
            record = {
                "en": " ".join(words),
                "de": " ".join(LEXICON[word] for word in words),
                "mood": "fond" if "likes" in words else "aloof",
                "words": words,
                "tags": [TAGS.get(word, "O") for word in words],
            }
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


@pytest.fixture(scope="session")
def workshop(tmp_path_factory):
    """A directory with a checkpoint, Fisher scores and a fine-tuning file of each kind. Not to be changed."""
    directory = tmp_path_factory.mktemp("finetune")
    _, tokenizer = tiny_marian()
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.eos_token_id,
    }
    for kind, task in TASK_OF_KIND.items():
        model = build(kind, len(tokenizer), ids)
        model.save_pretrained(directory / kind)
        tokenizer.save_pretrained(directory / kind)
        (directory / f"{kind}.yaml").write_text(FILE.format(kind=kind, task=task, columns=COLUMNS[kind]))
        batch = {"input_ids": torch.tensor([[5, 6, 7]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
        sites = dropout_sites(model, batch)
        scores = {site.name: {"tensor": float(number)} for number, site in enumerate(sites)}
        model = load_model(directory / kind)
        Fisher("causal", 1, body_digest(model), "", scores).save(directory / f"{kind}.fisher.json")
    write_text(directory / "train.jsonl", 12, seed=1)
    write_text(directory / "validation.jsonl", 8, seed=2)
    return directory


@pytest.fixture(scope="session", autouse=True)
def _quick_and_quiet():
    """Every training collects garbage, which takes a second with all these libraries loaded."""
    disable_progress_bar()  # as the command line does
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def load_file(directory, kind, method, output, *overrides):
    options = OPTIONS[method] % kind if "%" in OPTIONS[method] else OPTIONS[method]
    given = [f"method={method}", f"regulariser={options}", f"output={output}"]
    return load_finetuning(directory / f"{kind}.yaml", [*given, *overrides])


@pytest.fixture
def load(workshop, tmp_path):
    """Return a fine-tuning of a kind of model by a method, with its output in this test's own directory."""

    def load(kind, method="plain", *overrides):
        return load_file(workshop, kind, method, tmp_path / "tuned", *overrides)

    return load


@pytest.fixture(scope="session")
def tuned(workshop):
    """Return the checkpoint of a kind of model by a method, trained once. Not to be changed."""

    @cache
    def tuned(kind, method):
        finetuning = load_file(workshop, kind, method, workshop / "tuned" / f"{kind}-{method}")
        (directory,) = run_finetuning(finetuning, quiet=True)
        return directory

    return tuned


@pytest.fixture(autouse=True)
def default_dtype() -> None:
    """Leave the default dtype: all that is fine-tuned here is in float32, XGLM too."""


@pytest.fixture
def steps(monkeypatch):
    """The numbers of the steps that are trained."""
    trained, step = [], TaskTrainer.training_step

    def noted(self, *arguments):
        trained.append(self.state.global_step)
        return step(self, *arguments)

    monkeypatch.setattr(TaskTrainer, "training_step", noted)
    return trained
