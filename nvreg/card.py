"""Model cards: what ``README.md`` of a checkpoint tells the hub, and whoever opens it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData
from transformers import PreTrainedModel

from nvreg.attention.settings import Settings
from nvreg.config import Source
from nvreg.document import Block, PageSection, Table, markdown
from nvreg.files import write_text
from nvreg.hub import is_hub_name
from nvreg.prior.artefact import Prior
from nvreg.text import code_in_markdown, in_markdown, on_one_line

CARD = "README.md"
"""The file that the hub shows as a model's card."""

MARK = "<!-- nvreg writes this card anew whenever the model is saved here. Without this line, it stays. -->"
"""The line by which nvreg knows a card as its own."""

TAGS = ["nvreg", "regularization", "arxiv:2312.00662"]

PAPER = "[nonparametric variational](https://arxiv.org/abs/2312.00662)"

PATH = "PATH"
"""Stands in a card for the checkpoint's place, where that is not known yet."""

_PIPELINES = {
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "MarianMTModel": "translation",
}
"""What the hub calls what a model does, by the end of its class's name."""

_PIPELINES_OF_TASKS = {"translation": "translation", "summarisation": "summarization"}
"""The same by task, where the class serves several."""

_METRICS = {"rouge1": "rouge", "rouge2": "rouge", "rougeL": "rouge", "rougeLsum": "rouge", "macro-f1": "f1"}
"""What the hub calls metrics, where it has another name for them."""


@dataclass(frozen=True)
class Measurement:
    """A metric on a set of examples.

    Attributes:
        domain: name of the set.
        split: which of the domain's sets it is.
        metric: name of the metric.
        value: the score.
        shown: the score as the card's table shows it, with what is known of it.
        facts: the same for machines: ends of intervals, and differences.
        source: where the examples are from.
    """

    domain: str
    split: str
    metric: str
    value: float
    shown: str
    facts: Mapping[str, Any]
    source: Source


@dataclass(frozen=True)
class Scorecard:
    """What a checkpoint was measured on.

    Attributes:
        task: name of the task.
        scores: every metric on every set.
        notes: sentences of plain text: how it was chosen, and what the table's brackets are.
    """

    task: str
    scores: Sequence[Measurement]
    notes: Sequence[str]


@dataclass(frozen=True)
class Provenance:
    """What a checkpoint was made from.

    Attributes:
        base: directory of the checkpoint that it was made from, or its name on the hub; empty if not known.
        repo: its name on the hub, where it gets one.
        training: the text that the prior, or a training, is from.
        measured: what it was measured on, if it was.
    """

    base: str = ""
    repo: str | None = None
    training: Source | None = None
    measured: Scorecard | None = None

    @property
    def base_on_hub(self) -> str | None:
        """The name of the base on the hub; None for a directory."""
        return self.base if self.base and is_hub_name(self.base) and not Path(self.base).is_dir() else None

    @property
    def name(self) -> str:
        """What the base is called: no path of this machine is in a card."""
        return self.base_on_hub or Path(self.base).name or "a model"


def converted_card(model: PreTrainedModel, prior: Prior, settings: Settings, made: Provenance) -> str:
    """Return the card of a converted checkpoint.

    Args:
        model: the converted model.
        prior: its prior.
        settings: its settings.
        made: what it was made from.
    """
    place = made.repo or PATH
    code = [
        "import nvreg",
        "from transformers import AutoTokenizer",
        "",
        f"model = nvreg.from_pretrained({json.dumps(place)})",
        f"tokenizer = AutoTokenizer.from_pretrained({json.dumps(place)})",
    ]
    opened = (
        "Transformers by itself, vLLM, TGI and `lm_eval --model hf` open the **unchanged pretrained model** "
        "from the same files, without a word: what regularises is `nvreg.json` and "
        "`nvreg_prior.safetensors`, which they do not read."
    )
    tokens = max((moments.tokens for moments in prior.values()), default=0)
    facts = {
        "space": prior.space,
        "setting": str(settings),
        "prior": f"{prior.kind}, {f'of {tokens} tokens, ' if tokens else ''}digest {prior.fingerprint}",
        **({"digest of the prior's text": prior.data} if prior.data else {}),
    }
    summary = (
        f"{code_in_markdown(made.name)} with its attention in {PAPER} form, by `nvreg`: regularised after "
        "training, with no gradient and no weight changed."
    )
    title = f"{made.name}, regularised"
    return _card(model, made, title, summary, [*_loading(code, place), opened], facts, "nvreg")


def plain_card(
    model: PreTrainedModel,
    made: Provenance,
    title: str,
    summary: str,
    facts: Mapping[str, str],
    relation: str | None = None,
) -> str:
    """Return the card of a checkpoint that Transformers opens as it is.

    Args:
        model: the model.
        made: what it was made from.
        title: plain text.
        summary: a sentence of markdown.
        facts: how it was made, plain text by plain text.
        relation: what the hub calls what it is to its base, such as ``finetune``.
    """
    place, name = made.repo or PATH, type(model).__name__
    loader = name if hasattr(transformers, name) else "AutoModel"
    code = [
        f"from transformers import AutoTokenizer, {loader}",
        "",
        f"model = {loader}.from_pretrained({json.dumps(place)})",
        f"tokenizer = AutoTokenizer.from_pretrained({json.dumps(place)})",
    ]
    return _card(model, made, title, summary, _loading(code, place), facts, "transformers", relation)


