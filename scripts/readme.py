"""Quote the committed reports in README.md and docs, so that no figure in them is copied by hand.

    python -m scripts.readme

The function of `QUOTES` that a marker ``<!-- results: NAME -->`` names makes what stands between it and
``<!-- end -->``, from the reports in results and the figures of the models that come with nvreg.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from nvreg.cli.architectures import markdown
from nvreg.demo.build import BUILT_IN, FIGURES
from nvreg.demo.recipe import RECIPES
from nvreg.errors import UserError
from nvreg.files import write_text
from nvreg.models.architectures import architectures
from scripts import quoting, real
from scripts.quoting import CHOICE, bullets, laid_out, progress, read, section, selection_metric, table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "docs" / "demo.md",
    ROOT / "docs" / "architectures.md",
    RESULTS / "real" / "README.md",
)


def filled(text: str, results: Path = RESULTS) -> str:
    """Return a text in which all that stands between markers is quoted anew.

    Raises:
        UserError: if a marker names no quote, or a report is missing or has not what is quoted.
    """
    return quoting.filled(text, QUOTES, results)


def language_modelling(results: Path) -> str:
    """Quote how many settings were tried, and the table of perplexity."""
    page = read(results / "embedded" / "language-modelling" / "report.md")
    return f"{progress(page)}\n\n{laid_out(table(section(page, 'perplexity')))}"


def findings(results: Path) -> str:
    """Quote what every task's report says of the metric that settings were chosen by."""
    lines = []
    for path in sorted(results.glob("embedded/*/report.md")):
        page, task = read(path), path.parent.name
        metric = selection_metric(page)
        lines.append(f"- [{task}](../results/embedded/{task}/report.md), {metric}:")
        lines += [f"  {line}" for line in bullets(section(page, metric))]
    return "\n".join(lines)


def rivals(results: Path) -> str:
    """Quote scores of models as they were fine-tuned, and of what was chosen on them by `CHOICE`.

    A cell is the score, its deviation over seeds, and the interval of the difference, the choice repeated.
    """
    header, *rows = table(section(read(results / "embedded" / "rivals" / "combined.md"), "accuracy"))
    domains = slice(header.index("method") + 1, header.index("settings"))
    quoted: dict[str, list[list[str]]] = {}
    for row in rows:
        cell = dict(zip(header, row, strict=True))
        if cell["selection"] in ("pretrained", CHOICE):
            run, method = cell["run"], cell["method"]
            name = f"+ {method}" if cell["selection"] == CHOICE else f"{run}, {cell['training']} of training"
            shown = [re.sub(r" \(.*?(\{.*?\}).*\)", r" \1", score) for score in row[domains]]
            quoted.setdefault(run, []).append([name, *shown])
    return laid_out([["fine-tuning", *header[domains]], *(row for run in quoted.values() for row in run)])


def rivals_findings(results: Path) -> str:
    """Quote what the page of the rivals says of accuracy, against the models as they were and against NV."""
    page = read(results / "embedded" / "rivals" / "combined.md")
    return "\n".join([*bullets(section(page, "accuracy")), *bullets(section(page, "Would something"))])


def models(results: Path) -> str:
    """Quote how well the models that come with nvreg do."""
    rows = [["task", "measure", "model", "without a model"]]
    for task in RECIPES:
        figures = json.loads((BUILT_IN / task / FIGURES).read_text(encoding="utf-8"))
        without = (f"{score:.3g} ({name})" for name, score in figures["baselines"].items())
        rows.append([task, figures["measure"], f"{figures['score']:.3g}", ", ".join(without)])
    return laid_out(rows)


def counts(_results: Path) -> str:
    """Quote how many model types are converted under each text head."""
    return "\n\n".join(_tables_of_architectures()[:2])


def all_architectures(_results: Path) -> str:
    """Quote which model types are converted, in which space, and which are refused."""
    return "\n\n".join(_tables_of_architectures()[2:])


def _tables_of_architectures() -> list[str]:
    known = architectures()
    return markdown(known._replace(installed=known.transformers)).split("\n\n")


QUOTES = {
    "language-modelling": language_modelling,
    "findings": findings,
    "rivals": rivals,
    "rivals-findings": rivals_findings,
    "architectures": counts,
    "models": models,
    "all-architectures": all_architectures,
    **real.QUOTES,
}
"""Name in a marker to what is quoted."""


def main() -> int:
    """Write the documents; return 2 where a report is missing."""
    try:
        for path in DOCUMENTS:
            write_text(path, filled(path.read_text(encoding="utf-8")))
    except UserError as error:
        print(f"readme: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
