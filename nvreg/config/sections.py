"""The sections of every file, of experiments and of fine-tunings: paths, model, data and seeds."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    NonNegativeInt,
    PositiveInt,
    Strict,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from nvreg.errors import did_you_mean
from nvreg.metrics import METRICS
from nvreg.metrics.choices import Normalisation
from nvreg.metrics.tokenisation import BleuTokenizer, RougeTokenizer
from nvreg.registry import Registry

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_address(path: str) -> bool:
    """Whether a file is named by an address, as ``s3://``, and not by a path of this machine."""
    return _ADDRESS.match(path) is not None


def _absolute(path: str, info: ValidationInfo) -> str:
    """Resolve a path against the directory of the file; an address is one already."""
    if not is_address(path):
        return os.path.abspath(_directory(info) / os.path.expanduser(path))
    if re.match(r"[^/@]*:[^/@]*@", path.partition("://")[2]):
        raise ValueError(
            "expected an address without a password, which the files of a run would keep, got one with it; "
            "give it to fsspec by the environment (FSSPEC_FTP_PASSWORD) or in its configuration"
        )
    return path


def _absolute_if_local(path: str, info: ValidationInfo) -> str:
    """Resolve a path, and leave the name of a model on the hub as it is."""
    local = path.startswith((".", "/", "~")) or os.path.exists(_directory(info) / path)
    return _absolute(path, info) if local else path


def _directory(info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("directory", "."))


