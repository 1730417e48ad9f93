"""The one trial that a protocol chooses in a run, for one method and seed."""

from pathlib import Path
from typing import NamedTuple

from nvreg.errors import UserError
from nvreg.protocols import PROTOCOLS
from nvreg.report.reading import Arm, Run, read_run
from nvreg.report.selection import chosen
from nvreg.results import Trial


class Choice(NamedTuple):
    """What was chosen, where, and among the trials of which search."""

    run: Run
    arm: Arm
    trial: Trial


def choose_trial(
    directory: Path,
    protocol: str,
    *,
    domain: str | None = None,
    method: str | None = None,
    seed: int | None = None,
) -> Choice:
    """Return what a protocol chooses.

    Args:
        directory: what ``nvreg sweep`` wrote.
        protocol: a selection protocol.
        domain: the out-of-domain set to choose for, which some protocols need.
        method: a method of the run, where it tried several.
        seed: a seed of its search, where there were several.

    Raises:
        UserError: if the directory is not a run's, more has to be said to choose one trial, or the protocol
            does not apply to the domain.
    """
    by_domain = PROTOCOLS[protocol].by_domain
    run = read_run(directory)
    arm = find_arm(run, method, seed)
    if domain not in (None, *run.domains):
        raise UserError(f"expected --domain among {', '.join(run.domains)}, got {domain}")
    if by_domain and domain not in run.out_of_domain:
        raise UserError(
            f"expected --domain with {protocol}, one of {', '.join(run.out_of_domain)}, got {domain}"
        )
    numbers = chosen(run, arm, protocol)[domain or run.in_domain]
    if not numbers:
        raise UserError(
            f"expected a protocol that applies to {domain}, got {protocol}, "
            "which has no validation set to choose on; choose another"
        )
    return Choice(run, arm, run.trials[numbers[0]])


def find_arm(run: Run, method: str | None, seed: int | None, *, first: bool = False) -> Arm:
    """Return the search of a method and a seed; where one is not named, the only one or else the ``first``.

    Raises:
        UserError: if there is no such search, or there are several and not the first is wanted.
    """
    arms = list(run.sweeps)
    for field, option, wanted in (("method", "--method", method), ("seed", "--seed", seed)):
        known = dict.fromkeys(getattr(arm, field) for arm in arms)
        if wanted not in known and (wanted is not None or (len(known) > 1 and not first)):
            raise UserError(
                f"expected {option} among those of the run, {', '.join(map(str, known))}, got {wanted}"
            )
        arms = [arm for arm in arms if wanted in (None, getattr(arm, field))]
    return arms[0]
