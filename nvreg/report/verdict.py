"""What a page comes to in a few sentences: what helps where, at what price, and what did as well.

They go by the interval that repeats the choice (docs/reports.md): where it contains zero, nothing is claimed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pandas import DataFrame

from nvreg.metrics import METRICS
from nvreg.metrics.resampling import FEWEST
from nvreg.metrics.temperature import SHOWN
from nvreg.protocols import upper_bounds
from nvreg.report.analysis import NV
from nvreg.report.cells import interval_text, number_text, with_decimals
from nvreg.report.findings import INAPPLICABLE, KEPT, OUTCOMES, UNKNOWN, verdicts
from nvreg.results import PRETRAINED

OURS = (NV, "nv-heads")
"""The forms of NV that a verdict is about where a run tried one; all else is what they are held against."""

UNTOLD = (None, UNKNOWN, INAPPLICABLE)
"""The verdicts on a domain that tell nothing, None where it has no row."""

TOLD = (
    "leave-one-domain-out",
    "out-of-domain-validation",
    "unlabelled",
    "in-domain-tolerance",
    "in-domain",
)
"""Which selection a verdict tells of: the first that applies, and never one that test scores have picked."""

SOFTENING_UNKNOWN = "Whether a temperature alone would do as much is not known, as none were kept."

NAMED = 3
"""The most domains of which a sentence has numbers, and the most methods that it names."""


@dataclass(frozen=True)
class _Choice:
    """What a selection chose of a method, and what it does on each domain.

    Attributes:
        method: its name.
        run: the name of the run, empty on the page of one.
        protocol: what chose.
        records: a row of the table for each domain, with decimals.
        said: the verdict on each domain.
        better: the verdict of what is better.
        worse: the verdict of what is worse.
    """

    method: str
    run: str
    protocol: str
    records: Mapping[str, Mapping[Any, Any]]
    said: Mapping[str, str]
    better: str
    worse: str

    @property
    def name(self) -> str:
        """The name of the method, with its run's."""
        return f"{self.method} on {self.run}" if self.run else self.method

    def helped(self, domains: Sequence[str]) -> list[str]:
        """Return which domains are better."""
        return [name for name in domains if self.said.get(name) == self.better]

    def harmed(self, domains: Sequence[str]) -> list[str]:
        """Return which domains are worse."""
        return [name for name in domains if self.said.get(name) == self.worse]

    def change(self, domain: str) -> str:
        """Return a domain's difference with its interval."""
        record = self.records[domain]
        return f"{number_text(record['difference'], record['decimals'], '+')} {interval_text(record)}".strip()

    def step(self, domain: str) -> str:
        """Say from which score to which a domain goes."""
        record = self.records[domain]
        before, after = (
            number_text(score, record["decimals"])
            for score in (record["score"] - record["difference"], record["score"])
        )
        return f"from {before} to {after} ({self.change(domain)}) on {domain}"


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
    choices = list(_choices(metric, rows))
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
    tempered = (
        [] if after is None else [each for each in _choices(metric, after) if each.method != PRETRAINED]
    )
    if all(set(each.said.values()) <= {UNKNOWN, INAPPLICABLE} for each in ours):
        return [f"Nothing can be said: no test set has the {FEWEST} examples that an interval takes."]
    told = _told_of(ours)
    best = max(told, key=lambda each: _rank(each, out, in_domain))
    if best.helped(out):
        sentences = [
            _helps(metric, best, told, ours, out),
            _price(metric, best, in_domain),
            SOFTENING_UNKNOWN if after is None and METRICS[metric].group in SHOWN else "",
            " ".join(_beyond(best, out, tempered, others, rivals, metric)),
        ]
    else:
        is_helped = any(each.helped(out) for each in ours)
        sentences = [
            _helps_elsewhere(metric, told, ours, out) if is_helped else _nothing_helps(metric, ours, out),
            _prices(metric, ours, in_domain),
            " ".join(_what_else(ours, out, tempered, others)),
        ]
    return [each for each in sentences if each]


def compared(metric: str, rows: DataFrame, after: DataFrame | None = None) -> list[str]:
    """Return the sentences of a page that compares one run with another: its models, and what was chosen.

    Args:
        metric: the one that is told of.
        rows: the table of `nvreg.report.comparison.compare`.
        after: the same after temperature; None where there is none.
    """
    if METRICS[metric].higher_is_better is None:
        return [_directionless(metric)]
    as_they_came = rows.assign(protocol=rows["protocol"].replace(PRETRAINED, "as it came"))
    told = [(f"By {metric}, ", " as it came", list(_choices(metric, as_they_came)))]
    if after is not None:
        told.append(("After temperature, ", "", list(_choices(metric, after))))
    return [
        f"{when}{subject} {_better_and_worse(of)}."
        for when, state, choices in told
        for subject, of in (
            (f"the second model{state}", [each for each in choices if each.method == PRETRAINED]),
            ("what was chosen on the second", [each for each in choices if each.method != PRETRAINED]),
        )
        if of
    ]


