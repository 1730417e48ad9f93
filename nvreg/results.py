"""What the directory of a run holds: the names of its files, their schemas and digests, and their reading."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from nvreg.errors import DamagedError
from nvreg.files import MANIFEST, check_no_pipes
from nvreg.validation import Number, checked, parsed, read_bytes

PRETRAINED = "pretrained"
"""The method of the trial of the pretrained model."""

PRETRAINED_NUMBER = 0
"""The number of the trial of the pretrained model."""

INSPECTION_TABLE, INSPECTION_PAGE = "inspect.csv", "inspect.md"
"""The files of ``nvreg inspect`` that a report reads: the table, and the page, titled by its model."""

Metrics = Mapping[str, Mapping[str, Mapping[str, Number]]]
"""Domain, then split, then metric."""

Values = Mapping[str, Number | Mapping[str, Number | Sequence[Number]]]
"""A setting as `nvreg.parameters.Setting.to_dict` writes it: values by parameter, or by role, or by layer."""


class RunFiles:
    """The paths of everything in a run's directory.

    Attributes:
        directory: the run's.
        experiment: the experiment file as it was understood.
        manifest: what the run was made with; it makes the directory this run's.
        trials: a line a trial.
        under_way: what is being measured, while it is.
        study: the studies of TPE searches, for Optuna's tools.
        tables: directory of the report's tables.
        figures: directory of the report's figures.
        page: the report as a page of HTML.
        inspection: directory of what ``nvreg inspect`` measured of heads, where it was told to write there.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.experiment = directory / "experiment.yaml"
        self.manifest = directory / MANIFEST
        self.trials = directory / "trials.jsonl"
        self.under_way = directory / ".under-way.json"
        self.study = directory / "study.db"
        self.tables = directory / "tables"
        self.figures = directory / "figures"
        self.page = directory / "report.html"
        self.inspection = directory / "inspection"

    @staticmethod
    def name_of_prior(space: str) -> str:
        """Return what the prior of a space is called in a run."""
        return "prior" if space == "inputs" else f"prior-{space}"

    def prior_of(self, space: str) -> Path:
        """Return the file of the prior of a space."""
        return self.directory / f"{self.name_of_prior(space)}.safetensors"

    def fingerprint_of_prior(self, space: str) -> str | None:
        """Return the fingerprint of a space's prior in the manifest; None where there is none."""
        try:
            manifest = json.loads(self.manifest.read_text(encoding="utf-8"))
            return str(manifest[self.name_of_prior(space)]["fingerprint"])
        except (OSError, ValueError, RecursionError, LookupError, TypeError):
            return None

    def examples(self, key: str, domain: str, split: str) -> Path:
        """Return the file of what a trial kept of each example of a split."""
        return self.directory / "examples" / key / f"{domain}.{split}.parquet"


def _described(schema: dict[str, Any]) -> None:
    # pydantic describes a dataclass by its docstring from 2.13 on.
    schema.setdefault("description", Trial.__doc__)
    description = "Digest of the rest of the line; earlier versions wrote none."
    schema["properties"]["digest"] = {"type": "string", "description": description}


@dataclass(frozen=True)
class Trial:
    """One measured setting: a line of ``trials.jsonl``."""

    __pydantic_config__ = ConfigDict(
        strict=True, extra="forbid", json_schema_extra=_described, use_attribute_docstrings=True
    )

    key: str
    """Digest of everything that can change the numbers."""
    context: str
    """Digest of all of it but method and settings: trials of one context compare."""
    number: Annotated[int, Field(ge=0, lt=2**53)]
    """0 for the pretrained model, then in the order of measuring."""
    method: str
    """The method of regularisation; pretrained for the pretrained model."""
    seed: int | None
    """The seed of the search that drew the setting; null for the pretrained model. A setting that searches of
    several seeds draw has a line for each, with the same key and number, and is measured once."""
    settings: Values
    """The setting as it was asked for."""
    resolved: Values | None
    """The NV settings that it stood for, with every tau_alpha that was solved for, one a layer; null for
    methods that have none."""
    status: Literal["completed", "stopped", "failed"]
    """Failed trials have an error and no metrics. Stopped ones lost a race: their metrics are of the first
    examples of the validation sets alone, and nothing ever selects them."""
    metrics: Metrics
    """Value by domain, split and metric."""
    prior_weight: Number | None
    """Mean weight of the prior on the in-domain validation set, teacher-forced."""
    strength: Number | None
    """How strongly the setting regularises, on the same; 0 at identity."""
    seconds: Number
    """Wall-clock time of the measurement."""
    error: str | None = None
    """What went wrong, in one line."""
    change: Number | None = None
    """Relative change of attention outputs, the mean over sites, on a sample of the same, where the sweep
    matches weight noise to NV by it; 0 for the pretrained model."""
    fingerprint: str | None = None
    """What decides, beside context and settings, what the method does: its options, its prior, and the text
    that prior weights are solved on. Null for the pretrained model."""
    examples: Mapping[str, Mapping[str, str]] | None = None
    """Digest of each file of examples by domain and split; null where an earlier version wrote them."""


