"""How a report was measured: versions, digests, seeds, signatures, and the commands that make it again."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from nvreg.document import PageSection
from nvreg.metrics import randomisation, resampling
from nvreg.protocols import PROTOCOLS
from nvreg.report.analysis import Matching
from nvreg.report.cells import time_text
from nvreg.report.reading import Run
from nvreg.results import RunFiles
from nvreg.tasks import TASKS
from nvreg.text import code_in_markdown, in_markdown


def measured_section(run: Run, matchings: Sequence[Matching]) -> PageSection:
    """Return how one run was measured.

    Args:
        run: the run.
        matchings: those that stand for methods in its tables.
    """
    matched = [
        f"- {each.label}: the {each.words} of the same seed that changes attention outputs most nearly as "
        f"much as the choice of {each.to} does; n/a: {each.no_match}"
        for each in matchings
    ]
    several = len({arm.seed for arm in run.sweeps}) > 1
    facts = [
        *_signatures(run, run.metrics),
        *(["- ±: standard deviation over the seeds of the search"] if several else []),
        *_reading(run, matched),
        *_seeds(run),
        f"- examples: {in_markdown(_examples(run))}",
        *_versions(run),
    ]
    again = PageSection("To make it again", [_code(_commands(run))])
    return PageSection("How it was measured", ["\n".join(facts), again], is_open=False)


def measured_together(named: Sequence[tuple[str, Run]], metrics: Sequence[str], command: str) -> PageSection:
    """Return how several runs were measured that stand on one page.

    Args:
        named: the runs, each after its name.
        metrics: the names of those that are shown, which all runs measured alike.
        command: what wrote the page, as ``nvreg report``; the directories follow.
    """
    runs = [run for _, run in named]
    facts = [*_signatures(runs[0], metrics), *_reading(runs[0], [])]
    blocks: list[str | PageSection] = ["\n".join(facts)]
    for name, run in named:
        said = [f"- {completed_text(run)}", *_seeds(run), f"- examples: {in_markdown(_examples(run))}"]
        blocks.append(PageSection(name, ["\n".join([*said, *_versions(run)])]))
    lines = [line for run in runs for line in _commands(run)[:1]]
    lines.append(" ".join([command, *(shlex.quote(str(run.directory)) for run in runs), "--output OUT"]))
    again = PageSection("To make it again", [_code(lines)])
    return PageSection("How it was measured", [*blocks, again], is_open=False)


def test_examples(run: Run) -> dict[str, int]:
    """Return how many examples each domain's test set has."""
    data = run.manifest["data"]
    return {name: data[name]["test"]["examples"] for name in run.domains if "test" in data.get(name, {})}


def completed_text(run: Run) -> str:
    """Say how many settings ended how, and which searches have not begun."""
    ended = [f"{run.count('completed')} of {run.planned} settings completed"]
    if failed := run.count("failed"):
        ended.append(f"{failed} failed")
    if stopped := run.count("stopped"):
        ended.append(f"{stopped} stopped early (about {time_text(_saved_seconds(run))} saved)")
    unmeasured = [run.label(arm) for arm in run.sweeps if not run.is_measured(arm)]
    finished = sum(map(len, run.sweeps.values())) >= run.planned
    return (
        f"{', '.join(ended)}, chosen on {run.selection_metric}; the pretrained model is always a candidate."
        + ("" if finished else " The sweep has not finished: this is a preview.")
        + (f" Not measured yet: {'; '.join(unmeasured)}." if unmeasured else "")
    )


def _signatures(run: Run, metrics: Iterable[str]) -> Iterator[str]:
    signatures = run.manifest["metrics"]
    for name in metrics:
        yield f"- {in_markdown(name)}: {code_in_markdown(signatures[name])}"


