"""The section "data" of an experiment file that nobody has written yet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from nvreg.data import NO_LABEL
from nvreg.data.columns import check_names
from nvreg.data.looking import Look
from nvreg.errors import UserError, expected_one_of
from nvreg.metrics.tokenisation import writing_of_texts
from nvreg.start.columns import Found, check_found, find_columns, named_columns, texts
from nvreg.start.domains import DomainDraft, written_source
from nvreg.start.subject import Ask, DraftSubject
from nvreg.tasks import TASKS
from nvreg.tasks.classification import PAIR


class Size(NamedTuple):
    """How much is tried of each method, on how many records at most, and with how many beams.

    ``beams`` None stands for the checkpoint's own number.
    """

    trials: int
    train: int
    validation: int
    test: int
    beams: int | None


FULL = Size(trials=30, train=20000, validation=500, test=1000, beams=None)
SMALL = Size(trials=10, train=500, validation=60, test=120, beams=1)

MASKED = 10
"""How many times fewer texts a masked language model is measured on, which reads each once a token."""


class DataSection:
    """Writes the section, and remembers why it says what it says.

    Args:
        subject: the model and its task.
        given: keys of the section that the user has named, which are not guessed.
        ask: asks the user what cannot be seen; None where nobody answers.

    Attributes:
        columns: the task's columns to those of the in-domain data.
        notes: what stands beside a key, by its dotted path.
        references: the first texts of every domain that the model is to generate, where it is to.
    """

    def __init__(self, subject: DraftSubject, given: Mapping[str, Any], ask: Ask | None) -> None:
        self._subject, self._given, self._ask = subject, given, ask
        self._task = TASKS[subject.task]
        self._reading: dict[str, Any] = {}
        self.columns: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self.references: list[str] = []

    def write(
        self, ours: DomainDraft, others: Sequence[DomainDraft], size: Size, directory: Path
    ) -> dict[str, Any]:
        """Return the section.

        Args:
            ours: the domain that the model was tuned on.
            others: the others.
            size: how many records are taken at most.
            directory: the directory of the file.

        Raises:
            UserError: if the data lacks a column, or something cannot be told and nobody answers.
        """
        if self._task.generates:
            self._languages(ours.first)
        check_names(self._named.values(), list(ours.first.columns), ours.name)
        self.columns, why = self._columns_of(ours.first, ours.name)
        self._prefix()
        section: dict[str, Any] = {}
        if renamed := {column: name for column, name in self.columns.items() if column != name}:
            section["columns"] = renamed
            self._note("columns", f"guess: {why}" if why else "given")
        section |= self._reading
        if labels := self._labels([ours, *others]):
            section["labels"] = labels
        section["in_domain"] = self._domain(ours, "in_domain", size, directory)
        section["out_of_domain"] = [
            self._domain(domain, f"out_of_domain.{place}", size, directory)
            for place, domain in enumerate(others)
        ]
        return section

    def _note(self, key: str, *said: str) -> None:
        self.notes[f"data.{key}"] = "; ".join(filter(None, said))

    def _domain(self, domain: DomainDraft, key: str, size: Size, directory: Path) -> dict[str, Any]:
        """Return the keys of a domain."""
        columns, why = self.columns, ""
        if not self._fits(domain.first):
            columns, why = self._columns_of(domain.first, domain.name, needs_labels=False)
        self._note(f"{key}.name", self._described(domain.first, columns))
        if self._task.generates:
            self.references += filter(None, domain.first.columns[columns[self._task.columns[1]]])
        written: dict[str, Any] = {"name": domain.name}
        for split, source in domain.sources.items():
            rows = domain.looks[split].rows
            start, end = source.get("part", (0, 1))
            count, most = round(end * rows) - round(start * rows), self._most(size, split)
            written[split] = written_source(source, directory)
            if count > most:
                written[split] |= {"limit": most, "seed": 0}
            own = {each: name for each, name in columns.items() if self.columns.get(each, each) != name}
            if own:
                written[split]["columns"] = own
            self._note(
                f"{key}.{split}",
                f"{count:,} records{', of which a random part takes less time' if count > most else ''}",
                domain.notes.get(split, ""),
                f"guess: {why}" if own and why else "",
            )
        return written

    def _most(self, size: Size, split: str) -> int:
        """Return how many records of a split are taken at most."""
        most: int = getattr(size, split)
        is_masked = self._subject.task == "language-modelling" and self._subject.kind == "encoder-only"
        return most // MASKED if is_masked and split != "train" else most

    def _fits(self, look: Look) -> bool:
        """Return whether data has the columns of the in-domain data, but for labels that it may lack."""
        optional = {self.columns.get("label")} if self._may_lack_labels else set()
        return set(self.columns.values()) - optional <= look.columns.keys()

    @property
    def _may_lack_labels(self) -> bool:
        return self._task.unlabelled == "confidence"

    @property
    def _named(self) -> dict[str, str]:
        """The columns that the user has named."""
        return {column: str(name) for column, name in (self._given.get("columns") or {}).items()}

    # --- columns ----------------------------------------------------------------------------------

    def _columns_of(self, look: Look, where: str, *, needs_labels: bool = True) -> tuple[dict[str, str], str]:
        """Return the data's name of each of the task's columns, and what speaks for those that are guessed.

        Raises:
            UserError: if the data has none for one of them.
        """
        given = {column: name for column, name in self._named.items() if name in look.columns}
        wanted = self._wanted(look, given)
        found = {
            column: one for column, one in self._found(look, wanted, given).items() if column not in given
        }
        optional = {"label"} if self._may_lack_labels and not needs_labels else set()
        check_found({*found, *given}, [each for each in wanted if each not in optional], look, where)
        said = (f"{column} is {one.name}, {one.why}" for column, one in found.items() if not one.is_certain)
        return {**{column: one.name for column, one in found.items()}, **given}, "; ".join(said)

    def _wanted(self, look: Look, given: Mapping[str, str]) -> list[str]:
        """Return the task's columns that are to be found: of a text or a pair of texts what the data has."""
        if self._subject.task != "classification":
            return list(self._task.columns)
        named = {*named_columns(look, ("text", *PAIR)), *given}
        is_pair = named >= set(PAIR) and ("text" not in named or bool(given.keys() & set(PAIR)))
        return [*(PAIR if is_pair else ("text",)), "label"]

    def _found(self, look: Look, wanted: Sequence[str], given: Mapping[str, str]) -> dict[str, Found]:
        match self._subject.task:
            case "translation" | "summarisation":
                return self._pair(look, wanted, given)
            case "classification":
                known = find_columns(look, wanted, {"label": self._subject.takes})
                return known if "label" in known else find_columns(look, wanted)
            case "token-classification":
                return find_columns(look, wanted, {"tags": lambda tags: all(map(self._subject.takes, tags))})
            case _:
                return find_columns(look, wanted)

    def _pair(self, look: Look, wanted: Sequence[str], given: Mapping[str, str]) -> dict[str, Found]:
        """Return the columns of source and target, or of document and summary."""
        source, target = wanted
        named, candidates = named_columns(look, wanted), texts(look)[:3]
        if len(named) == 2 or given.keys() >= set(wanted) or len(candidates) < 2:
            return named
        if self._subject.task == "summarisation":
            first, second, why = *candidates[:2], "the longer text"
        elif self._reading:
            first, second = (name for name in look.columns if name in candidates[:2])
            why = "the first text"
        else:
            first, second = self._subject.direction(look, candidates, self._reading)
            why = f"as the model finds {second} after {first} likelier than the reverse"
        return {source: Found(first, False, why), target: Found(second, False, "the other one")}

    # --- how text is read -------------------------------------------------------------------------

    def _languages(self, look: Look) -> None:
        """Take the languages of a model of many from what its columns are called."""
        codes = _language_codes(self._subject.tokenizer)
        columns = [self._named.get(each) for each in self._task.columns]
        names = [name for name in look.columns if name in texts(look)[:2]]
        for key, column, name in zip(
            ("source_language", "target_language"), columns, [*names, "", ""], strict=False
        ):
            if (given := self._given.get(key)) is not None:
                self._reading[key] = given
            elif codes:
                self._reading[key] = self._language(key, column or name, codes)

    def _language(self, key: str, column: str, codes: Sequence[str]) -> str:
        name = column.rpartition(".")[2].lower()
        near = [code for code in codes if re.split("[_-]", code.lower())[0] == name]
        near = near or [code for code in codes if len(name) == 2 and code.lower().startswith(name)]
        if len(near) == 1:
            self._note(key, f"guess: the column is called {column}")
            return near[0]
        if self._ask is None:
            raise UserError(
                f"expected a language of the model for {column}, got none; name it with "
                f"--set data.{key}=CODE, one of {', '.join(codes):.200}"
            )
        return self._ask(f"Which language is {column}?", codes)

    def _described(self, look: Look, columns: Mapping[str, str]) -> str:
        """Return how long the texts of a domain are, and in which language, or else in which script."""
        said = []
        for column, name in columns.items():
            values = [value for value in look.columns.get(name, ()) if value]
            if values and all(isinstance(value, str) for value in values) and column != "label":
                script = f"{writing_of_texts(values)} script"
                language = self._language_of(column, name)
                written = f"{language}, {script}" if language else script
                said.append(f"{column} of {fmean(map(len, values)):.0f} characters, {written}")
        return ", ".join(said)

    def _language_of(self, column: str, name: str) -> str:
        """Return the language of a column as the file, the tokenizer or its name says; empty without."""
        place = {each: at for at, each in enumerate(self._task.columns)} if self._task.generates else {}
        if column not in place:
            return ""
        side = ("source", "target")[place[column]]
        known = self._reading.get(f"{side}_language") or getattr(
            self._subject.tokenizer, f"{side}_lang", None
        )
        last = name.rpartition(".")[2]
        return str(known or (last if re.fullmatch("[a-z]{2}", last) else ""))

    def _prefix(self) -> None:
        """Take the prefix of a T5 from its config, where it has one for the task."""
        if (given := self._given.get("source_prefix")) is not None:
            self._reading["source_prefix"] = given
            return
        known = getattr(self._subject.model.config, "task_specific_params", None) or {}
        languages = "_to_".join(name.rpartition(".")[2] for name in self.columns.values())
        task = {"summarisation": "summarization", "translation": f"translation_{languages}"}
        if prefix := (known.get(task.get(self._subject.task, "")) or {}).get("prefix"):
            self._reading["source_prefix"] = prefix
            self._note("source_prefix", "guess: the checkpoint's own for the task")

    def _labels(self, domains: Sequence[DomainDraft]) -> dict[str, str]:
        """Return what the labels of the data are called by the model, for those that are called otherwise."""
        if self._given.get("labels") or self._subject.task != "classification":
            return {}
        name = self.columns["label"]
        values = chain.from_iterable(_labels_in(domain.first, name) for domain in domains)
        unknown = [each for each in dict.fromkeys(values) if not self._subject.takes(each)]
        if len(unknown) > len(self._subject.classes):
            raise UserError(
                f"expected a column of at most {len(self._subject.classes)} labels, which the model chooses "
                f"from, got {name} with {len(unknown)}; name the right one with --set data.columns.label=NAME"
            )
        mapped = dict(self._mapped(unknown))
        if mapped:
            self.notes.setdefault("data.labels", "the data's to the model's")
        return mapped

    def _mapped(self, labels: Sequence[Any]) -> Iterator[tuple[str, str]]:
        """Yield labels of the data with the classes that they are: by how they begin, or as the user says."""
        classes = self._subject.classes
        for label in labels:
            begins = [each for each in classes if _begins_alike(str(label).casefold(), each.casefold())]
            if len(begins) == 1:
                self._note("labels", "guess: the data's to the model's, by how they begin")
                yield str(label), begins[0]
            elif self._ask is not None:
                yield str(label), self._ask(f"Which class of the model is the label {label!r}?", classes)
            else:
                raise UserError(
                    f"{expected_one_of(classes, label, 'the labels')}; say which class each label is with "
                    f"--set 'data.labels={{{label}: {classes[0]}, ...}}'"
                )


def _labels_in(look: Look, column: str) -> list[Any]:
    """Return the labels of a column; none where all of them stand for none."""
    labels = [each for each in look.columns.get(column, ()) if each is not None]
    return [] if {*map(str, labels)} == {NO_LABEL} else labels


def _begins_alike(label: str, name: str) -> bool:
    return len(label) > 1 and (name.startswith(label) or label.startswith(name))


def _language_codes(tokenizer: Any) -> list[str]:
    """Return the languages that a tokenizer of many tells by tokens of their own."""
    if not hasattr(tokenizer, "src_lang"):
        return []
    tokens = (
        re.fullmatch(r"_*([a-z]{2,3}(_[A-Z][A-Za-z]+)?)_*", each) for each in tokenizer.all_special_tokens
    )
    return sorted({match[1] for match in tokens if match})
