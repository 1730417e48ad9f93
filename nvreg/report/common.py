"""What several runs have in common, and so can be compared on."""

from collections.abc import Sequence

from nvreg.report.reading import Run


def common_domains(runs: Sequence[Run]) -> list[str]:
    """Return the names of the domains that all runs have, in the order of the first."""
    return [name for name in runs[0].domains if all(name in run.domains for run in runs)]


def scored_alike(runs: Sequence[Run], domain: str) -> bool:
    """Whether the runs scored the same examples of a domain's test set, in the same order."""
    return len({run.manifest["data"][domain]["test"]["fingerprint"] for run in runs}) == 1


def common_metrics(runs: Sequence[Run]) -> list[str]:
    """Return the names of the metrics that all runs measured, with the same signature."""
    signatures = [run.manifest["metrics"] for run in runs]
    return [
        name for name in runs[0].metrics if all(each.get(name) == signatures[0][name] for each in signatures)
    ]
