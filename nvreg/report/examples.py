"""Single examples of the test sets, the pretrained model's outputs and the chosen setting's side by side."""

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from pandas import DataFrame

from nvreg.document import Block, Cell, Marked, PageSection, Table
from nvreg.errors import UserError
from nvreg.metrics import METRICS, statistics_of
from nvreg.report.reading import Run
from nvreg.report.selection import Pick, ProtocolChoice
from nvreg.results import PRETRAINED_NUMBER

WIDTH = 240
"""Characters of a text that a cell shows at most."""


def examples_section(run: Run, name: str, choice: ProtocolChoice, count: int) -> PageSection:
    """Return the examples of each test set that a choice changes most.

    Args:
        run: where the choice is from.
        name: what chose.
        choice: what it chose.
        count: how many examples of each set: half of them gain most, half lose most, by the score of the
            example itself.

    Raises:
        UserError: if the texts or what the trials kept of them cannot be read, or the texts are others than
            those that were scored.
    """
    metric = _metric(run)
    score = METRICS[metric].name_of_example
    blocks: list[Block] = [f"Sorted by the change of the example's own {score}, the largest gain first."]
    unchanged, scored = [], run.domains_with("test")
    for domain, pick in choice.items():
        if len(set(pick.trials)) == 1 and domain in scored:
            changed = _changed(pick, metric, count)
            if changed.empty:
                unchanged.append(domain)
            else:
                blocks.append(PageSection(domain, [_table(run, domain, changed)]))
    if unchanged:
        blocks.append(f"Nothing changes on {', '.join(unchanged)}.")
    if all(set(pick.trials) == {PRETRAINED_NUMBER} for pick in choice.values()):
        blocks.append("This keeps the pretrained model; --protocol and --method show what others chose.")
    return PageSection(f"Examples that change most ({name})", blocks)


def _metric(run: Run) -> str:
    """Return the selection metric, or the first that has scores of single examples."""
    for name in (run.selection_metric, *run.metrics):
        if METRICS[name].of_examples is not None:
            return name
    raise UserError(
        f"--examples: expected a metric that scores single examples, got {', '.join(run.metrics)}"
    )


def _changed(pick: Pick, metric: str, count: int) -> DataFrame:
    """Return id, score before and after, and the predictions if any, of the examples that change most."""
    before, after = (
        _examples(pick.run, number, pick.domain, metric) for number in (PRETRAINED_NUMBER, pick.trials[0])
    )
    pairs = before.join(after, lsuffix="_before", rsuffix="_after")
    gain = (pairs["score_after"] - pairs["score_before"]) * (1 if METRICS[metric].higher_is_better else -1)
    ordered = pairs.loc[gain[gain != 0].sort_values(ascending=False, kind="stable").index]
    most, least = ordered.head(count - count // 2), ordered.tail(count // 2)
    return ordered.loc[most.index.union(least.index, sort=False)]


def _examples(run: Run, number: int, domain: str, metric: str) -> DataFrame:
    """Return what a trial made of each example, by id: its score and, if any, its prediction."""
    frame = run.examples(number, domain, "test").set_index("id")
    statistics = statistics_of(frame, METRICS[metric].group)
    scores = frame.assign(score=METRICS[metric].per_example(statistics))
    return scores[[name for name in ("prediction", "score") if name in scores]]


def _table(run: Run, domain: str, changed: DataFrame) -> Table:
    records = _records(run, domain)
    outputs = {
        header: name
        for header, name in {"pretrained": "prediction_before", "chosen": "prediction_after"}.items()
        if name in changed
    }
    header = ["example", *records[0], *outputs, "score before", "after"]
    body = [
        [
            str(identity),
            *(_cut(_text(*cell)) for cell in records[int(identity)].items()),
            *(_compared(*(_cut(example[name]) for name in outputs.values())) if len(outputs) == 2 else ()),
            Cell(f"{example['score_before']:.4g}", value=example["score_before"]),
            Cell(f"{example['score_after']:.4g}", value=example["score_after"]),
        ]
        for identity, example in zip(changed.index, changed.to_dict("records"), strict=True)
    ]
    return Table(header, body)


def _compared(before: str, after: str) -> tuple[Marked, Marked]:
    """Return both texts with the words marked that the other has not."""
    words = before.split(), after.split()
    runs = SequenceMatcher(None, *words, autojunk=False).get_opcodes()
    return (
        Marked([(" ".join(words[0][i:j]), kind != "equal") for kind, i, j, _, _ in runs if i < j]),
        Marked([(" ".join(words[1][i:j]), kind != "equal") for kind, _, _, i, j in runs if i < j]),
    )


def _records(run: Run, domain: str) -> Sequence[Mapping[str, str]]:
    from nvreg.data import load_examples

    data = run.experiment.data
    sources = {
        data.in_domain.name: data.in_domain.test,
        **{each.name: each.test for each in data.out_of_domain},
    }
    examples = load_examples(sources[domain], data.columns, run.manifest["columns"])
    if examples.fingerprint != run.manifest["data"][domain]["test"]["fingerprint"]:
        raise UserError(
            f"--examples: expected the texts of {domain} that the run scored, got others; "
            "put back the file that the sweep read, or sweep again"
        )
    return examples.records


def _text(column: str, value: Any) -> str:
    """Return a value as text: a list of words or tags by spaces, as tags are predicted."""
    if isinstance(value, list):
        return (" / " if column == "choices" else " ").join(map(str, value))
    return str(value)


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"
