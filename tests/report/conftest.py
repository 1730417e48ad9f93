"""Runs made of synthetic statistics, laid out as ``nvreg sweep`` leaves them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.special import log_softmax

from nvreg.methods import METHODS
from nvreg.metrics import METRICS, Tokenisation
from nvreg.metrics.classification import choice_statistics
from nvreg.metrics.temperature import alternatives_of
from nvreg.trained import sealed_text

IN_DOMAIN = "news"
DOMAINS = {"news": ("validation", "test"), "talks": ("validation", "test"), "books": ("test",)}
"""One domain without a validation set."""

GROUPS = {
    "likelihood": ("nll", "perplexity"),
    "bleu": ("bleu",),
    "calibration": ("brier", "ece"),
    "classes": ("accuracy", "macro-f1"),
}


def likelihood(nll: float, seed: int, examples: int = 40) -> np.ndarray:
    """Ten tokens of four characters an example, on average ``nll`` nats each."""
    noise = np.random.default_rng(seed).normal(scale=0.1, size=examples)
    tokens = np.full(examples, 10.0)
    return np.stack([(nll + noise - noise.mean()) * tokens, tokens, 4 * tokens], axis=1)


def of_classes(logits: np.ndarray, labels: np.ndarray, _: object) -> dict[str, np.ndarray]:
    """The columns of a classifier's logits."""
    log_probabilities = log_softmax(logits, axis=-1)
    rows = {name: np.array(of) for name, of in choice_statistics(log_probabilities, labels).items()}
    return rows | {
        name: np.array(of) for name, of in alternatives_of(list(log_probabilities), list(labels)).items()
    }


def of_tokens(logits: np.ndarray, labels: np.ndarray, temperatures: Sequence[float]) -> dict[str, np.ndarray]:
    """The columns of texts of one token of four characters."""
    tempered = np.stack(
        [
            -log_softmax(logits / each, axis=-1)[np.arange(len(labels)), labels]
            for each in temperatures or (1.0,)
        ],
        axis=-1,
    )
    ones = np.ones(len(labels))
    plain = -log_softmax(logits, axis=-1)[np.arange(len(labels)), labels]
    rows = {"likelihood": np.stack([plain, ones, 4 * ones], axis=-1)}
    return rows | ({"tempered": tempered} if temperatures else {})


