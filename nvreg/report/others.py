"""What a verdict says of other methods that were tried: which gain more, did as well, or help elsewhere."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pandas import DataFrame

from nvreg.report.analysis import NV
from nvreg.report.choices import Choice, choices_in, listing
from nvreg.report.claims import NAMED, remark, steps, together
from nvreg.results import PRETRAINED


class Standing(NamedTuple):
    """Where another method gains more than a choice does, and where it does as well.

    Attributes:
        method: what was chosen of the other.
        ahead: the domains on which it gains more.
        ahead_left: those on which it does so after temperature too; None where that is unknown.
        level: the domains on which it does as well.
        level_left: those on which it does so, or gains more, after temperature too.
    """

    method: Choice
    ahead: list[str]
    ahead_left: list[str] | None
    level: list[str]
    level_left: list[str] | None


def beyond(
    metric: str,
    best: Choice,
    out: Sequence[str],
    others: Sequence[Choice],
    rivals: DataFrame | None,
    rivals_after: DataFrame | None,
) -> Iterator[str]:
    """Say which methods gain more than a choice that helps, and which did as well.

    That takes a paired comparison, which `rivals` has of NV alone. Elsewhere a method gains more where the
    intervals are apart, and of the others it is said which help there too.

    Args:
        metric: the one that settings were chosen by.
        best: the choice.
        out: the domains that it is told of.
        others: what every selection chose of the other methods.
        rivals: the table of `nvreg.report.tables.rivals_table`; None where there is none.
        rivals_after: the same after temperature; None where there is none.
    """
    helped = best.helped(out)
    is_paired = rivals is not None and best.method == NV
    against = _against(metric, best, rivals, rivals_after)
    for rival in against.values():
        if rival.method == PRETRAINED and (ahead := rival.harmed(helped)):
            left = remark(ahead, rival.left(ahead))
            yield f"{rival.run} as it came is better still on {listing(ahead)}{left}."
    standings = [
        _standing(best, each, against.get(each.name), helped)
        for each in others
        if each.protocol == best.protocol
    ]
    more = [each for each in standings if each.ahead]
    as_well = [each for each in standings if each.level]
    if more:
        yield _gain_more(metric, more)
    if as_well:
        yield _do_as_well(as_well, helped, is_paired)
    elif not more:
        tried = list(dict.fromkeys(each.name for each in others))
        several = "did as well" if is_paired else "helps there"
        alone = "did not do as well" if is_paired else "does not help there"
        yield (
            f"None of the {len(tried)} other methods {several}." if len(tried) > 1 else f"{tried[0]} {alone}."
        )


def elsewhere(out: Sequence[str], others: Sequence[Choice]) -> str:
    """Say which methods help, under some selection, where those that a run is about do not."""
    tried = list(dict.fromkeys(each.name for each in others))
    claims = {
        name: [(each, each.helped(out)) for each in others if each.name == name and each.helped(out)]
        for name in tried
    }
    helpful = {name: together(claim) for name, claim in claims.items() if claim}
    parts = [f"on {listing(where)}{remark(where, left)}" for where, left in helpful.values()]
    if not helpful:
        several = f"None of the {len(tried)} other methods helps either."
        return several if len(tried) > 1 else f"{tried[0]} does not help either."
    if len(tried) == 1:
        return f"Under some selection {tried[0]} helps {parts[0]}."
    named = [f"{name} {part}" for name, part in zip(helpful, parts, strict=True)]
    more = f", and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return (
        f"Of the {len(tried)} other methods some help, under some selection: {listing(named[:NAMED])}{more}."
    )


def _against(
    metric: str, best: Choice, rivals: DataFrame | None, after: DataFrame | None
) -> dict[str, Choice]:
    """Return what a choice has over each rival under the same selection, where that was measured."""
    if rivals is None or best.method != NV:
        return {}
    return {each.name: each for each in choices_in(metric, rivals, after) if each.protocol == best.protocol}


def _standing(best: Choice, other: Choice, rival: Choice | None, helped: Sequence[str]) -> Standing:
    ahead, level = _ahead_and_level(best, other, rival, helped)
    if best.after is None or other.after is None:
        return Standing(other, ahead, None, level, None)
    then = _ahead_and_level(best.after, other.after, rival and rival.after, helped)
    return Standing(
        other,
        ahead,
        [name for name in ahead if name in then[0]],
        level,
        [name for name in level if name in (*then[0], *then[1])],
    )


def _ahead_and_level(
    best: Choice, other: Choice, rival: Choice | None, domains: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return where another method gains more than a choice, and where it gains and is not known to gain less.

    Args:
        best: the choice.
        other: what the same selection chose of the other method.
        rival: what the choice has over it in a paired comparison; None where there is none.
        domains: those that are asked about.
    """
    gains = other.helped(domains)
    more = rival.harmed(gains) if rival else [name for name in gains if other.exceeds(best, name)]
    less = rival.helped(gains) if rival else ()
    return more, [name for name in gains if name not in (*more, *less)]


def _gain_more(metric: str, standings: Sequence[Standing]) -> str:
    """Say which methods gain more, where, and by how much the first does."""
    first, *rest = sorted(standings, key=lambda each: -len(each.ahead))
    names = [
        f"{each.method.name} on {listing(each.ahead)}{remark(each.ahead, each.ahead_left)}"
        for each in rest[:NAMED]
    ]
    others = f"; so do{'es' * (len(names) == 1)} {listing(names)}" if names else ""
    by = steps(first.method, first.ahead, first.ahead_left)
    return f"{first.method.name} gains more: {metric} goes {by}{others}."


def _do_as_well(standings: Sequence[Standing], helped: Sequence[str], is_paired: bool) -> str:
    """Say which methods do as well: those that do so everywhere, or else where each does."""
    everywhere = [each for each in standings if len(each.level) == len(helped)]
    if not everywhere:
        parts = [
            f"{each.method.name} on {listing(each.level)}{remark(each.level, each.level_left)}"
            for each in standings[:NAMED]
        ]
        return f"{'As well did' if is_paired else 'What helps too is'} {listing(parts)}."
    names = [each.method.name for each in everywhere]
    remarks = [remark(each.level, each.level_left) for each in everywhere]
    is_shared = len(set(remarks)) == 1
    if not is_shared:
        names = [f"{name}{left}" for name, left in zip(names, remarks, strict=True)]
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    named = f"{', '.join(names[:NAMED])}{rest}" if rest else listing(names)
    did = "did as well" if is_paired else f"help{'s' * (len(names) == 1)} there too"
    return f"{named} {did}{remarks[0] if is_shared else ''}."
