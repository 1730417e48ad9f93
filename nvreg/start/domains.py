"""Domains from what a user points at: files, directories of files, and data sets of the hub."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

from nvreg.config import Source
from nvreg.config.loading import HUB
from nvreg.data.arrow import hub_splits, is_saved, saved_splits
from nvreg.data.formats import has_records, suffix_of
from nvreg.data.looking import SPLITS, Look, look
from nvreg.errors import UserError

CONLL = (".conll", ".conllu", ".bio", ".iob", ".iob2")
"""What the names of files with a word and its tag a line end in."""

DONORS: Mapping[str, Sequence[str]] = {
    "train": ("validation", "test"),
    "validation": ("test", "train"),
    "test": ("validation", "train"),
}
"""The other splits from which the text of a missing one is taken, the better one first."""

SPLIT_PARTS: Mapping[str, int] = {"train": 2, "validation": 1, "test": 2}
"""How a split is shared among those that are taken from it."""

_SOURCE_OF_PATHS = ("files", "source_file", "target_file", "conll")


@dataclass(frozen=True)
class DomainDraft:
    """A domain, as an experiment file is to have it.

    Attributes:
        name: in tables and files.
        sources: each split's keys and values under ``data``, with absolute paths.
        looks: what each split's source holds.
        notes: by split, what was decided of it, in words.
    """

    name: str
    sources: Mapping[str, dict[str, Any]]
    looks: Mapping[str, Look]
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def first(self) -> Look:
        """What the first split holds, which speaks for all."""
        return next(iter(self.looks.values()))


def find_domains(in_domain: str, out_of_domain: Sequence[str]) -> tuple[DomainDraft, list[DomainDraft]]:
    """Return the domain that the model was tuned on and the others, of different names.

    Args:
        in_domain: a file, a directory with files for training, validation and testing, or ``hub:NAME``, or
            ``hub:NAME:CONFIG``.
        out_of_domain: the same each, without training text.

    Raises:
        UserError: if something is not there, or is none of these, or cannot be read.
    """
    ours = _domain(in_domain, ("train", "validation", "test"))
    others = [_domain(path, ("validation", "test")) for path in out_of_domain]
    taken = {ours.name}
    named = []
    for domain in others:
        name, number = domain.name, 2
        while name in taken:
            name, number = f"{domain.name}-{number}", number + 1
        taken.add(name)
        named.append(DomainDraft(name, domain.sources, domain.looks, domain.notes))
    return ours, named


def written_source(source: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Return a source as a file in a directory writes it: nearby paths are relative to it."""
    return {
        key: written_path(value, directory) if key in _SOURCE_OF_PATHS else value
        for key, value in source.items()
    }


def written_path(path: str, directory: Path) -> str:
    """Return an absolute path as a file in a directory writes it: relative to it where it is nearby."""
    near = (Path.cwd(), directory.resolve())
    if any(Path(path).is_relative_to(each) for each in near):
        return Path(os.path.relpath(path, directory.resolve())).as_posix()
    return path


def _domain(path: str, wanted: Sequence[str]) -> DomainDraft:
    name, found, whole = _hub(path) if path.startswith(HUB) else _local(path)
    if whole:  # one text, whose split is not named
        found = {"test": found[""]}
    elif list(found) == ["train"] and "train" not in wanted:
        found, whole = {"test": found["train"]}, True
    known = {split: source for split, source in found.items() if split in wanted}
    if not known:
        raise UserError(
            f"{path}: expected files or splits called {', '.join(wanted)}, got {', '.join(found) or 'none'}"
        )
    named_test = "test" in known and not whole
    needed = wanted if "train" in wanted else ["test"] if named_test else wanted
    sources, notes = _shared(known, needed)
    if "validation" not in sources:
        notes["test"] = "no validation text, by which two protocols choose: they do without this domain"
    wholes = {split: {**source, "part": None} for split, source in sources.items()}
    looks: dict[str, Look] = {}
    for split in filter(sources.__contains__, wanted):
        seen = next((each for each in looks if wholes[each] == wholes[split]), None)
        looks[split] = looks[seen] if seen else look(Source(**wholes[split]))
    return DomainDraft(name, {split: sources[split] for split in looks}, looks, notes)


