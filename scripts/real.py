"""Take tables and figures of runs on real text into results/real, and write on its page what they say.

    python -m scripts.real RUNS results/real

Every directory of RUNS that ``nvreg report`` has written tables in is taken, finished or not. No text of the
data is copied: a report with example texts is refused.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from pandas import DataFrame

from nvreg.errors import UserError
from nvreg.files import write_text
from nvreg.report.analysis import NV
from nvreg.report.cells import RESELECTED, number_text, with_decimals
from nvreg.report.findings import KEPT, UNKNOWN
from nvreg.results import PRETRAINED, RunFiles
from scripts.outcome import SOFTENING, UNMEASURED, Outcome, controls_of, gain_of, outcomes, read_tables
from scripts.quoting import CHOICE, Quote, filled, laid_out, progress, read
from scripts.several import COMBINED, told_of_several, ways_in_a_sentence

HEADS = "nv-heads"
"""The other form of NV."""

EXAMPLES = "## Examples"
"""The heading under which a report shows texts."""


def copy(runs: Path, committed: Path) -> list[str]:
    """Copy tables and figures of all runs that have tables, and return the names of the runs.

    What an earlier report left there is deleted.

    Raises:
        UserError: if a run has trials and no tables, or texts among them, before anything is copied.
    """
    if not runs.is_dir():
        raise UserError(f"expected a directory of runs, got {runs}: make reproduce SUITE=real writes one")
    taken = {}
    for run in sorted(path for path in runs.iterdir() if path.is_dir()):
        files = RunFiles(run)
        tables = [*sorted(files.tables.glob("*.md")), *sorted(files.tables.glob("*.csv"))]
        if not tables and files.trials.is_file():
            raise UserError(f"{run}: expected tables of a run that has trials, got none: nvreg report {run}")
        for path in tables:
            if EXAMPLES in path.read_text(encoding="utf-8"):
                raise UserError(
                    f"{path}: expected no texts, got examples: nvreg report {run} writes it without"
                )
        if tables:
            figures = [*sorted(files.figures.glob("*.png")), *sorted(files.tables.glob("*.png"))]
            taken[run.name] = [*tables, *figures]  # the page of several runs has its figures beside it
    for name, paths in taken.items():
        shutil.rmtree(committed / name, ignore_errors=True)
        (committed / name).mkdir(parents=True)
        for path in paths:
            shutil.copyfile(path, committed / name / path.name)
    return list(taken)


def first_table(results: Path) -> str:
    """Quote what is left of each method's gain after temperature, a row a test set.

    Settings are those of `CHOICE`; where no temperature changes the metric, gains are as they are.
    """
    header = ["run: test set", "metric", "pretrained", "temperature alone", NV, HEADS, "best simple control"]
    rows = [header]
    for directory, outcome in outcomes(results / "real"):
        if outcome is None:
            if not (directory / COMBINED).is_file():
                rows.append([directory.name, UNMEASURED, *[""] * (len(header) - 2)])
            continue
        control = outcome.best_control()
        for domain in (outcome.in_domain, *outcome.others):
            place = "in domain" if domain == outcome.in_domain else "out of domain"
            rows.append([
                f"{directory.name}: {domain} ({place})",
                f"{outcome.metric} {outcome.direction}",
                _score(outcome, domain),
                gain_of(*_softened(outcome), CHOICE, domain),
                *(gain_of(outcome.final, name, CHOICE, domain) for name in (NV, HEADS)),
                f"{_of(outcome, control)}: {gain_of(outcome.final, control, CHOICE, domain)}"
                if control
                else UNMEASURED,
            ])  # fmt: skip
    return laid_out(rows)


def short_table(results: Path) -> str:
    """Quote how many sets out of domain each method improves and worsens, a row a run, and what it costs.

    Settings and figures are those of `first_table`.
    """
    header = ["run", "metric", "temperature alone", NV, HEADS, "best simple control"]
    rows = [header]
    for directory, outcome in outcomes(results / "real"):
        if outcome is None:
            continue
        control = outcome.best_control()
        rows.append([
            f"[{directory.name}](results/real/{directory.name}/report.md)",
            outcome.metric,
            _counts(outcome, *_softened(outcome)),
            *(_counts(outcome, outcome.final, name) for name in (NV, HEADS)),
            f"{_of(outcome, control)}: {_counts(outcome, outcome.final, control)}" if control else UNMEASURED,
        ])  # fmt: skip
    return laid_out(rows)


def in_a_sentence(results: Path) -> str:
    """Quote how many sets of all runs each method improves and worsens; two models may have one set."""
    found = [outcome for _, outcome in outcomes(results / "real") if outcome is not None]
    if not found:
        return "Nothing is measured yet."

    def told(choices: list[tuple[Outcome, DataFrame, str]]) -> str:
        sets = sum(len(outcome.chosen(table, name, CHOICE)) for outcome, table, name in choices)
        pairs = [outcome.changed(table, name, CHOICE) for outcome, table, name in choices]
        better, worse = (sum(len(names) for names in side) for side in zip(*pairs, strict=True))
        return f"improves {better} and worsens {worse} of {sets}"

    alone = told([(outcome, *_softened(outcome)) for outcome in found])
    of_nv, of_heads = (
        told([(outcome, outcome.final, name) for outcome in found if name in outcome.methods])
        for name in (NV, HEADS)
    )
    return (
        f"Dividing logits by one number {alone} pairs of a model and a test set out of domain; beyond that, "
        f"{NV} {of_nv}, {HEADS} {of_heads}."
    )


def _softened(outcome: Outcome) -> tuple[DataFrame, str]:
    """Return the table and the method in which a temperature alone is."""
    return (outcome.plain, SOFTENING) if outcome.after is None else (outcome.after, PRETRAINED)


def _of(outcome: Outcome, control: str) -> str:
    """Return the name of the best control with the number of those that it is the best of."""
    count = len(outcome.controls)
    return f"{control} (of {count} {'control' if count == 1 else 'controls'})"


def _counts(outcome: Outcome, table: DataFrame, method: str) -> str:
    if method not in set(table["method"]):
        return UNMEASURED
    said = outcome.said(table, method, CHOICE)
    if set(said.values()) == {KEPT}:
        return KEPT
    better, worse = outcome.changed(table, method, CHOICE)
    cost = {outcome.verbs[0]: "; better in domain", outcome.verbs[1]: "; worse in domain"}
    return (
        f"{len(better)} better, {len(worse)} worse of {len(outcome.chosen(table, method, CHOICE))}"
        f"{cost.get(said[outcome.in_domain], '')}"
    )


def all_runs(results: Path) -> str:
    """Quote, of every run, how far it has come and what its tables say."""
    return "\n\n".join(
        "\n\n".join([f"### {directory.name}", *_told(directory, outcome)])
        for directory, outcome in outcomes(results / "real")
    )


def _told(directory: Path, outcome: Outcome | None) -> Iterator[str]:
    planned: list[str] = []
    for folder in ("experiments", "../../experiments/real"):
        if (file := directory.parent / folder / f"{directory.name}.yaml").is_file():
            planned = list(yaml.safe_load(read(file)).get("sweep", {}).get("methods", {}))
            yield f"{read(file).splitlines()[0].removeprefix('# ')} ([file]({folder}/{file.name}))"
    if (combined := directory / COMBINED).is_file():
        yield from told_of_several(combined)
    if outcome is None:
        if not combined.is_file():
            yield "Not measured yet."
        return
    page = read(directory / "report.md")
    (sizes,) = (line for line in page.splitlines() if line.startswith("- examples: "))
    tried, _, left = progress(page).partition(" Not measured yet: ")
    missing = [name for name in planned if name not in outcome.methods] or left.rstrip(".").split("; ")
    unmeasured = f" Not measured yet: {', '.join(missing)}." if any(missing) else ""
    yield (f"{tried}{unmeasured} E{sizes.removeprefix('- e')}. [All tables]({directory.name}/report.md).")
    if (controls := controls_of(directory)).is_dir():
        yield _told_of_controls(controls)
    yield _sentence(outcome)
    yield _verdicts(outcome)


def _told_of_controls(directory: Path) -> str:
    """Return what another run of the experiment measured, on the same model and data."""
    tried, *_ = progress(read(directory / "report.md")).partition(", chosen on ")
    methods = ", ".join(read_tables(directory).methods)
    return f"{methods} in a run of their own: {tried}. [All tables]({directory.name}/report.md)."


def _sentence(outcome: Outcome) -> str:
    """Return which methods change how many sets out of domain, each under its best selection."""
    changed = {
        method: outcome.changed(outcome.final, method, protocol)
        for method in outcome.methods
        if (protocol := outcome.best_protocol(method))
    }
    told = [
        f"{name} {_changes(outcome, *changed[name])}" if name in changed else f"{name} is {UNMEASURED}"
        for name in (NV, HEADS, SOFTENING)
    ]
    controls = {name: found for name, found in changed.items() if name in outcome.controls}
    most = max((len(better) for better, _ in controls.values()), default=0)
    best = [
        f"{name} {_changes(outcome, *found)}" for name, found in controls.items() if len(found[0]) == most
    ]
    if most:
        told += best
    else:
        told.append(
            f"no other control {outcome.verbs[0]} any" if controls else "no other control is measured yet"
        )
    when = "" if outcome.after is None else " after temperature"
    return (
        f"By {outcome.metric}{when}, of the {len(outcome.others)} sets out of domain, each method under its "
        f"best selection: {'; '.join(told)}."
    )


def _changes(outcome: Outcome, better: list[str], worse: list[str]) -> str:
    lists = zip(outcome.verbs, (better, worse), strict=True)
    found = [f"{verb} {len(names)} ({', '.join(names)})" for verb, names in lists if names]
    return " and ".join(found) or f"{outcome.verbs[0]} none"


def _verdicts(outcome: Outcome) -> str:
    """Return a table of the best selection of each method, as it is and after temperature."""
    header = ["method", "its best selection", "out of domain", "in domain"]
    tables = [outcome.plain]
    if outcome.after is not None:
        header += ["out of domain, after temperature", "in domain, after temperature"]
        tables.append(outcome.after)
    rows = [header]
    for method in outcome.methods:
        if not (protocol := outcome.best_protocol(method)):
            continue
        row = [method, protocol]
        for table in tables:
            said = outcome.said(table, method, protocol)
            row += [_phrase(said, outcome), gain_of(table, method, protocol, outcome.in_domain)]
        rows.append(row)
    return laid_out(rows)


def _phrase(said: dict[str, str], outcome: Outcome) -> str:
    out = {name: verdict for name, verdict in said.items() if name in outcome.others}
    if set(out.values()) == {KEPT}:
        return KEPT
    parts = [
        f"{verb} {', '.join(names)}"
        for verb in (*outcome.verbs, UNKNOWN)
        if (names := [name for name, verdict in out.items() if verdict == verb])
    ]
    return "; ".join(parts) or "no difference"


def _score(outcome: Outcome, domain: str) -> str:
    shown = with_decimals(outcome.plain, [RESELECTED])
    (cell,) = shown[shown["method"].eq(PRETRAINED) & shown["domain"].eq(domain)].to_dict("records")
    return number_text(cell["score"], cell["decimals"])


QUOTES: dict[str, Quote] = {
    "real": first_table,
    "real-short": short_table,
    "real-sentence": in_a_sentence,
    "real-ways": ways_in_a_sentence,
    "real-runs": all_runs,
}
"""Name in a marker to what is quoted."""


def main(arguments: list[str]) -> int:
    """Copy the tables and write the page; return 2 where a run is not as it should be."""
    runs, committed = map(Path, arguments)
    page = committed / "README.md"
    try:
        names = copy(runs, committed)
        write_text(page, filled(read(page), QUOTES, committed.parent))
    except UserError as error:
        print(f"real: {error}", file=sys.stderr)
        return 2
    print(f"{page}: {', '.join(names) or 'no run'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