InputPath = Annotated[str, AfterValidator(_absolute)]
ModelPath = Annotated[str, AfterValidator(_absolute_if_local)]
Prefix = Literal["auto", "bos", "none"]
"""What a decoder reads before the first token of a text."""
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""A name that files are called by."""


Count = Annotated[PositiveInt, Field(le=sys.maxsize)]
"""How many of something are taken, which no machine has more of."""

Seed = Annotated[NonNegativeInt, Field(lt=2**63)]
"""Decides random draws; no generator takes a larger one."""


class NameIn:
    """What makes a text the name of something registered: ``Annotated[str, NameIn(TASKS)]``.

    Whatever is registered when a file is checked is known, and an enumeration in the JSON Schema.

    Args:
        registry: the registry of what is named.
    """

    def __init__(self, registry: Registry[Any]) -> None:
        self.registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.registry.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "enum": list(self.registry)}


class Section(BaseModel):
    """Keys with values, where an unknown key is an error that names the nearest known one.

    Values are taken as they are written: text is no number, nor is true; 1e3 is a whole number like 1000.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _name_nearest_key(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        given = cls._written_out(dict(given))
        for key in given:
            if key not in cls.model_fields:
                raise PydanticCustomError(
                    "unknown_key",
                    "unknown key{hint}; known keys: {known}",
                    {
                        "key": str(key),
                        "hint": did_you_mean(str(key), cls.model_fields),
                        "known": ", ".join(cls.model_fields),
                    },
                )
        return {key: _whole(value) for key, value in given.items()}

    @classmethod
    def _written_out(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Return what a shorter form stands for."""
        return given


def _whole(value: Any) -> Any:
    """Return the whole number that a number with an exponent or a point is, in a list of numbers too."""
    if isinstance(value, list):
        return [_whole(each) for each in value]
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if is_whole else value


class ModelSource(Section):
    """A checkpoint: a local directory or a name on the hub."""

    path: ModelPath
    """Directory of the checkpoint, or its name on the hub."""
    revision: str | None = None
    """Branch, tag or commit on the hub; by default its main branch."""
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Precision of the weights and of what is computed with them; auto is that of the checkpoint."""
    device: str = "auto"
    """Device by its name in PyTorch, such as cpu or cuda:1; auto is the GPU if there is one."""
    device_map: Literal["auto"] | None = None
    """auto spreads a model that is larger than a GPU over all that the process sees; it needs accelerate."""
    trust_remote_code: Annotated[bool, Strict(False)] = False
    """Run code that comes with the checkpoint."""

    @model_validator(mode="after")
    def _one_way_to_place(self) -> Self:
        if self.device_map is not None and self.device != "auto":
            raise ValueError(f"expected device or device_map, got {self.device} and {self.device_map}")
        return self

    @property
    def warnings(self) -> list[str]:
        """Lines that say, before anything is loaded, what is done for this model and for no other."""
        line = f"running the code that comes with {self.path}, as model.trust_remote_code: true says"
        return [line] if self.trust_remote_code else []

    @property
    def trusted(self) -> dict[str, bool]:
        """What a manifest says of it: nothing where no code of the checkpoint's is run."""
        return {"trust_remote_code": True} if self.trust_remote_code else {}


class _Part(NamedTuple):
    """A part of a split that is counted from its beginning."""

    name: str
    start: float
    end: float
    unit: str

    @classmethod
    def of(cls, split: str | None) -> _Part | None:
        """Return what ``test[10:20]`` or ``test[:10%]`` means; None where the data alone tells."""
        found = re.fullmatch(r"(?P<name>[\w.-]+)(\[((?P<start>\d+)%?)?:((?P<end>\d+)%?)?\])?", split or "")
        if found is None:
            return None
        unit = "%" if "%" in (split or "") else ""
        return cls(found["name"], float(found["start"] or 0), float(found["end"] or math.inf), unit)

    def overlaps(self, other: _Part) -> bool:
        """Whether some record is in both; parts that are counted in different units are not known to."""
        wholes = [each for each in (self, other) if (each.start, each.end) == (0, math.inf)]
        if self.name != other.name or (self.unit != other.unit and not wholes):
            return False
        return bool(wholes) or max(self.start, other.start) < min(self.end, other.end)


class Source(Section):
    """Where records come from: ``files``, ``source_file`` with ``target_file``, ``conll``, or ``hub``."""

    files: InputPath | None = None
    """File of records, or a glob of several: jsonl, json, csv, tsv, parquet, txt, each also as .gz; or a
    directory that Dataset.save_to_disk wrote. Each may be an address: s3://, hf:// or what fsspec knows."""
    source_file: InputPath | None = None
    """File of sources, one a line, beside target_file."""
    target_file: InputPath | None = None
    """File of targets, one a line, beside source_file."""
    conll: InputPath | None = None
    """File with a word and its tag a line, and a blank line after a sentence, or a glob of several."""
    token_column: int | None = None
    """Column of the words in conll, from 0 or, below 0, from the end; by default the first."""
    tag_column: int | None = None
    """Column of their tags; by default the last."""
    hub: str | None = None
    """Name of a data set on the hub."""
    config: str | None = None
    """Configuration of the data set on the hub; name: stands for it too, as in datasets.load_dataset."""
    revision: str | None = None
    """Branch, tag or commit of the data set on the hub."""
    split: str | None = None
    """Split of the data set on the hub, or of a directory that DatasetDict.save_to_disk wrote; or a part of
    one, as "test[:500]" and "test[10%:20%]"."""
    streaming: bool = False
    """Read the data set on the hub record by record, without a download of all of it first."""
    limit: Count | None = None
    """Most records that are taken: the first ones, or random ones where a seed is given."""
    seed: Seed | None = None
    """Seed that draws as many random records as the limit says."""
    part: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """Part of the records, [from, to] between 0 and 1, in a random order that is the same each time: [0, 0.8]
    and [0.8, 1] of one source have no record in common. Limit and seed take from the part."""
    columns: dict[str, str] = {}
    """The task's columns to their names in these records; goes before data.columns."""

    @property
    def place(self) -> dict[str, Any]:
        """Where the records are, whichever of them are taken."""
        return self.model_dump(exclude={"limit", "seed", "columns", "streaming"}, exclude_none=True)

    def shares_records(self, other: Source) -> bool:
        """Whether two sources are one place, or parts of it that are known to overlap."""
        here, there = ({**each.place, "split": None, "part": None} for each in (self, other))
        if here != there:
            return False
        if self.split == other.split:
            (start, end), (first, last) = (each.part or (0, 1) for each in (self, other))
            return max(start, first) < min(end, last)
        # Parts of splits that differ are drawn in other orders: where the splits overlap, so do they.
        ours, theirs = (_Part.of(each.split) for each in (self, other))
        return ours is not None and theirs is not None and ours.overlaps(theirs)

    @classmethod
    def _written_out(cls, given: dict[str, Any]) -> dict[str, Any]:
        if "name" in given and "config" in given:
            raise ValueError("expected config or name, which stands for it, got both")
        return {"config" if key == "name" else key: value for key, value in given.items()}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        written = handler.resolve_ref_schema(super().__get_pydantic_json_schema__(schema, handler))
        written["properties"]["name"] = {"type": "string", "description": "The same as config."}
        return written

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        parallel = self.source_file is not None or self.target_file is not None
        places = [self.files is not None, parallel, self.conll is not None, self.hub is not None]
        if sum(places) != 1 or (self.source_file is None) != (self.target_file is None):
            raise ValueError(
                "expected files, source_file with target_file, conll, or hub; got "
                + (", ".join(sorted(self.model_fields_set)) or "nothing")
            )
        if self.hub is None and any((self.config, self.revision, self.streaming)):
            raise ValueError("expected config, revision and streaming only with hub")
        has_splits = self.files is not None and (
            os.path.isdir(self.files) or not os.path.splitext(self.files)[1]
        )
        if self.split and self.hub is None and not has_splits:
            raise ValueError("expected split only with hub, or with a directory that save_to_disk wrote")
        if self.conll is None and (self.token_column is not None or self.tag_column is not None):
            raise ValueError("expected token_column and tag_column only with conll")
        if self.seed is not None and self.limit is None:
            raise ValueError("expected a limit with the seed, which draws that many records")
        if self.part is not None and not 0 <= self.part[0] < self.part[1] <= 1:
            raise ValueError(f"part: expected [from, to] with 0 <= from < to <= 1, got {self.part}")
        return self


class InDomain(Section):
    """The domain that the model was tuned on."""

    name: FileName
    """Name of the domain, in tables and files."""
    train: Source | None = None
    """Text for the prior and for prior weights, which is never scored."""
    validation: Source
    """Text that settings are chosen by."""
    test: Source
    """Text that the chosen settings are reported on."""


class OutOfDomain(Section):
    """A domain that the model was not tuned on."""

    name: FileName
    """Name of the domain, in tables and files."""
    validation: Source | None = None
    """Text that the protocols leave-one-domain-out and out-of-domain-validation choose settings by."""
    test: Source
    """Text that the chosen settings are reported on."""


class Reading(Section):
    """How the model reads text."""

    columns: dict[str, str] = {}
    """The task's columns to their names in the data, where they differ; a.b is b inside a."""
    max_length: Count | None = None
    """Most tokens of a source, or of a text without one; by default the model's limit."""
    source_prefix: str | None = None
    """Text that goes before every source, as T5 has it."""
    source_language: str | None = None
    """Language of the sources, for a model of many, as its tokenizer writes it."""
    target_language: str | None = None
    """Language of the targets, for a model of many, as its tokenizer writes it."""
    labels: dict[str, str] | None = None
    """Labels of the data to those of the model, where they differ."""

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_as_text(cls, labels: Any) -> Any:
        """Take numbers for what they are written as: data has them, and so have models that name no class."""
        if not isinstance(labels, dict):
            return labels
        return {_number_as_text(label): _number_as_text(name) for label, name in labels.items()}

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the names of columns: what else decides how text becomes tokens."""
        return self.model_dump(include=Reading.model_fields.keys() - {"columns"})

    def splits(self) -> Iterator[tuple[str, str, str, Source]]:
        """Yield the key and the name of every domain, and the name of each split it has and where that is."""
        domains = {"data.in_domain": getattr(self, "in_domain", None)}
        domains |= {f"data.out_of_domain.{n}": d for n, d in enumerate(getattr(self, "out_of_domain", ()))}
        for key, domain in domains.items():
            for split in ("train", "validation", "test"):
                if domain is not None and (source := getattr(domain, split, None)) is not None:
                    yield key, domain.name, split, source

    def column_names(self, key: str) -> Iterator[tuple[str, str]]:
        """Yield the key of every ``columns`` in here and a task's column in it, given one's own key."""
        return _column_names(self, key)


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _column_names(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Section):
        for name in type(value).model_fields:
            yield from _column_names(getattr(value, name), f"{key}.{name}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _column_names(each, f"{key}.{number}")
    elif key.endswith(".columns"):
        yield from ((key, name) for name in value)


class Data(Reading):
    """All text, and how the model reads it."""

    in_domain: InDomain
    """The domain that the model was tuned on."""
    out_of_domain: Annotated[list[OutOfDomain], Field(min_length=1)]
    """The other domains."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [self.in_domain.name, *(domain.name for domain in self.out_of_domain)]
        if len(set(names)) < len(names):
            raise ValueError(f"expected domains of different names, got {', '.join(names)}")
        return self


class Seeded(Section):
    """What is done once a seed; ``seed`` may stand for one of ``seeds``."""

    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    """Seeds, each of which repeats the whole; seed: 1 stands for seeds: [1]."""

    @classmethod
    def _written_out(cls, given: dict[str, Any]) -> dict[str, Any]:
        if "seed" in given:
            if "seeds" in given:
                raise ValueError("expected seed or seeds, got both")
            given["seeds"] = [given.pop("seed")]
        return given

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        written = handler.resolve_ref_schema(super().__get_pydantic_json_schema__(schema, handler))
        seed = {
            "type": "integer",
            "minimum": 0,
            "exclusiveMaximum": 2**63,
            "description": "One seed, in place of seeds.",
        }
        written["properties"]["seed"] = seed
        return written

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"expected different seeds, got {seeds}")
        return seeds


class Generation(Section):
    """How predictions are decoded; the checkpoint's own generation config decides the rest."""

    num_beams: Count = 4
    """Number of beams; 1 is greedy decoding."""
    max_new_tokens: Count = 128
    """Most tokens of a generated text."""


_LATER = {"prefix": "none", "normalisation": "tokens"}
"""Options of evaluation that trials of earlier versions were measured without, as they are if not given."""


class Evaluation(Section):
    """What is measured, and how."""

    metrics: Annotated[list[Annotated[str, NameIn(METRICS)]], Field(min_length=1)]
    """Metrics, in the order of the tables."""
    batch_tokens: Count | Literal["auto"] = "auto"
    """Most padded tokens of a batch; an example that is longer gets a batch of its own. auto tries the model:
    on a GPU it takes as much as half of the free memory holds, up to 16384, elsewhere 2048 unless 512, 1024,
    4096 or 8192 is clearly faster, and 2048 where little is scored."""
    generation: Generation = Generation()
    """How predictions are decoded, for metrics of generated text."""
    window: Count | None = None
    """Tokens that language modelling reads at once; by default the model's positions."""
    stride: Count | None = None
    """Most tokens that a window scores beyond those of the one before it; by default half a window."""
    prefix: Prefix = "none"
    """What a decoder reads before the first token where its tokenizer puts nothing there, for multiple choice
    and language modelling: none, and what has nothing before it is not scored; bos, its beginning of
    sequence; auto, that or else its end of sequence, of multiple choice before empty contexts alone."""
    normalisation: Normalisation = "tokens"
    """What multiple choice divides the log-likelihood of a choice by; lm-evaluation-harness calls accuracy by
    characters acc_norm, by bytes acc_bytes, and by none acc."""
    bleu_tokenize: BleuTokenizer | None = None
    """How BLEU cuts text into words; by default as the target language or the references' script needs."""
    rouge_tokenize: RougeTokenizer | None = None
    """What ROUGE counts; by default as the target language or the references' script needs."""
    temperatures: list[Annotated[float, Field(gt=0)]] = [0.8, 0.9, 1.0, 1.1, 1.25, 1.5]
    """What logits are divided by when the nll of every example is kept, for the tables after temperature; 1
    is always among them, and alone keeps nothing. Where five or more are near each other, those between them
    are tried too. Classification keeps what lets any be tried."""

    @property
    def keeps_temperatures(self) -> bool:
        """Whether anything is kept of examples for other temperatures than 1."""
        return len(self.temperatures) > 1

    @property
    def options(self) -> dict[str, Any]:
        """What can change a number, beside what the signatures of metrics say and the size of batches.

        Temperatures are part of it because they decide what is kept: trials that keep another selection of
        them do not compare. Without any other than 1 the options are those of versions that kept none, and
        an option that is as if it were not there is not among them.
        """
        unkept = set() if self.keeps_temperatures else {"temperatures"}
        options = self.model_dump(exclude={"batch_tokens", "bleu_tokenize", "rouge_tokenize", *unkept})
        return {name: value for name, value in options.items() if (name, value) not in _LATER.items()}

    @field_validator("temperatures")
    @classmethod
    def _temperatures_with_1(cls, temperatures: list[float]) -> list[float]:
        if len(set(temperatures)) < len(temperatures) or not all(map(math.isfinite, temperatures)):
            raise ValueError(f"expected different finite numbers above 0, got {temperatures}")
        return sorted({1.0, *temperatures})

    @model_validator(mode="after")
    def _stride_within_window(self) -> Self:
        if self.stride and self.window and self.stride > self.window:
            raise ValueError(f"stride: expected at most the window of {self.window}, got {self.stride}")
        return self