def _reading(run: Run, more: Iterable[str]) -> Iterator[str]:
    """Yield what the numbers of a page are."""
    unscored = len(run.domains_with("test")) < len(run.domains)
    yield (
        "- in-domain column where a protocol chooses a setting for each domain: the mean over those settings"
    )
    yield "- n/a: no validation set to choose on" + (", or no labels to score by" if unscored else "")
    yield from more
    yield (
        f"- intervals: {resampling.RESAMPLES} resamples, seed {randomisation.SEED}, percentile; strength and "
        "tolerance are not resampled"
    )
    yield (
        f"- tests: approximate randomisation, two-sided, at most {randomisation.SWAPS} swaps, seed "
        f"{randomisation.SEED}, so p is {1 / (randomisation.SWAPS + 1):g} at least; corrected by Holm's "
        "method"
    )


def _seeds(run: Run) -> Iterator[str]:
    sweep = run.experiment.sweep
    yield f"- seeds of the search: {', '.join(map(str, sweep.seeds))}; sampler: {sweep.sampler}"


def _examples(run: Run) -> str:
    return ", ".join(
        f"{domain} {split} {facts['examples']}"
        + (f" ({facts['truncated']} cut to fit)" if facts["truncated"] else "")
        for domain, splits in run.manifest["data"].items()
        for split, facts in splits.items()
    )


def _versions(run: Run) -> Iterator[str]:
    manifest = run.manifest
    versions = ", ".join(f"{name} {version}" for name, version in manifest.get("versions", {}).items())
    hardware = ", ".join(f"{value} {name}" for name, value in manifest.get("hardware", {}).items())
    yield (
        f"- nvreg {in_markdown(manifest['nvreg'])}, model {code_in_markdown(manifest['model'])}, conditions "
        f"{code_in_markdown(manifest['context'])}"
    )
    if versions:
        yield f"- versions: {in_markdown(versions)}"
    if hardware:
        yield f"- hardware: {in_markdown(hardware)}"


def _saved_seconds(run: Run) -> float:
    """Return what the stopped settings would have taken more, had they taken as long as the completed."""
    trials = [trial for each in run.sweeps.values() for trial in each]
    completed = [trial.seconds for trial in trials if trial.status == "completed"]
    stopped = [trial.seconds for trial in trials if trial.status == "stopped"]
    return len(stopped) * sum(completed) / max(1, len(completed)) - sum(stopped)


def _commands(run: Run) -> list[str]:
    """Return the commands that make the run, its report and a checkpoint of what was chosen."""
    output = run.experiment.output
    protocol = run.experiment.selection.protocols[0]
    chosen = [f"--protocol {protocol}"]
    if PROTOCOLS[protocol].by_domain:
        chosen.append(f"--domain {shlex.quote(run.out_of_domain[0])}")
    if len(run.methods) > 1:
        chosen.append(f"--method {run.methods[0]}")
    if len(run.experiment.sweep.seeds) > 1:
        chosen.append(f"--seed {run.experiment.sweep.seeds[0]}")
    experiment = shlex.quote(str(Path(output) / RunFiles(Path(output)).experiment.name))
    return [
        f"nvreg sweep --config {experiment} --output {shlex.quote(f'{output}-again')}",
        f"nvreg report {shlex.quote(str(output))}",
        f"nvreg export {shlex.quote(str(output))} OUT {' '.join(chosen)}",
    ]


def _code(lines: Iterable[str]) -> str:
    """Return lines as a block of code, which no path that holds an end of line can leave."""
    return "\n".join(["```sh", *(" ".join(line.splitlines()) for line in lines), "```"])


def texts_alone(run: Run, protocols: Iterable[str]) -> list[str]:
    """Say how settings are chosen on texts without labels, where a protocol does."""
    by_texts = [name for name in protocols if name in PROTOCOLS and PROTOCOLS[name].reads_texts]
    said = {
        "likelihood": "is out-of-domain-validation, as a text is its own label",
        "confidence": "goes by the accuracy on the validation texts that confidences let expect, without "
        "their labels (mean confidence after a temperature that is fitted on in-domain validation)",
        None: f"is n/a, as nothing tells without references how good {run.experiment.task} is",
    }
    return [f"{name} {said[TASKS[run.experiment.task].unlabelled]}." for name in by_texts]