TRIAL = TypeAdapter(Trial)
"""The schema of a line of ``trials.jsonl``."""


class SplitFacts(BaseModel):
    """What a manifest says of the examples of a split."""

    model_config = ConfigDict(strict=True, extra="allow", use_attribute_docstrings=True)

    fingerprint: str
    """Digest of the records, in their order."""
    examples: Annotated[int, Field(ge=1)]
    """How many there are."""
    truncated: Annotated[int, Field(ge=0)] = 0
    """How many of them were cut to the model's limits."""


class PriorFacts(BaseModel):
    """What a manifest says of a prior."""

    model_config = ConfigDict(strict=True, extra="allow", use_attribute_docstrings=True)

    kind: str
    """How it was made: empirical, gaussian or given."""
    fingerprint: str
    """Digest of its moments."""


class BatchSize(BaseModel):
    """How much is scored at a time."""

    model_config = ConfigDict(strict=True, frozen=True, use_attribute_docstrings=True)

    tokens: Annotated[int, Field(ge=1)]
    """Padded tokens of a batch."""
    found: str | None = None
    """How ``batch_tokens: auto`` came to that; null where a number was given."""


class Manifest(BaseModel):
    """What the manifest of a sweep says: ``manifest.json``. Earlier versions wrote fewer keys."""

    model_config = ConfigDict(strict=True, extra="allow", use_attribute_docstrings=True)

    name: str = ""
    """Name of the experiment."""
    task: str = ""
    """What the model does with an example."""
    model: str
    """Digest of the model's class, weights and dtypes."""
    data: dict[str, dict[str, SplitFacts]]
    """What was scored, by domain and split."""
    columns: list[str] = []
    """The task's columns of the examples."""
    prior: PriorFacts | None = None
    """The prior of methods in input space."""
    prior_heads: Annotated[PriorFacts | None, Field(alias="prior-heads")] = None
    """The prior of methods in head space."""
    context: str
    """Digest of the conditions: trials of one context compare."""
    conditions: dict[str, Any] = {}
    """Everything but method and setting that can change a number."""
    batch_tokens: BatchSize | None = None
    """How much was scored at a time; null of earlier versions, whose auto was 2048."""
    metrics: dict[str, str]
    """Signature of every metric."""
    methods: dict[str, str] = {}
    """What decides, beside conditions and setting, what a method does."""
    seeds: list[int] = []
    """Seeds of the searches."""
    planned: Annotated[int, Field(ge=0)] = 0
    """How many settings the sweep tries in all, the pretrained model not counted."""
    nvreg: str
    """Version of nvreg."""
    versions: dict[str, str] = {}
    """Versions of Python and of the libraries that numbers depend on."""
    git_commit: str | None = None
    """Commit of nvreg, where it ran from a checkout."""
    hardware: dict[str, Any] = {}
    """Machine, cores and device."""


MANIFEST_OF_SWEEP = TypeAdapter(Manifest)
"""The schema of ``manifest.json``."""


def read_manifest(path: Path) -> dict[str, Any]:
    """Return what the manifest of a sweep says, as it is written.

    Raises:
        UserError: if it cannot be read, or is not a sweep's; the message names the key.
    """
    hint = "put the sweep's manifest back, or sweep into another directory"
    text = read_bytes(path, hint)
    checked(MANIFEST_OF_SWEEP, text, str(path), hint)
    manifest: dict[str, Any] = json.loads(text)
    return manifest


def digest(value: Any) -> str:
    """Return a digest of JSON-safe data: equal data, equal digests, whatever the order of mappings."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


_SEAL = "# digest of all above: "
"""What the last line of a file of YAML begins with, which has its digest."""


def sealed_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with its own digest, as ``digest``."""
    content = json.loads(json.dumps(manifest))  # as it is read again
    return {**content, "digest": digest(content)}


def sealed_yaml(text: str) -> str:
    """Return a text of YAML with its own digest in a comment at the end."""
    return f"{text}{_SEAL}{digest(text)}\n"


def is_changed_manifest(manifest: Mapping[str, Any]) -> bool:
    """Return whether a manifest is no longer what its digest says, if it has one."""
    content = {key: value for key, value in manifest.items() if key != "digest"}
    return "digest" in manifest and manifest["digest"] != digest(content)


def is_changed_yaml(text: str) -> bool:
    """Return whether a text of YAML is no longer what the digest at its end says, if it has one."""
    content, _, seal = text.rpartition(_SEAL)
    return bool(content) and seal.strip() != digest(content)


def is_sealed_yaml(text: str) -> bool:
    """Return whether a text of YAML has the digest at its end that `sealed_yaml` gave it."""
    return _SEAL in text and not is_changed_yaml(text)


