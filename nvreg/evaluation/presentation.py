"""A result as a page, as a file, and its examples as records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain, count
from pathlib import Path
from typing import Any

from pandas import DataFrame

from nvreg.evaluation.measure import Evaluated
from nvreg.evaluation.result import Difference, DomainResult, MeasuredModel, Result, Score
from nvreg.files import write_text
from nvreg.methods.nv import NVSetting
from nvreg.metrics import METRICS, statistics_of
from nvreg.results import finite
from nvreg.rounding import decimals_of, number_text
from nvreg.text import code_in_markdown, in_markdown

EXAMPLES_MARK = '{"id": 0, "record": '
"""What every file of examples begins with."""


def page(result: Result) -> str:
    """Return a result as Markdown: a row a domain and metric."""
    other, header = result.against, ["domain", "metric", "score", "95 % interval"]
    compared = other is not None
    if other:
        is_itself = other.space is None and other.path == result.model.path
        header += [f"difference from {'itself as pretrained' if is_itself else described(other)}", "p (Holm)"]
    lines = [f"# {in_markdown(described(result.model))}", "", _row(header), "|---" * len(header) + "|"]
    for domain in result.domains:
        for name, score in domain.metrics.items():
            lines.append(
                _row([domain.name, name, *_cells(score), *(_compared(domain, name) if compared else ())])
            )
        for by, metrics in (domain.normalisations or {}).items():
            if "accuracy" in metrics:
                lines.append(_row([domain.name, f"accuracy by {by}", *_cells(metrics["accuracy"])]))
    lines += [
        "",
        f"- examples: {', '.join(map(_examples, result.domains))}",
        *(f"- {name}: {code_in_markdown(signature)}" for name, signature in result.signatures.items()),
    ]
    lines += [f"- note: {in_markdown(note)}" for note in result.notes]
    return "\n".join(lines)


def _examples(domain: DomainResult) -> str:
    """Return how many examples of a domain are scored, and how many of them are cut."""
    cut = f" ({domain.truncated} cut to fit)" if domain.truncated else ""
    return f"{in_markdown(domain.name)} {domain.examples}{cut}"


def described(model: MeasuredModel) -> str:
    """Return a line that says what was measured."""
    if model.space is None:
        return f"{model.path} as pretrained"
    return f"{model.path} with {NVSetting.from_dict(model.settings)} (space: {model.space})"


def to_json(result: Result) -> str:
    """Return a result as JSON in the schema of `nvreg.evaluation.result.Result`."""
    return json.dumps(result.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"


def examples_files(output: Path, domains: Iterable[str]) -> dict[str, Path]:
    """Return the file of the examples of every domain, beside that of the result: no two have the same."""
    files: dict[str, Path] = {}
    for domain in domains:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", domain)
        names = chain([name], (f"{name}-{number}" for number in count(2)))
        paths = (output.with_name(f"{output.stem}.{each}.jsonl") for each in names)
        files[domain] = next(path for path in paths if path not in files.values())
    return files


def write(evaluated: Evaluated, output: Path, *, with_examples: bool) -> list[Path]:
    """Write a result and, of each domain, a line an example, and return the files.

    The examples of a domain are in a file of its own beside the result: ``result.DOMAIN.jsonl``.
    """
    write_text(output, to_json(evaluated.result))
    written = [output]
    for domain, path in examples_files(output, evaluated.examples if with_examples else ()).items():
        records = _records(evaluated, domain)
        write_text(path, "".join(json.dumps(finite(each), allow_nan=False) + "\n" for each in records))
        written.append(path)
    return written


def _records(evaluated: Evaluated, domain: str) -> Iterator[dict[str, Any]]:
    frame, metrics = evaluated.frames[domain], evaluated.result.evaluation["metrics"]
    scores = _scores(frame, metrics)
    groups = dict.fromkeys(METRICS[name].group for name in metrics)
    kept = [name for name in (*groups, "choices") if name in frame]
    for number, record in enumerate(evaluated.examples[domain].records):
        row = frame.iloc[number]
        yield {
            "id": number,
            "record": record,
            **({"prediction": row["prediction"]} if "prediction" in frame else {}),
            "scores": {name: float(values[number]) for name, values in scores.items()},
            "statistics": {name: list(map(float, row[name])) for name in kept},
        }


def _scores(frame: DataFrame, metrics: list[str]) -> dict[str, Any]:
    """Return each example's own score of every metric that has one, by what that is called."""
    scores = {
        METRICS[name].name_of_example: METRICS[name].per_example(statistics_of(frame, METRICS[name].group))
        for name in metrics
    }
    return {name: values for name, values in scores.items() if values is not None}


def _cells(score: Score) -> list[str]:
    decimals = decimals_of(score.value, score.low, score.high)
    error = "" if score.standard_error is None else f" ± {number_text(score.standard_error, decimals)}"
    return [f"{number_text(score.value, decimals)}{error}", _interval(score, decimals)]


def _compared(domain: DomainResult, metric: str) -> list[str]:
    difference = (domain.against or {}).get(metric)
    if difference is None:
        return ["measured otherwise", ""]
    decimals = decimals_of(difference.difference, difference.low, difference.high)
    text = f"{number_text(difference.difference, decimals, '+')} {_interval(difference, decimals, '+')}"
    return [text.strip(), "" if difference.p_holm is None else f"{difference.p_holm:.3g}"]


def _interval(of: Score | Difference, decimals: int, sign: str = "") -> str:
    if of.low is None or of.high is None:
        return ""
    return f"[{number_text(of.low, decimals, sign)}, {number_text(of.high, decimals, sign)}]"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(map(in_markdown, cells))} |"
