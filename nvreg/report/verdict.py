"""What a page comes to in a few sentences: what helps where, at what price, and what did as well.

They go by the interval that repeats the choice (docs/reports.md): where it contains zero, nothing is claimed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from pandas import DataFrame

from nvreg.metrics import METRICS
from nvreg.metrics.resampling import FEWEST
from nvreg.metrics.temperature import SHOWN
from nvreg.report.analysis import NV
from nvreg.report.choices import Choice, choices_in, listing, told_of
from nvreg.report.findings import INAPPLICABLE, KEPT, UNKNOWN
from nvreg.results import PRETRAINED

OURS = (NV, "nv-heads")
"""The forms of NV that a verdict is about where a run tried one; all else is what they are held against."""

UNTOLD = (None, UNKNOWN, INAPPLICABLE)
"""The verdicts on a domain that tell nothing, None where it has no row."""

AS_IT_CAME = "as it came"

SOFTENING_UNKNOWN = "Whether a temperature alone would do as much is not known, as none were kept."

NAMED = 3
"""The most domains of which a sentence has numbers, and the most methods that it names."""


def verdict(
    metric: str,
    rows: DataFrame,
    in_domain: str,
    after: DataFrame | None = None,
    rivals: DataFrame | None = None,
    cannot_change: Collection[str] = (),
) -> list[str]:
    """Return the sentences of a page that compares choices with the pretrained model.

    Args:
        metric: the one that settings were chosen by.
        rows: the table of scores, of one run or several (see `nvreg.report.tables`).
        in_domain: the name of the domain that the model was tuned on.
        after: the same after temperature; None where there is none.
        rivals: the table of `nvreg.report.tables.rivals_table`; None where there is none.
        cannot_change: the methods no setting of which can change the metric.
    """
    if METRICS[metric].higher_is_better is None:
        return [_directionless(metric)]
    choices = list(choices_in(metric, rows))
    if not choices:
        is_begun = not rows["protocol"].eq(PRETRAINED).all()
        return [
            "Nothing but an upper bound is reported, which is no selection."
            if is_begun
            else "No setting is measured yet."
        ]
    out = [str(name) for name in rows["domain"].unique() if name != in_domain]
    if not out:
        return [f"Nothing can be said out of domain: no set but {in_domain} is shown."]
    ours = [each for each in choices if each.method in OURS] or choices
    others = [
        each for each in choices if each.method not in {*OURS, *cannot_change} and len(ours) < len(choices)
    ]
    unchanging = list(dict.fromkeys(each.method for each in choices if each.method in cannot_change))
    nothing_else = _nothing_else(metric, unchanging) if ours[0].method in OURS else ""
    tempered = (
        [] if after is None else [each for each in choices_in(metric, after) if each.method != PRETRAINED]
    )
    if all(set(each.said.values()) <= {UNKNOWN, INAPPLICABLE} for each in ours):
        return [f"Nothing can be said: no test set has the {FEWEST} examples that an interval takes."]
    told = told_of(ours)
    best = max(told, key=lambda each: _rank(each, out, in_domain))
    if best.helped(out):
        sentences = [
            _helps(metric, best, told, ours, out, _after(best, tempered)),
            _price(metric, best, in_domain),
            SOFTENING_UNKNOWN if after is None and METRICS[metric].group in SHOWN else "",
            " ".join(_beyond(best, out, tempered, others, rivals, metric, nothing_else)),
        ]
    else:
        is_helped = any(each.helped(out) for each in ours)
        sentences = [
            _helps_elsewhere(metric, told, ours, out) if is_helped else _nothing_helps(metric, ours, out),
            _prices(metric, ours, in_domain),
            " ".join(_what_else(ours, out, tempered, others, nothing_else)),
        ]
    return [each for each in sentences if each]


def compared(
    metric: str,
    rows: DataFrame,
    in_domain: str,
    first: str,
    second: str,
    after: DataFrame | None = None,
) -> list[str]:
    """Return the sentences of a page that compares one run with another: its models, and what was chosen.

    Args:
        metric: the one that is told of.
        rows: the table of `nvreg.report.comparison.compare`.
        in_domain: the name of the domain that the models were tuned on.
        first: the name of the run that the other is compared with.
        second: the name of that.
        after: the same table after temperature; None where there is none.
    """
    if METRICS[metric].higher_is_better is None:
        return [_directionless(metric)]
    as_they_came = rows.assign(protocol=rows["protocol"].replace(PRETRAINED, AS_IT_CAME))
    tables = {f"By {metric}": as_they_came, **({} if after is None else {"After temperature": after})}
    sentences = []
    for when, table in tables.items():
        found = list(choices_in(metric, table))
        models = [each for each in found if each.method == PRETRAINED]
        chosen = [each for each in found if each.method != PRETRAINED]
        for of in filter(None, (models, chosen)):
            alike: dict[str, list[Choice]] = {}
            for each in told_of(of):
                mates = [other for other in of if other.method == each.method]
                agreeing = sum(other.said == each.said for other in mates)
                share = f" (so say {agreeing} of {len(mates)} selections)" if len(mates) > 1 else ""
                alike.setdefault(f"{_against_other(each, first, in_domain)}{share}", []).append(each)
            sentences += [f"{when}, {second}{_as_what(each)} {told}." for told, each in alike.items()]
    return sentences


def _as_what(alike: Sequence[Choice]) -> str:
    """Say whether choices are the model as it came, the model at a temperature, or what was chosen."""
    method, protocol = alike[0].method, alike[0].protocol
    if method == PRETRAINED:
        return f" {AS_IT_CAME}" if protocol == AS_IT_CAME else ""
    return f" with what {protocol} chose of {listing([each.method for each in alike])}"


def _against_other(choice: Choice, other: str, in_domain: str) -> str:
    """Say where a choice of one run is better or worse than that of another."""
    domains = list(choice.records)
    parts: list[str] = []
    for word, names in (("better", choice.helped(domains)), ("worse", choice.harmed(domains))):
        if names:
            steps = [choice.step(name) + " (in domain)" * (name == in_domain) for name in names[:NAMED]]
            more = f", and {word} on {listing(names[NAMED:])} too" if len(names) > NAMED else ""
            parts.append(f"{word}{'' if parts else f' than {other}'}, {listing(steps)}{more}")
    if parts:
        return f"is {'; '.join(parts)}"
    return f"shows no difference from {other}"


def _directionless(metric: str) -> str:
    return f"Nothing can be said: neither direction of {metric} is better."


def _rank(choice: Choice, out: Sequence[str], in_domain: str) -> tuple[bool, int, bool]:
    helped, harmed = choice.helped(out), choice.harmed(out)
    return bool(helped), len(helped) - len(harmed), not choice.harmed([in_domain])


def _after(choice: Choice, tempered: Sequence[Choice]) -> Choice | None:
    """Return what is left of a choice after temperature; None where there is no such table."""
    wanted = (choice.name, choice.protocol)
    return next((each for each in tempered if (each.name, each.protocol) == wanted), None)


def _helps(
    metric: str,
    best: Choice,
    told: Sequence[Choice],
    ours: Sequence[Choice],
    out: Sequence[str],
    after: Choice | None,
) -> str:
    """Say where a choice helps, by how much, and how many other selections of the method help somewhere."""
    helped, harmed = best.helped(out), best.harmed(out)
    more = f"; {listing(helped[NAMED:])} gain too" if len(helped) > NAMED else ""
    mates = [each for each in ours if each.name == best.name]
    helping = sum(bool(each.helped(out)) for each in mates)
    share = f" ({helping} of {len(mates)} selections help somewhere)" if len(mates) > 1 else ""
    left = None if after is None else len(after.helped(helped))
    kept = {None: "", len(helped): "", 0: ", though on none of them after temperature"}.get(
        left, f", after temperature on {left} of them"
    )
    sentence = (
        f"{best.name} helps on {_count(helped, out)}{kept}: chosen by {best.protocol}{share}, {metric} goes "
        f"{listing([best.step(name) for name in helped[:NAMED]])}{more}"
    )
    if harmed:
        sentence += f"; it worsens {listing(harmed)}"
    for each in told:
        if each.name != best.name:
            sentence += f"; {each.name} helps on {listing(each.helped(out)) or 'none'}"
    return f"{sentence}."


def _helps_elsewhere(metric: str, told: Sequence[Choice], ours: Sequence[Choice], out: Sequence[str]) -> str:
    """Say that the selection that is told of helps nowhere, and which others do."""
    names = listing(list(dict.fromkeys(each.name for each in told)))
    found = {f"{each.name} chosen by {each.protocol}": each.helped(out) for each in ours}
    helped = [f"{name} helps on {listing(domains)}" for name, domains in found.items() if domains]
    more = f", and {len(helped) - NAMED} more" if len(helped) > NAMED else ""
    harmed = {each.name: each.harmed(out) for each in told}
    worse = listing([f"{name} worsens {listing(domains)}" for name, domains in harmed.items() if domains])
    return (
        f"By {metric}, what {told[0].protocol} chose of {names} helps on no set out of domain"
        f"{f'; {worse}' if worse else ''}. Under other selections {listing(helped[:NAMED])}{more}."
    )


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
    if said == best.worse:
        return f"In domain it has a price: {metric} goes {best.step(in_domain)}."
    if said == best.better:
        return f"In domain it helps too: {metric} goes {best.step(in_domain)}."
    if said in UNTOLD:
        return f"In domain ({in_domain}) nothing can be said."
    return f"In domain ({in_domain}) no difference shows ({best.change(in_domain)})."


def _beyond(
    best: Choice,
    out: Sequence[str],
    tempered: Sequence[Choice],
    others: Sequence[Choice],
    rivals: DataFrame | None,
    metric: str,
    nothing_else: str,
) -> Iterator[str]:
    """Say what is left of a gain after temperature, and which other methods gain more or did as well."""
    helped = best.helped(out)
    if after := _after(best, tempered):
        left = after.helped(helped)
        lost = [name for name in helped if name not in left]
        if not left:
            harmed = after.harmed(out)
            harm = f", and it worsens {listing(harmed)}" if harmed else ""
            yield f"After temperature, when both models may be softened, nothing of this is left{harm}."
        else:
            rest = f", not on {listing(lost)}" if lost else ""
            yield f"After temperature it still helps on {listing(left)}{rest}."
    if others:
        yield from _as_well(best, out, others, rivals, metric)
    elif nothing_else:
        yield nothing_else


def _as_well(
    best: Choice,
    out: Sequence[str],
    others: Sequence[Choice],
    rivals: DataFrame | None,
    metric: str,
) -> Iterator[str]:
    """Say which other methods gain more, and which did as well.

    That takes a paired comparison, which `rivals` has of NV alone. Elsewhere a method gains more where the
    intervals are apart, and of the others it is said which help there too.
    """
    helped = best.helped(out)
    tried = list(dict.fromkeys(each.name for each in others))
    is_paired = rivals is not None and best.method == NV
    against = _against(best, rivals, metric)
    for rival in against:
        if rival.method == PRETRAINED and (ahead := rival.harmed(helped)):
            yield f"{rival.run} as it came is better still on {listing(ahead)}."
    beaten = {rival.name: rival.helped(helped) for rival in against}
    beating = {rival.name: rival.harmed(helped) for rival in against}
    as_well: dict[str, list[str]] = {}
    more: list[tuple[Choice, list[str]]] = []
    for each in others:
        if each.protocol == best.protocol:
            is_told = each.name in beating
            ahead = beating[each.name] if is_told else [name for name in helped if each.exceeds(best, name)]
            if ahead := [name for name in ahead if name in each.helped(helped)]:
                more.append((each, ahead))
            unbeaten = set(helped) - {*beaten.get(each.name, ()), *ahead}
            if where := [name for name in each.helped(out) if name in unbeaten]:
                as_well[each.name] = where
    yield from _gain_more(metric, more)
    if not as_well and not more:
        several = "did as well" if is_paired else "helps there"
        alone = "did not do as well" if is_paired else "does not help there"
        yield (
            f"None of the {len(tried)} other methods {several}." if len(tried) > 1 else f"{tried[0]} {alone}."
        )
    if not as_well:
        return
    everywhere = [name for name, where in as_well.items() if len(where) == len(helped)]
    if everywhere:
        rest = f" and {len(everywhere) - NAMED} more" if len(everywhere) > NAMED else ""
        did = "did as well" if is_paired else f"help{'s' * (len(everywhere) == 1)} there too"
        yield f"{', '.join(everywhere[:NAMED]) if rest else listing(everywhere)}{rest} {did}."
    else:
        parts = [f"{name} on {listing(where)}" for name, where in list(as_well.items())[:NAMED]]
        yield f"{'As well did' if is_paired else 'What helps too is'} {listing(parts)}."


def _gain_more(metric: str, more: Sequence[tuple[Choice, Sequence[str]]]) -> Iterator[str]:
    """Say which methods gain more, where, and by how much the first does."""
    if more:
        (first, where), *rest = sorted(more, key=lambda each: -len(each[1]))
        names = [f"{each.name} on {listing(ahead)}" for each, ahead in rest[:NAMED]]
        others = f"; so do{'es' * (len(names) == 1)} {listing(names)}" if names else ""
        steps = listing([first.step(name) for name in where[:NAMED]])
        yield f"{first.name} gains more: {metric} goes {steps}{others}."


def _against(best: Choice, rivals: DataFrame | None, metric: str) -> list[Choice]:
    """Return what the choice has over each rival under the same selection, where that was measured."""
    if rivals is None or best.method != NV:
        return []
    return [each for each in choices_in(metric, rivals) if each.protocol == best.protocol]


def _nothing_helps(metric: str, ours: Sequence[Choice], out: Sequence[str]) -> str:
    names = listing(list(dict.fromkeys(each.name for each in ours)))
    if all(KEPT in each.said.values() or set(each.said.values()) == {INAPPLICABLE} for each in ours):
        return f"Nothing helps: every selection of {names} keeps the pretrained model."
    sets = (
        f"any of the {len(out)} sets out of domain ({listing(out)})"
        if len(out) > 1
        else f"{out[0]}, out of domain"
    )
    worse = _by_domain({f"{each.name} chosen by {each.protocol}": each.harmed(out) for each in ours})
    harm = f"; {worse}" if worse else ""
    unknown = [name for name in out if any(each.said.get(name) == UNKNOWN for each in ours)]
    has = "has" if len(unknown) == 1 else "have"
    untold = f"; {listing(unknown)} {has} too few examples to tell" if unknown else ""
    return f"Nothing helps: by {metric}, no selection of {names} improves {sets}{harm}{untold}."


def _by_domain(harmed: Mapping[str, Sequence[str]]) -> str:
    """Say which choices worsen what, a few by name."""
    found = {name: domains for name, domains in harmed.items() if domains}
    if len(found) > NAMED:
        domains = dict.fromkeys(domain for each in found.values() for domain in each)
        return f"{len(found)} of {len(harmed)} worsen some ({listing(list(domains))})"
    return listing([f"{name} worsens {listing(domains)}" for name, domains in found.items()])


def _prices(metric: str, ours: Sequence[Choice], in_domain: str) -> str:
    costly = [each for each in ours if each.said.get(in_domain) == each.worse]
    gaining = [each for each in ours if each.said.get(in_domain) == each.better]
    for found, words in ((costly, "has a price"), (gaining, "helps")):
        if found:
            first, *more = found
            do = "does" if len(more) == 1 else "do"
            rest = f"; {len(more)} more of {len(ours)} selections {do} so too" if more else ""
            return (
                f"In domain, what {first.protocol} chose of {first.name} {words}: {metric} goes "
                f"{first.step(in_domain)}{rest}."
            )
    if all(each.said.get(in_domain) in UNTOLD for each in ours):
        return f"In domain ({in_domain}) nothing can be said."
    return f"In domain ({in_domain}) no difference shows either."


def _what_else(
    ours: Sequence[Choice],
    out: Sequence[str],
    tempered: Sequence[Choice],
    others: Sequence[Choice],
    nothing_else: str,
) -> Iterator[str]:
    """Say what helps where the methods that a run is about do not."""
    names = {each.name for each in ours}
    for each in tempered:
        if each.name in names and (helped := each.helped(out)):
            yield f"After temperature, {each.name} chosen by {each.protocol} helps on {listing(helped)}."
            break
    tried = list(dict.fromkeys(each.name for each in others))
    helpful: dict[str, list[str]] = {}
    for each in others:
        known = helpful.setdefault(each.name, [])
        known += [name for name in each.helped(out) if name not in known]
    helpful = {name: where for name, where in helpful.items() if where}
    if helpful:
        parts = [f"{name} on {listing(where)}" for name, where in list(helpful.items())[:NAMED]]
        more = f", and {len(helpful) - NAMED} more" if len(helpful) > NAMED else ""
        some = f"Of the {len(tried)} other methods some help, under some selection: {listing(parts)}{more}."
        alone = f"Under some selection {tried[0]} helps on {listing(helpful.get(tried[0], ()))}."
        yield some if len(tried) > 1 else alone
    elif tried:
        several = f"None of the {len(tried)} other methods helps either."
        yield several if len(tried) > 1 else f"{tried[0]} does not help either."
    elif nothing_else:
        yield nothing_else


def _nothing_else(metric: str, unchanging: Sequence[str]) -> str:
    """Say that nothing simpler can be compared, though methods that cannot change the metric were tried."""
    but = f" but {listing(unchanging)}, which cannot change {metric}" if unchanging else ""
    return f"No simpler method was tried beside it{but}."
