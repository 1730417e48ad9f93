"""What the protocols would choose so far, for a sweep to show while it runs."""

from collections.abc import Iterator
from pathlib import Path

from nvreg.methods import METHODS
from nvreg.protocols import PROTOCOLS
from nvreg.report.reading import Arm, Run, read_run
from nvreg.report.selection import chosen
from nvreg.results import PRETRAINED_NUMBER


def leaders(directory: Path, method: str, seed: int) -> Iterator[tuple[str, str]]:
    """Yield each honest protocol of a run's experiment with what it would choose of one search.

    Nothing comes from a test set.

    Raises:
        UserError: as `nvreg.report.reading.read_run`.
    """
    run = read_run(directory)
    for protocol in run.experiment.selection.protocols:
        if not PROTOCOLS[protocol].is_upper_bound:
            numbers = {
                number
                for domain, trials in chosen(run, Arm(method, seed), protocol).items()
                if domain != run.in_domain
                for number in trials
            }
            described = (_describe(run, number) for number in sorted(numbers))
            yield protocol, "; ".join(described) or "n/a"


def _describe(run: Run, number: int) -> str:
    if number == PRETRAINED_NUMBER:
        return "the pretrained model"
    trial = run.trials[number]
    return f"{number} ({METHODS[trial.method].setting_type.from_dict(trial.settings)})"