def _shared(
    found: Mapping[str, dict[str, Any]], needed: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return a source for every split that is needed, and notes: what is missing is a part of another."""
    taken_from = {
        split: split if split in found else next(each for each in DONORS[split] if each in found)
        for split in dict.fromkeys([*needed, *found])
    }
    sources, notes = {}, {}
    for donor, source in found.items():
        sharing = [split for split in SPLITS if taken_from.get(split) == donor]
        if len(sharing) == 1:
            sources[donor] = source
            continue
        parts = [SPLIT_PARTS[split] for split in sharing]
        ends = [round(sum(parts[:n]) / sum(parts), 2) for n in range(len(parts) + 1)]
        for split, (start, end) in zip(sharing, pairwise(ends), strict=True):
            sources[split] = {**source, "part": [start, end]}
            share = f"a random {end - start:.0%}"
            notes[split] = f"guess: {share}, which the other splits have not; a file of its own is better"
    return sources, notes


def _hub(path: str) -> tuple[str, dict[str, dict[str, Any]], bool]:
    """Return the name of a data set of the hub, its splits by ours, and that they have names."""
    name, _, config = path.removeprefix(HUB).partition(":")
    if not name:
        raise UserError(f"expected {HUB}NAME or {HUB}NAME:CONFIG of a data set, got {path!r}")
    source = {"hub": name, **({"config": config} if config else {})}
    return _of_splits(_file_name(name), source, hub_splits(name, config or None))


def _of_splits(
    name: str, source: dict[str, Any], theirs: Sequence[str]
) -> tuple[str, dict[str, dict[str, Any]], bool]:
    """Return a domain's name, the splits of its source by ours, and that they have names."""
    found = {
        split: {**source, "split": known}
        for split, names in SPLITS.items()
        if (known := next((each for each in names if each in theirs), None))
    }
    if not found and len(theirs) == 1:
        return name, {"": {**source, "split": theirs[0]}}, True
    others: dict[str, dict[str, Any]] = {each: {} for each in theirs}
    return name, found or others, False


def _local(path: str) -> tuple[str, dict[str, dict[str, Any]], bool]:
    """Return a domain's name, its sources by split, and whether there is one without a name ("")."""
    place = Path(path).expanduser().absolute()
    if place.is_file():
        source = _source([place])
        if source is None:
            raise UserError(f"{path}: expected a file of records by its name, got {suffix_of(path)!r}")
        stem = place.name.split(".")[0]
        if stem in SPLITS["test"]:
            return _file_name(place.parent.name), {"test": source}, False
        is_split = any(stem in names for names in SPLITS.values())
        return _file_name(place.parent.name if is_split else stem), {"": source}, True
    if not place.is_dir():
        raise UserError(
            f"{path}: expected a file, a directory with files for training, validation and testing, or "
            f"{HUB}NAME of a data set, got none of them"
        )
    if is_saved(str(place)):
        name, source, theirs = _file_name(place.name), {"files": str(place)}, saved_splits(str(place))
        return _of_splits(name, source, theirs) if theirs else (name, {"": source}, True)
    files = sorted(each for each in place.iterdir() if each.is_file() and not each.name.startswith("."))
    found = {}
    for split, names in SPLITS.items():
        of_split = [each for each in files if re.split(r"[.\-_]", each.name)[0].lower() in names]
        if of_split:
            source = _source(of_split)
            if source is None:
                got = ", ".join(each.name for each in of_split)
                raise UserError(
                    f"{path}: expected one file for {split}, several of one format that are called alike, or "
                    f"two of parallel text, got {got}"
                )
            found[split] = source
    if found:
        return _file_name(place.name), found, False
    if len(files) == 1 and (source := _source(files)):
        return _file_name(place.name), {"": source}, True
    got = ", ".join(each.name for each in files) or "no file"
    raise UserError(f"{path}: expected files called train.*, validation.* and test.*, got {got:.200}")


def _source(files: Sequence[Path]) -> dict[str, Any] | None:
    """Return the source that some files are: one, several of one format, or two of parallel text."""
    suffixes = {suffix_of(each.name) for each in files}
    is_pair = len(files) == 2 and (
        all("." in each.stem for each in files)  # train.en.txt and train.de.txt
        if suffixes == {".txt"}
        else len(suffixes) == 2 and not any(has_records(each.name) for each in files)
    )
    if is_pair:
        return {"source_file": str(files[0]), "target_file": str(files[1])}
    if len(files) == 1 and suffixes <= set(CONLL):
        columns = {"token_column": 1, "tag_column": 3} if ".conllu" in suffixes else {}
        return {"conll": str(files[0]), **columns}
    if len(suffixes) == 1 and has_records(files[0].name):
        return {"files": str(files[0])} if len(files) == 1 else _glob_of(files)
    return None


def _glob_of(files: Sequence[Path]) -> dict[str, Any] | None:
    """Return the glob that matches some files of a directory and no others; None where none does."""
    names = [each.name for each in files]
    end = _beginning([name[::-1] for name in names])[::-1]
    for start in (_beginning([re.split(r"[.\-_]", name)[0] for name in names]), _beginning(names)):
        pattern = f"{glob.escape(str(files[0].parent / start))}*{glob.escape(re.sub(r'^[^.]*', '', end))}"
        if sorted(glob.glob(pattern)) == sorted(map(str, files)):
            return {"files": pattern}
    return None


def _beginning(texts: Sequence[str]) -> str:
    """Return what some texts have in common at their beginning."""
    alike = takewhile(lambda characters: len(set(characters)) == 1, zip(*texts, strict=False))
    return "".join(first for first, *_ in alike)


def _file_name(text: str) -> str:
    """Return the end of a path or a name as files may be called by."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text.rstrip("/").rpartition("/")[2]).strip("-._") or "data"
