"""What a page comes to in a few sentences: what helps where, at what price, and what did as well.

They go by the interval that repeats the choice (docs/reports.md): where it contains zero, nothing is claimed.
By a metric that a temperature changes, each claim says what is left of it then (`nvreg.report.claims`).
"""

from collections.abc import Collection, Iterator, Sequence

from pandas import DataFrame

from nvreg.metrics import METRICS
from nvreg.metrics.resampling import FEWEST
from nvreg.report.analysis import NV
from nvreg.report.choices import Choice, choices_in, listing, told_of
from nvreg.report.claims import NAMED, counted, helps, remark, softening_unknown, steps, together, worsens
from nvreg.report.findings import INAPPLICABLE, KEPT, UNKNOWN
from nvreg.report.others import beyond, elsewhere
from nvreg.results import PRETRAINED

OURS = (NV, "nv-heads")
"""The forms of NV that a verdict is about where a run tried one; all else is what they are held against."""

UNTOLD = (None, UNKNOWN, INAPPLICABLE)
"""The verdicts on a domain that tell nothing, None where it has no row."""


def verdict(
    metric: str,
    rows: DataFrame,
    in_domain: str,
    after: DataFrame | None = None,
    rivals: DataFrame | None = None,
    rivals_after: DataFrame | None = None,
    cannot_change: Collection[str] = (),
) -> list[str]:
    """Return the sentences of a page that compares choices with the pretrained model.

    Args:
        metric: the one that settings were chosen by.
        rows: the table of scores, of one run or several (see `nvreg.report.tables`).
        in_domain: the name of the domain that the model was tuned on.
        after: the same after temperature; None where there is none.
        rivals: the table of `nvreg.report.tables.rivals_table`; None where there is none.
        rivals_after: the same after temperature; None where there is none.
        cannot_change: the methods no setting of which can change the metric.
    """
    if METRICS[metric].higher_is_better is None:
        return [directionless(metric)]
    choices = list(choices_in(metric, rows, after))
    if not choices:
        is_begun = not rows["protocol"].eq(PRETRAINED).all()
        return [
            "Nothing but an upper bound is reported, which is no selection."
            if is_begun
            else "No setting is measured yet."
        ]
    shown = [str(name) for name in rows["domain"].unique() if name != in_domain]
    if not shown:
        return [f"Nothing can be said out of domain: no set but {in_domain} is shown."]
    ours = [each for each in choices if each.method in OURS] or choices
    out = [name for name in shown if any(each.said.get(name) not in (None, INAPPLICABLE) for each in ours)]
    scored = set(rows["domain"][rows["metric"].eq(metric) & rows["score"].notna()])
    unsaid = list(_unsaid([name for name in shown if name not in out], scored))
    if all(set(each.said.values()) <= set(UNTOLD) for each in ours):
        few = f"Nothing can be said: no test set has the {FEWEST} examples that an interval takes."
        return [few, *unsaid] if any(UNKNOWN in each.said.values() for each in ours) else unsaid
    others = [
        each for each in choices if each.method not in {*OURS, *cannot_change} and len(ours) < len(choices)
    ]
    unchanging = list(dict.fromkeys(each.method for each in choices if each.method in cannot_change))
    nothing_else = [_nothing_else(metric, unchanging)] if ours[0].method in OURS else []
    told = told_of(ours)
    best = max(told, key=lambda each: _rank(each, out, in_domain))
    if not out:
        sentences = [*unsaid, _prices(metric, ours, in_domain, is_alone=True)]
    elif best.helped(out):
        beside = [each for each in others if each.protocol == best.protocol]
        sentences = [
            _helps(metric, best, told, ours, out),
            *unsaid,
            _price(metric, best, in_domain),
            *(beyond(metric, best, out, others, rivals, rivals_after) if others else nothing_else),
            _after_alone(beside, out),
        ]
    else:
        is_helped = any(each.helped(out) for each in ours)
        sentences = [
            _helps_elsewhere(metric, told, ours, out) if is_helped else _nothing_helps(metric, ours, out),
            *unsaid,
            _prices(metric, ours, in_domain),
            *([elsewhere(out, others)] if others else nothing_else),
            _after_alone([*ours, *others], out),
        ]
    is_claimed = any(each.differs for each in ours) or any(each.helped(out) for each in others)
    unknown = softening_unknown(metric, is_claimed) if after is None else ""
    return [each for each in (*sentences, unknown) if each]