def check_sealed(files: RunFiles, manifest: Mapping[str, Any]) -> None:
    """Check that a manifest, and the experiment file beside it, are as they were written.

    Raises:
        DamagedError: if one has changed. What earlier versions wrote has no digest, and is not checked.
    """
    is_changed = {
        files.manifest: is_changed_manifest(manifest),
        files.experiment: is_changed_yaml(files.experiment.read_text(encoding="utf-8")),
    }
    for path in filter(is_changed.get, is_changed):
        raise DamagedError(
            f"expected {path} as the sweep wrote it, got one that has changed; run the sweep again, "
            "which writes it anew"
        )


def trial_key(context: str, method: str, settings: Mapping[str, Any]) -> str:
    """Return the key of a trial: a digest of everything that can change its numbers.

    Args:
        context: digest of everything but method and settings.
        method: what identifies the method (`nvreg.methods.Method.fingerprint`).
        settings: what `nvreg.parameters.Setting.to_dict` returns.
    """
    return digest([context, method, settings])


def read_trials(path: Path) -> Iterator[Trial]:
    """Yield the trials of a file in the order of writing, without a last line that a kill tore.

    A last line that is whole counts, if only its end of line is missing.

    Raises:
        UserError: if another line is not a trial's, or not as it was written; the message names the key.
    """
    *lines, last = path.read_bytes().split(b"\n")
    if is_whole_line(last):
        lines.append(last)
    hint = "remove the line and the trial is measured again"
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        written = parsed(line, where, hint)
        expected = written.pop("digest", None) if isinstance(written, dict) else None  # earlier: none
        trial = checked(TRIAL, json.dumps(written).encode(), where, hint)
        if expected not in (None, digest(written)):
            raise DamagedError(
                f"{where}: expected a trial as it was written, got one that has changed; {hint}"
            )
        yield trial


def is_whole_line(line: bytes) -> bool:
    """Return whether a line without an end is nothing less: JSON of a mapping has its last bracket."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def latest_trials(
    trials: Iterable[Trial], context: str, methods: Mapping[str, str] | None = None
) -> list[Trial]:
    """Return the latest line of each key and seed in a context, in the order of their first lines.

    Earlier versions took NaN for a score. Their trials that have it where there are numbers to be had count
    as failed: in domain, and elsewhere where the pretrained model has a number.

    Args:
        trials: in the order of writing.
        context: digest of everything but method and settings.
        methods: fingerprints by name: trials that a method of another one made are left out. None: all stay.
    """

    def is_current(trial: Trial) -> bool:
        known = (methods or {}).get(trial.method)
        return trial.context == context and (None in (known, trial.fingerprint) or known == trial.fingerprint)

    latest = {(trial.key, trial.seed): trial for trial in trials if is_current(trial)}.values()
    scored = (trial.metrics for trial in latest if trial.method == PRETRAINED and trial.metrics)
    of_pretrained = next(scored, {})
    return [_with_numbers(trial, of_pretrained) for trial in latest]


def _with_numbers(trial: Trial, of_pretrained: Metrics) -> Trial:
    in_domain = next(iter(of_pretrained), None)
    for domain, splits in trial.metrics.items() if trial.status == "completed" else ():
        for split, metrics in splits.items():
            known = of_pretrained.get(domain, {}).get(split, {})
            for name, value in metrics.items():
                is_known = domain == in_domain or not math.isnan(float(known.get(name, math.nan)))
                if is_known and math.isnan(float(value)):
                    error = f"{domain} {split}: expected a number for {name}, got NaN"
                    return replace(trial, status="failed", metrics={}, error=error)
    return trial


def check_examples(files: RunFiles, trial: Trial, domain: str, split: str) -> Path:
    """Return the file of what a trial kept of each example of a split, which is as it was written.

    Arguments and errors are those of `read_examples`.
    """
    read_examples(files, trial, domain, split)
    return files.examples(trial.key, domain, split)


def read_examples(files: RunFiles, trial: Trial, domain: str, split: str) -> bytes:
    """Return what is in the file of what a trial kept of each example of a split.

    Nothing more is known of a file that an earlier version wrote than that it is there and has its end.

    Raises:
        DamagedError: if it is gone or not as it was written.
    """
    path = files.examples(trial.key, domain, split)
    expected = (trial.examples or {}).get(domain, {}).get(split)
    check_no_pipes([path])
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedError(
            f"expected the examples of trial {trial.number} in {path}, got: {error.strerror}; {_AGAIN}"
        ) from error
    if expected not in (None, digest_of_examples(content)) or not content.endswith(_END_OF_PARQUET):
        raise DamagedError(
            f"expected the examples of trial {trial.number} in {path} as they were written, got others; "
            f"{_AGAIN}"
        )
    return content


_END_OF_PARQUET = b"PAR1"

_AGAIN = "run the sweep again, which measures the trial anew"


def digest_of_examples(content: bytes) -> str:
    """Return the digest of a file of examples that its trial keeps."""
    return hashlib.sha256(content).hexdigest()[:32]


def finite(value: Any) -> Any:
    """Write infinities and NaN as strings, which JSON has no numbers for and `float` reads."""
    match value:
        case dict():
            return {key: finite(each) for key, each in value.items()}
        case list():
            return [finite(each) for each in value]
        case float() if not math.isfinite(value):
            return str(value)
        case _:
            return value
