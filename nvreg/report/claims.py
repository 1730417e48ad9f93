"""The words of a claim that something helps or harms, with what is left of it after temperature.

Every claim of a verdict is worded here, so that none goes without that.
"""

from collections.abc import Iterable, Sequence

from nvreg.metrics import METRICS
from nvreg.metrics.temperature import SHOWN
from nvreg.report.choices import Choice, listing
from nvreg.report.findings import left_in_words

NAMED = 3
"""The most domains of which a sentence has numbers, and the most methods that it names."""

SOFTENING_UNKNOWN = "Whether a temperature alone would do as much is not known, as none were kept."

Claim = tuple[Choice, Sequence[str]]
"""A choice, and the domains that it helps, or harms."""


def helps(choice: Choice, domains: Sequence[str]) -> str:
    """Say on which domains a choice helps; nothing where it does on none, nor after temperature."""
    after = None if choice.after is None else choice.after.helped(domains)
    return _claim("helps on", choice.helped(domains), after)


def worsens(choice: Choice, domains: Sequence[str]) -> str:
    """Say which domains a choice worsens; nothing where it worsens none, nor after temperature."""
    after = None if choice.after is None else choice.after.harmed(domains)
    return _claim("worsens", choice.harmed(domains), after)


def steps(choice: Choice, domains: Sequence[str], left: Sequence[str] | None) -> str:
    """Say from which score to which domains go, and on which of them that is left after temperature."""
    return f"{listing([choice.step(name) for name in domains[:NAMED]])}{remark(domains, left)}"


def remark(named: Sequence[str], left: Sequence[str] | None) -> str:
    """Say in parentheses what is left of a claim after temperature, in the words of findings.

    Args:
        named: the domains that the claim is of.
        left: those that it is of after temperature, in the same order; None where that is unknown.
    """
    words = "" if left is None else left_in_words(listing(named), listing(left))
    return f" ({words})" if words else ""


def counted(claims: Iterable[Claim]) -> str:
    """Say of how many claims something is left after temperature; nothing where that is unknown."""
    found = [choice.left(domains) for choice, domains in claims]
    if not found or None in found:
        return ""
    left = sum(map(bool, found))
    words = {0: ", not after temperature", len(found): ", also after temperature"}
    return words.get(left, f", {left} of them after temperature")


def together(claims: Sequence[Claim]) -> tuple[list[str], list[str] | None]:
    """Return the domains of any of some claims, and those on which it is left; None where that is unknown."""
    named = list(dict.fromkeys(name for _, domains in claims for name in domains))
    found = [choice.left(domains) for choice, domains in claims]
    left = {name for each in found if each is not None for name in each}
    return named, None if None in found else [name for name in named if name in left]


def softening_unknown(metric: str, is_claimed: bool) -> str:
    """Say that a temperature might do what is claimed, by a metric that they change where none were kept."""
    return SOFTENING_UNKNOWN if METRICS[metric].group in SHOWN and is_claimed else ""


def _claim(verb: str, named: Sequence[str], after: Sequence[str] | None) -> str:
    if named:
        return f"{verb} {listing(named)}{remark(named, after)}"
    return f"{verb} {listing(after)} after temperature" if after else ""