def _better_and_worse(choices: Sequence[_Choice]) -> str:
    """Say on which sets choices are better and worse, and how many of them."""
    better, worse = (
        [
            f"{name}{_share(count, choices)}"
            for name in choices[0].said
            if (count := sum(each.said.get(name) == verb for each in choices))
        ]
        for verb in (choices[0].better, choices[0].worse)
    )
    return f"is better on {listing(better) or 'no set'} and worse on {listing(worse) or 'none'}"


def listing(names: Sequence[str]) -> str:
    """Return names as a sentence lists them."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _directionless(metric: str) -> str:
    return f"Nothing can be said: neither direction of {metric} is better."


def _share(count: int, of: Sequence[_Choice]) -> str:
    return "" if len(of) == 1 else f" ({count} of {len(of)} selections)"


def _choices(metric: str, table: DataFrame) -> Iterator[_Choice]:
    """Yield what each selection chose in a table; upper bounds and models as they came are left out."""
    higher_is_better = METRICS[metric].higher_is_better
    (better, _), (worse, _) = OUTCOMES[higher_is_better]
    rows = table[table["metric"].eq(metric) & ~table["protocol"].isin([PRETRAINED, *upper_bounds()])]
    if rows.empty:
        return
    labels = [name for name in ("run", "method", "protocol") if name in rows]
    for label, cells in with_decimals(rows).groupby(labels, sort=False):
        named = dict(zip(labels, map(str, label), strict=True))
        records = {str(record["domain"]): record for record in cells.to_dict("records")}
        said = dict(zip(records, verdicts(cells, higher_is_better), strict=True))
        yield _Choice(named["method"], named.get("run", ""), named["protocol"], records, said, better, worse)


def _told_of(choices: Sequence[_Choice]) -> list[_Choice]:
    """Return what the selection chose that a verdict tells of, of every method and run."""
    applied = [each for each in choices if set(each.said.values()) != {INAPPLICABLE}] or choices
    known = dict.fromkeys(each.protocol for each in applied)
    protocol = next((name for name in TOLD if name in known), next(iter(known)))
    return [each for each in applied if each.protocol == protocol]


def _rank(choice: _Choice, out: Sequence[str], in_domain: str) -> tuple[bool, int, bool]:
    helped, harmed = choice.helped(out), choice.harmed(out)
    return bool(helped), len(helped) - len(harmed), not choice.harmed([in_domain])


def _helps(
    metric: str, best: _Choice, told: Sequence[_Choice], ours: Sequence[_Choice], out: Sequence[str]
) -> str:
    """Say where a choice helps, by how much, and how many other selections of the method help somewhere."""
    helped, harmed = best.helped(out), best.harmed(out)
    more = f"; {listing(helped[NAMED:])} gain too" if len(helped) > NAMED else ""
    mates = [each for each in ours if each.name == best.name]
    helping = sum(bool(each.helped(out)) for each in mates)
    share = f" ({helping} of {len(mates)} selections help somewhere)" if len(mates) > 1 else ""
    sentence = (
        f"{best.name} helps on {_count(helped, out)}: chosen by {best.protocol}{share}, {metric} goes "
        f"{listing([best.step(name) for name in helped[:NAMED]])}{more}"
    )
    if harmed:
        sentence += f"; it worsens {listing(harmed)}"
    for each in told:
        if each.name != best.name:
            sentence += f"; {each.name} helps on {listing(each.helped(out)) or 'none'}"
    return f"{sentence}."


def _helps_elsewhere(
    metric: str, told: Sequence[_Choice], ours: Sequence[_Choice], out: Sequence[str]
) -> str:
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


def _price(metric: str, best: _Choice, in_domain: str) -> str:
    said = best.said.get(in_domain)
    if said == best.worse:
        return f"In domain it has a price: {metric} goes {best.step(in_domain)}."
    if said == best.better:
        return f"In domain it helps too: {metric} goes {best.step(in_domain)}."
    if said in UNTOLD:
        return f"In domain ({in_domain}) nothing can be said."
    return f"In domain ({in_domain}) no difference shows ({best.change(in_domain)})."


def _beyond(
    best: _Choice,
    out: Sequence[str],
    tempered: Sequence[_Choice],
    others: Sequence[_Choice],
    rivals: DataFrame | None,
    metric: str,
) -> Iterator[str]:
    """Say what is left of a gain after temperature, and which other methods did as well.

    That takes a paired comparison, which `rivals` has of NV alone; elsewhere it is said which help there too.
    """
    helped = best.helped(out)
    for same in tempered:
        if (same.name, same.protocol) == (best.name, best.protocol):
            left = [name for name in helped if same.said.get(name) == same.better]
            lost = [name for name in helped if name not in left]
            if not left:
                harmed = same.harmed(out)
                harm = f", and it worsens {listing(harmed)}" if harmed else ""
                yield f"After temperature, when both models may be softened, nothing of this is left{harm}."
            else:
                rest = f", not on {listing(lost)}" if lost else ""
                yield f"After temperature it still helps on {listing(left)}{rest}."
    tried = list(dict.fromkeys(each.name for each in others))
    if not tried:
        if best.method in OURS:
            yield "No simpler method was tried beside it."
        return
    is_paired = rivals is not None and best.method == NV
    against = _against(best, rivals, metric)
    for rival in against:
        if rival.method == PRETRAINED and (ahead := rival.harmed(helped)):
            yield f"{rival.run} as it came is better still on {listing(ahead)}."
    beaten = {rival.name: rival.helped(helped) for rival in against}
    as_well = {}
    for each in others:
        if each.protocol == best.protocol:
            unbeaten = set(helped) - set(beaten.get(each.name, ()))
            where = [name for name in each.helped(out) if name in unbeaten]
            if where:
                as_well[each.name] = where
    if not as_well:
        several = "did as well" if is_paired else "helps there"
        alone = "did not do as well" if is_paired else "does not help there"
        yield (
            f"None of the {len(tried)} other methods {several}." if len(tried) > 1 else f"{tried[0]} {alone}."
        )
        return
    everywhere = [name for name, where in as_well.items() if len(where) == len(helped)]
    if everywhere:
        more = f" and {len(everywhere) - NAMED} more" if len(everywhere) > NAMED else ""
        did = "did as well" if is_paired else f"help{'s' * (len(everywhere) == 1)} there too"
        yield f"{', '.join(everywhere[:NAMED]) if more else listing(everywhere)}{more} {did}."
    else:
        parts = [f"{name} on {listing(where)}" for name, where in list(as_well.items())[:NAMED]]
        yield f"{'As well did' if is_paired else 'What helps too is'} {listing(parts)}."


def _against(best: _Choice, rivals: DataFrame | None, metric: str) -> list[_Choice]:
    """Return what the choice has over each rival under the same selection, where that was measured."""
    if rivals is None or best.method != NV:
        return []
    return [each for each in _choices(metric, rivals) if each.protocol == best.protocol]


def _nothing_helps(metric: str, ours: Sequence[_Choice], out: Sequence[str]) -> str:
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
    untold = f"; {listing(unknown)} has too few examples to tell" if unknown else ""
    return f"Nothing helps: by {metric}, no selection of {names} improves {sets}{harm}{untold}."


def _by_domain(harmed: Mapping[str, Sequence[str]]) -> str:
    """Say which choices worsen what, a few by name."""
    found = {name: domains for name, domains in harmed.items() if domains}
    if len(found) > NAMED:
        domains = dict.fromkeys(domain for each in found.values() for domain in each)
        return f"{len(found)} of {len(harmed)} worsen some ({listing(list(domains))})"
    return listing([f"{name} worsens {listing(domains)}" for name, domains in found.items()])


def _prices(metric: str, ours: Sequence[_Choice], in_domain: str) -> str:
    costly = [each for each in ours if each.said.get(in_domain) == each.worse]
    gaining = [each for each in ours if each.said.get(in_domain) == each.better]
    for found, words in ((costly, "has a price"), (gaining, "helps")):
        if found:
            first, *more = found
            rest = f"; {len(more)} more of {len(ours)} selections do so too" if more else ""
            return (
                f"In domain, what {first.protocol} chose of {first.name} {words}: {metric} goes "
                f"{first.step(in_domain)}{rest}."
            )
    if all(each.said.get(in_domain) in UNTOLD for each in ours):
        return f"In domain ({in_domain}) nothing can be said."
    return f"In domain ({in_domain}) no difference shows either."


def _what_else(
    ours: Sequence[_Choice], out: Sequence[str], tempered: Sequence[_Choice], others: Sequence[_Choice]
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
    elif ours[0].method in OURS:
        yield "No simpler method was tried beside it."
