"""Models, data and tasks that lm-evaluation-harness and nvreg both measure, all made on this machine.

``python -m tests.harness.local`` prints what the harness does, where lm-eval 0.4.13 is installed.
"""

import json
import tempfile
from pathlib import Path

import yaml

from tests.models.architectures import ARCHITECTURES
from tests.tiny import LEXICON, tiny_marian, word_tokenizer

WORDS = list(LEXICON)

TEXTS = [
    " ".join(WORDS[(number * 7 + place * place + place // 3) % len(WORDS)] for place in range(3 + number * 5))
    for number in range(12)
]
"""Texts of 3 to 58 words, longer than the windows that they are read in."""

QUESTIONS = [
    {
        "context": "" if number % 4 == 3 else " ".join(TEXTS[number].split()[: 2 + number % 3]),
        "choices": ["a big dog", "größer ist größer", "house .", "sees"][: 2 + number % 3],
        "label": number % 2,
    }
    for number in range(12)
]

PAIRS = [{"en": text, "de": " ".join(map(LEXICON.get, text.split()))} for text in TEXTS[:5]]

WINDOW = 16


def write_model(directory: Path, name: str = "gpt2") -> Path:
    """Write a tiny decoder, or a tiny translation model, with its tokenizer."""
    if name == "marian":
        model, tokenizer = tiny_marian()
    else:
        (architecture,) = (each for each in ARCHITECTURES if each.name == name)
        model, tokenizer = architecture.build(), word_tokenizer("$A")
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def write_data(directory: Path) -> dict[str, Path]:
    """Write the data sets."""
    data = {"text": [{"text": text} for text in TEXTS], "questions": QUESTIONS, "pairs": PAIRS}
    paths = {name: directory / f"{name}.jsonl" for name in data}
    for name, records in data.items():
        paths[name].write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    return paths


def write_tasks(directory: Path, data: dict[str, Path]) -> Path:
    """Write the harness's description of each task, to be found with its ``include_path``."""

    def described(name: str, of: str, **options):
        source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data[of])}}}
        task = {"task": f"local_{name}", **source, "test_split": "test", **options}
        (directory / f"local_{name}.yaml").write_text(yaml.safe_dump(task))

    directory.mkdir(exist_ok=True)
    described(
        "rolling", "text", output_type="loglikelihood_rolling", doc_to_text="", doc_to_target="{{text}}"
    )
    metrics = [{"metric": name, "aggregation": "mean"} for name in ("acc", "acc_norm", "acc_bytes")]
    described(
        "choice",
        "questions",
        output_type="multiple_choice",
        doc_to_text="{{context}}",
        doc_to_choice="choices",
        doc_to_target="label",
        metric_list=metrics,
    )
    described(
        "generation",
        "pairs",
        output_type="generate_until",
        doc_to_text="{{en}}",
        doc_to_target="{{de}}",
        generation_kwargs={"max_gen_toks": 6, "until": ["\n"], "do_sample": False},
        metric_list=[{"metric": "bleu"}],
    )
    return directory


def printed(directory: Path) -> dict[str, float]:
    """Return what the harness prints of the model and the tasks."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    tasks = write_tasks(directory / "tasks", write_data(directory))
    result = lm_eval.simple_evaluate(
        "hf",
        model_args={
            "pretrained": str(write_model(directory / "model")),
            "dtype": "float32",
            "max_length": WINDOW,
        },
        tasks=["local_rolling", "local_choice"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        device="cpu",
        batch_size=4,
        bootstrap_iters=0,
    )
    scores = [pair for each in result["results"].values() for pair in each.items()]
    return {name.partition(",")[0]: value for name, value in scores if isinstance(value, float)}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        print(json.dumps(printed(Path(directory)), indent=4))
