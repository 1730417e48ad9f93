"""What a comparison of two runs comes to in a few sentences: their models, and what was chosen in each."""

from collections.abc import Sequence

from pandas import DataFrame

from nvreg.metrics import METRICS
from nvreg.metrics.resampling import FEWEST
from nvreg.report.choices import Choice, choices_in, listing, told_of
from nvreg.report.claims import NAMED, softening_unknown
from nvreg.report.verdict import UNTOLD, directionless
from nvreg.results import PRETRAINED

AS_IT_CAME = "as it came"


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
        return [directionless(metric)]
    as_they_came = rows.assign(protocol=rows["protocol"].replace(PRETRAINED, AS_IT_CAME))
    tables = {f"By {metric}": as_they_came, **({} if after is None else {"After temperature": after})}
    sentences, differing = [], False
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
                differing |= each.differs
            sentences += [f"{when}, {second}{_as_what(each)} {told}." for told, each in alike.items()]
    unknown = softening_unknown(metric, differing) if after is None else ""
    return [*sentences, *filter(None, [unknown])]


def _as_what(alike: Sequence[Choice]) -> str:
    """Say whether choices are the model as it came, the model at a temperature, or what was chosen."""
    method, protocol = alike[0].method, alike[0].protocol
    if method == PRETRAINED:
        return f" {AS_IT_CAME}" if protocol == AS_IT_CAME else ""
    return f" with what {protocol} chose of {listing([each.method for each in alike])}"


def _against_other(choice: Choice, other: str, in_domain: str) -> str:
    """Say where a choice of one run is better or worse than that of another, and of what nothing is known."""
    domains = list(choice.records)
    parts: list[str] = []
    for word, names in (("better", choice.helped(domains)), ("worse", choice.harmed(domains))):
        if names:
            steps = [choice.step(name) + " (in domain)" * (name == in_domain) for name in names[:NAMED]]
            more = f", and {word} on {listing(names[NAMED:])} too" if len(names) > NAMED else ""
            parts.append(f"{word}{'' if parts else f' than {other}'}, {listing(steps)}{more}")
    untold = [name for name in domains if choice.said[name] in UNTOLD]
    if untold and len(untold) == len(domains):
        return f"cannot be told from {other}: no test set has the {FEWEST} examples with labels that it takes"
    rest = f"; of {listing(untold)} nothing can be said" if untold else ""
    return f"is {'; '.join(parts)}{rest}" if parts else f"shows no difference from {other}{rest}"