def directionless(metric: str) -> str:
    """Say that nothing is said by a metric neither direction of which is better."""
    return f"Nothing can be said: neither direction of {metric} is better."


def _rank(choice: Choice, out: Sequence[str], in_domain: str) -> tuple[bool, int, bool]:
    helped, harmed = choice.helped(out), choice.harmed(out)
    return bool(helped), len(helped) - len(harmed), not choice.harmed([in_domain])


def _unsaid(domains: Sequence[str], scored: Collection[str]) -> Iterator[str]:
    """Say of which sets nothing is known, as they have no labels or no selection applies to them."""
    unlabelled = [name for name in domains if name not in scored]
    if unlabelled:
        have = "has" if len(unlabelled) == 1 else "have"
        yield f"Nothing can be said of {listing(unlabelled)}, which {have} no labels to score by."
    if unchosen := [name for name in domains if name in scored]:
        yield f"Nothing can be said of {listing(unchosen)}, to which no selection applies."


def _helps(
    metric: str, best: Choice, told: Sequence[Choice], ours: Sequence[Choice], out: Sequence[str]
) -> str:
    """Say where a choice helps, by how much, and how many other selections of the method help somewhere."""
    helped = best.helped(out)
    more = f"; {listing(helped[NAMED:])} gain too" if len(helped) > NAMED else ""
    mates = [each for each in ours if each.name == best.name]
    helping = [(each, each.helped(out)) for each in mates if each.helped(out)]
    left = counted(helping) if len(helping) > 1 else ""
    share = f" ({len(helping)} of {len(mates)} selections help somewhere{left})" if len(mates) > 1 else ""
    sentence = (
        f"{best.name} helps on {_count(helped, out)}{remark(helped, best.left(helped))}: chosen by "
        f"{best.protocol}{share}, {metric} goes {listing([best.step(name) for name in helped[:NAMED]])}{more}"
    )
    if harm := worsens(best, out):
        sentence += f"; it {harm}"
    for each in told:
        if each.name != best.name:
            sentence += f"; {each.name} {helps(each, out) or 'helps on none'}"
    return f"{sentence}."


def _helps_elsewhere(metric: str, told: Sequence[Choice], ours: Sequence[Choice], out: Sequence[str]) -> str:
    """Say that the selection that is told of helps nowhere, and which others do."""
    names = listing(list(dict.fromkeys(each.name for each in told)))
    found = [_chosen(each, helps(each, out)) for each in ours if each.helped(out)]
    more = f", and {len(found) - NAMED} more" if len(found) > NAMED else ""
    worse = listing([f"{each.name} {harm}" for each in told if (harm := worsens(each, out))])
    return (
        f"By {metric}, what {told[0].protocol} chose of {names} helps on no set out of domain"
        f"{f'; {worse}' if worse else ''}. Under other selections {listing(found[:NAMED])}{more}."
    )


