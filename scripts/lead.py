"""What a summary that is the document's beginning scores: python -m scripts.lead [--limit N] FILE...

Each file has JSON lines with the columns ``document`` and ``summary``; documents are not cut. A summariser is
worth something where it scores more than this.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from nvreg.metrics import METRICS, text_statistics
from scripts.quoting import laid_out

SENTENCES = (1, 3)
"""How many sentences are taken."""

SHOWN = ("rouge1", "rouge2", "rougeL")
"""The metrics."""

_BETWEEN = re.compile(r"(?<=[.!?])\s+")


def beginning(document: str, sentences: int) -> str:
    """Return a document's first sentences, which end where white space follows one of ``.!?``."""
    return " ".join(_BETWEEN.split(document.strip())[:sentences])


def scores(documents: Sequence[str], summaries: Sequence[str], sentences: int) -> list[float]:
    """Return each metric of the first sentences of documents."""
    leads = [beginning(document, sentences) for document in documents]
    return [float(METRICS[name].score(text_statistics(name, leads, summaries))) for name in SHOWN]


def main(arguments: list[str]) -> None:
    """Print a table with a row for each file and number of sentences."""
    parser = argparse.ArgumentParser(prog="python -m scripts.lead")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--limit", metavar="N", type=int, help="read the first N records of each")
    options = parser.parse_args(arguments)
    rows = [["file", "sentences", *SHOWN]]
    for path in options.files:
        with path.open(encoding="utf-8") as lines:
            records = [json.loads(line) for line in islice(lines, options.limit)]
        documents, summaries = ([record[name] for record in records] for name in ("document", "summary"))
        for number in SENTENCES:
            found = [f"{each:.3f}" for each in scores(documents, summaries, number)]
            rows.append([str(path), str(number), *found])
    print(laid_out(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