@dataclass
class SyntheticRun:
    """Builds a run's directory, trial by trial."""

    directory: Path
    metric: str = "perplexity"
    metrics: tuple[str, ...] = ("perplexity", "nll")
    domains: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: DOMAINS)
    planned: int = 3
    model: str = "/models/marian"
    fingerprints: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    protocols: tuple[str, ...] = (
        "in-domain", "in-domain-tolerance", "leave-one-domain-out", "out-of-domain-validation", "oracle",
    )  # fmt: skip
    seeds: tuple[int, ...] = (42,)
    methods: Mapping[str, Any] = field(
        default_factory=lambda: {"nv": {"space": {"tau_sigma": {"cross": [0, 1]}}}}
    )
    task: str = "translation"
    temperatures: tuple[float, ...] | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(
        self,
        statistics: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]],
        *,
        settings: Mapping[str, Any] | None = None,
        strength: float = 0.0,
        **changes: Any,
    ) -> "SyntheticRun":
        """Add a trial: statistics by domain, split and group, or other columns of numbers."""
        number = len(self.lines)
        key = f"key{number}"
        metrics: dict[str, dict[str, dict[str, float]]] = {}
        for domain, splits in statistics.items():
            for split, groups in splits.items():
                count = self.counts[domain, split] = len(next(iter(groups.values())))
                frame = pd.DataFrame({"id": range(count)})
                values = metrics.setdefault(domain, {}).setdefault(split, {})
                for group, rows in groups.items():
                    frame[group] = rows.tolist()
                    values |= {name: float(METRICS[name].score(rows)) for name in GROUPS.get(group, ())}
                path = self.directory / "examples" / key / f"{domain}.{split}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                frame.to_parquet(path)
        self.lines.append(
            {
                "key": key,
                "context": "this",
                "number": number,
                "method": "nv" if number else "pretrained",
                "seed": 42 if number else None,
                "settings": settings or {},
                "resolved": None,
                "status": "completed",
                "metrics": metrics,
                "prior_weight": strength / 2,
                "strength": strength,
                "seconds": 1.0,
                "error": None,
            }
            | changes
        )
        return self

    def add_nll(self, **nll: Any) -> "SyntheticRun":
        """Add a trial by its nll per token: ``domain=value`` or ``domain={split: value}``."""
        number = len(self.lines)
        changes = {name: nll.pop(name) for name in list(nll) if name not in self.domains}
        statistics = {
            domain: {
                split: {"likelihood": likelihood(value[split] if isinstance(value, dict) else value, number)}
                for split in self.domains[domain]
            }
            for domain, value in nll.items()
        }
        return self.add(statistics, **changes)

    def add_logits(
        self,
        logits: Mapping[str, Mapping[str, np.ndarray]],
        labels: Mapping[str, Mapping[str, np.ndarray]],
        **changes: Any,
    ) -> "SyntheticRun":
        """Add a trial by its logits, ``[examples, alternatives]``, by domain and split.

        Of a classifier where the task is that, else of texts of one token, at the run's temperatures.
        """
        statistics = {
            domain: {
                split: (of_classes if self.task == "classification" else of_tokens)(
                    values, labels[domain][split], self.temperatures or ()
                )
                for split, values in splits.items()
            }
            for domain, splits in logits.items()
        }
        return self.add(statistics, **changes)

    def write(self) -> Path:
        """Write everything but the examples, which are written already."""
        self.directory.mkdir(exist_ok=True, parents=True)
        (self.directory / "experiment.yaml").write_text(yaml.safe_dump(self._experiment(), sort_keys=False))
        manifest = {
            "nvreg": "0.1.0",
            "context": "this",
            "planned": self.planned,
            "model": "marian-0123",
            "columns": ["source", "target"],
            "data": {
                domain: {
                    split: {
                        "fingerprint": self.fingerprints.get(domain, "f"),
                        "examples": self.counts.get((domain, split), 40),
                        "truncated": 0,
                    }
                    for split in splits
                }
                for domain, splits in self.domains.items()
            },
            "metrics": {name: METRICS[name].signature(Tokenisation()) for name in self.metrics},
        }
        (self.directory / "manifest.json").write_text(json.dumps(manifest))
        (self.directory / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        return self.directory

    def _experiment(self) -> dict[str, Any]:
        domains = [
            {"name": name}
            | {split: {"files": self.files.get(name, f"/data/{name}/{split}.jsonl")} for split in splits}
            for name, splits in self.domains.items()
        ]
        return {
            "name": "synthetic",
            "task": self.task,
            "model": {"path": self.model},
            "data": {"in_domain": domains[0], "out_of_domain": domains[1:]},
            "prior": {"kind": "gaussian"},
            "sweep": {
                "sampler": "random",
                "trials": self.planned,
                "seeds": list(self.seeds),
                "methods": dict(self.methods),
            },
            "evaluation": {"metrics": list(self.metrics)}
            | ({} if self.temperatures is None else {"temperatures": list(self.temperatures)}),
            "selection": {"metric": self.metric, "protocols": list(self.protocols)},
            "output": str(self.directory),
        }


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a second method."""

    class Control(METHODS["nv"]):
        name = "control"

    monkeypatch.setitem(METHODS, "control", Control)
    return "control"


@pytest.fixture
def synthetic() -> type[SyntheticRun]:
    """The builder of runs."""
    return SyntheticRun


@pytest.fixture
def run(tmp_path: Path) -> SyntheticRun:
    """An empty run of three domains, measured by perplexity."""
    return SyntheticRun(tmp_path / "run")


@pytest.fixture
def small(run: SyntheticRun) -> SyntheticRun:
    """Four trials, of which each protocol chooses another.

    Trial 1 is the best in domain, trial 2 is tolerated and strong, trial 3 is the best on talks' validation
    and trial 4 is the best on the test sets alone.
    """
    run.planned = 4
    run.add_nll(news=2.0, talks=3.0, books=3.0)
    run.add_nll(news=1.9, talks=3.1, books=3.2, settings={"tau_sigma": {"cross": 0.1}}, strength=0.1)
    run.add_nll(news=2.0001, talks=2.95, books=2.9, settings={"tau_sigma": {"cross": 0.5}}, strength=0.5)
    run.add_nll(
        news=2.3, talks={"validation": 2.7, "test": 2.8}, books=2.8, settings={"tau_mu": 0.8}, strength=0.4
    )
    run.add_nll(
        news=2.4, talks={"validation": 3.3, "test": 2.5}, books=2.6, settings={"tau_mu": 0.7}, strength=0.9
    )
    return run


def write_training(directory: Path, seconds: float) -> None:
    """Write the record of a fine-tuning that took some time."""
    record = {
        "name": "tuned", "task": "translation", "method": "plain", "regulariser": {}, "training": {},
        "model": "marian 1", "data": {}, "reading": {}, "seed": 1, "seconds": seconds, "epochs": 3.0,
        "steps": 9, "best": {}, "precision": "float32", "nvreg": "1.0",
    }  # fmt: skip
    (directory / "training.json").write_text(sealed_text(record))