def _nothing_helps(metric: str, ours: Sequence[Choice], out: Sequence[str]) -> str:
    names = listing(list(dict.fromkeys(each.name for each in ours)))
    if all(KEPT in each.said.values() or set(each.said.values()) == {INAPPLICABLE} for each in ours):
        return f"Nothing helps: every selection of {names} keeps the pretrained model."
    sets = (
        f"any of the {len(out)} sets out of domain ({listing(out)})"
        if len(out) > 1
        else f"{out[0]}, out of domain"
    )
    worse = _harm(ours, out)
    harm = f"; {worse}" if worse else ""
    unknown = [name for name in out if any(each.said.get(name) == UNKNOWN for each in ours)]
    has = "has" if len(unknown) == 1 else "have"
    untold = f"; {listing(unknown)} {has} too few examples to tell" if unknown else ""
    return f"Nothing helps: by {metric}, no selection of {names} improves {sets}{harm}{untold}."


def _harm(ours: Sequence[Choice], out: Sequence[str]) -> str:
    """Say which choices worsen what, a few by name."""
    found = [each for each in ours if each.harmed(out)]
    if len(found) > NAMED:
        domains, left = together([(each, each.harmed(out)) for each in found])
        return f"{len(found)} of {len(ours)} worsen some, {listing(domains)}{remark(domains, left)}"
    return listing([_chosen(each, worsens(each, out)) for each in found])


def _chosen(choice: Choice, what: str) -> str:
    return f"{choice.name} chosen by {choice.protocol} {what}"


def _count(named: Sequence[str], out: Sequence[str]) -> str:
    if len(out) == 1:
        return "the set out of domain"
    return (
        f"all {len(out)} sets out of domain"
        if len(named) == len(out)
        else f"{len(named)} of {len(out)} sets out of domain"
    )


def _price(metric: str, best: Choice, in_domain: str) -> str:
    said = best.said.get(in_domain)
    if said in UNTOLD:
        return f"In domain ({in_domain}) nothing can be said."
    words = {best.worse: "has a price", best.better: "helps"}
    then = None if best.after is None else best.after.said.get(in_domain)
    late = f"; after temperature it {words[then]}" if then != said and then in words else ""
    if said in words:
        too = " too" if said == best.better else ""
        step = steps(best, [in_domain], best.left([in_domain]))
        return f"In domain it {words[said]}{too}: {metric} goes {step}{late}."
    return f"In domain ({in_domain}) no difference shows ({best.change(in_domain)}){late}."


def _prices(metric: str, ours: Sequence[Choice], in_domain: str, is_alone: bool = False) -> str:
    """Say what choices do in domain, where none is told of by itself; `is_alone` if that is all to say."""
    costly = [each for each in ours if each.said.get(in_domain) == each.worse]
    gaining = [each for each in ours if each.said.get(in_domain) == each.better]
    for found, words in ((costly, "has a price"), (gaining, "helps")):
        if found:
            first, *more = found
            do = "does" if len(more) == 1 else "do"
            left = counted([(each, [in_domain]) for each in more])
            rest = f"; {len(more)} more of {len(ours)} selections {do} so too{left}" if more else ""
            return (
                f"In domain, what {first.protocol} chose of {first.name} {words}: {metric} goes "
                f"{steps(first, [in_domain], first.left([in_domain]))}{rest}."
            )
    if all(each.said.get(in_domain) in UNTOLD for each in ours):
        return f"In domain ({in_domain}) nothing can be said."
    return f"In domain ({in_domain}) no difference shows{'' if is_alone else ' either'}."


def _after_alone(choices: Sequence[Choice], out: Sequence[str]) -> str:
    """Say which choices help after temperature alone, the first of each method."""
    found: dict[str, str] = {}
    for each in choices:
        gains = [] if each.after is None or each.helped(out) else each.after.helped(out)
        if gains:
            found.setdefault(each.name, _chosen(each, f"helps on {listing(gains)}"))
    more = f", and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"After temperature, {listing(list(found.values())[:NAMED])}{more}." if found else ""


def _nothing_else(metric: str, unchanging: Sequence[str]) -> str:
    """Say that nothing simpler can be compared, though methods that cannot change the metric were tried."""
    but = f" but {listing(unchanging)}, which cannot change {metric}" if unchanging else ""
    return f"No simpler method was tried beside it{but}."