def write_card(directory: Path, card: str) -> None:
    """Write a card to a directory, unless it has one that is not nvreg's."""
    path = directory / CARD
    if not path.exists() or MARK in path.read_text(encoding="utf-8", errors="replace"):
        write_text(path, card)


def pipeline_tag(model: PreTrainedModel, task: str | None = None) -> str | None:
    """Return what the hub calls what a model does, None where it is not known."""
    if task in _PIPELINES_OF_TASKS:
        return _PIPELINES_OF_TASKS[task]
    name = type(model).__name__
    return next((tag for end, tag in _PIPELINES.items() if name.endswith(end)), None)


def _card(
    model: PreTrainedModel,
    made: Provenance,
    title: str,
    summary: str,
    loading: Sequence[Block],
    facts: Mapping[str, str],
    library: str,
    relation: str | None = None,
) -> str:
    measured = made.measured
    written = [(label, on_one_line(text)) for label, text in facts.items()]
    blocks: list[Block] = [
        f"# {in_markdown(title)}",
        MARK,
        summary,
        PageSection("How to load it", loading),
        PageSection("How it was made", [Table(["", ""], written)]),
        PageSection("What it was measured on", _measured(measured, made.repo or PATH)),
        f"Written by nvreg {version('nvreg')} with Transformers {transformers.__version__}.",
    ]
    return f"---\n{_metadata(model, made, library, relation).to_yaml()}\n---\n\n{markdown(blocks)}"


def _loading(code: Sequence[str], place: str) -> list[Block]:
    where = [f"`{PATH}` is this directory, or the name of this repository on the hub."]
    return ["```python\n" + "\n".join(code) + "\n```", *(where if place == PATH else [])]


def _measured(measured: Scorecard | None, place: str) -> list[Block]:
    if measured is None or not measured.scores:
        return [
            f"Nothing yet: `nvreg evaluate {place} --task TASK --data FILE --against pretrained` measures "
            "it, beside the pretrained model."
        ]
    metrics = list(dict.fromkeys(score.metric for score in measured.scores))
    sets = list(dict.fromkeys((score.domain, score.split) for score in measured.scores))
    shown = {(score.domain, score.split, score.metric): score.shown for score in measured.scores}
    rows = [
        [f"{domain} {split}", *(shown.get((domain, split, each), "") for each in metrics)]
        for domain, split in sets
    ]
    return [Table(["", *metrics], rows), " ".join(map(in_markdown, measured.notes))]


def _metadata(model: PreTrainedModel, made: Provenance, library: str, relation: str | None) -> ModelCardData:
    measured, base = made.measured, made.base_on_hub
    task = measured.task if measured else None
    tag = pipeline_tag(model, task)
    scores = [score for score in measured.scores if math.isfinite(score.value)] if measured else []
    names = list(dict.fromkeys(_METRICS.get(score.metric, score.metric) for score in scores))
    training = _hub_set(made.training)
    return ModelCardData(
        base_model=base,
        base_model_relation=relation if base else None,
        datasets=[training] if training else None,
        library_name=library,
        pipeline_tag=tag,
        tags=[*TAGS, model.config.model_type],
        metrics=names or None,
        model_name=on_one_line((made.repo or made.name).rpartition("/")[2]) if scores else None,
        eval_results=[_result(score, tag or str(task)) for score in scores] or None,
        **_inherited(made.base, base is not None),
    )


def _result(score: Measurement, task: str) -> EvalResult:
    hub = _hub_set(score.source)
    return EvalResult(
        task_type=task,
        dataset_type=hub or on_one_line(score.domain),
        dataset_name=on_one_line(score.domain),
        dataset_config=score.source.config if hub else None,
        dataset_split=(score.source.split if hub else None) or score.split,
        dataset_revision=score.source.revision if hub else None,
        metric_type=_METRICS.get(score.metric, score.metric),
        metric_value=score.value,
        metric_name=score.metric,
        metric_args=dict(score.facts) or None,
    )


def _hub_set(source: Source | None) -> str | None:
    """Return the name of a data set of the hub; None where the text is elsewhere."""
    name = source.hub if source else None
    return name if name and is_hub_name(name) and not Path(name).is_dir() else None


def _inherited(base: str, is_on_hub: bool) -> dict[str, Any]:
    """Return what the card of the base says that is true of what was made from it, where it can be had."""
    found: dict[str, Any] = {}
    if not base:
        return found
    with suppress(Exception):  # a base may have no card, or one that the hub would refuse, or be out of reach
        path = Path(base).expanduser() / CARD
        data = HfApi().model_info(base, timeout=5).card_data if is_on_hub else ModelCard.load(path).data
        for name in ("license", "license_name", "license_link", "language"):
            if data is not None and (value := data.get(name)) is not None:
                found[name] = value
    return found
