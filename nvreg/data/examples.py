"""The examples of one data set, under a task's own column names."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Record = dict[str, Any]
"""Texts by column name; in the column "label" a whole number or a text, in "choices" a list of texts."""


@dataclass(frozen=True)
class Examples:
    """Records, one an example, in the order of their source."""

    records: list[Record]

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the records in order, whichever file and format they came from."""
        digest = hashlib.sha256()
        for record in self.records:
            digest.update(json.dumps(record, sort_keys=True).encode() + b"\n")
        return digest.hexdigest()
