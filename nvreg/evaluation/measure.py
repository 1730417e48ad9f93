"""Data sets scored once, and what is computed of that: metrics, their uncertainty, and paired differences."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from pandas import DataFrame

from nvreg.data import Examples, load_examples
from nvreg.environment import device_kind, environment
from nvreg.errors import UserError
from nvreg.evaluation.request import Regularisation, Request
from nvreg.evaluation.result import Difference, DomainResult, Result, Score
from nvreg.evaluation.subject import Measurable
from nvreg.inspection.measure import domain_names
from nvreg.metrics import METRICS, statistics_of
from nvreg.metrics.choices import NORMALISATIONS, renormalised
from nvreg.metrics.metric import Array, Metric
from nvreg.metrics.randomisation import p_value
from nvreg.metrics.resampling import FEWEST, holm, interval, resample_counts, standard_error
from nvreg.models.teacher_forcing import device_of
from nvreg.progress import Progress
from nvreg.results import PRETRAINED
from nvreg.tasks import Encoded, encode, score_set
from nvreg.tasks.batch_size import find_batch_size, settled_batch_size
from nvreg.tasks.multiple_choice import EncodedQuestions


@dataclass(frozen=True)
class Evaluated:
    """What came of an evaluation.

    Attributes:
        result: what is written.
        examples: the records of each domain.
        frames: what was kept of each example, by domain.
    """

    result: Result
    examples: Mapping[str, Examples]
    frames: Mapping[str, DataFrame]


def evaluate(
    request: Request,
    files: Sequence[str],
    wanted: Regularisation,
    against: str | None,
    limit: int | None,
    progress: Progress,
) -> Evaluated:
    """Score a model on data sets, each of which is a domain.

    Args:
        request: the model, the task and how text is read.
        files: the data sets, as `nvreg.config.source_of` reads them.
        wanted: how attention is regularised.
        against: a model, a converted directory or `PRETRAINED`, to compare with on the same examples; None:
            nothing.
        limit: examples of each at most, the first ones.
        progress: counts data sets.

    Raises:
        UserError: if the model, its prior or the data cannot be had, or do not fit each other.
    """
    if "overlap" in request.evaluation.metrics and against is None:
        raise UserError("expected --against MODEL with overlap, which is with that model's text, got none")
    started, names = time.monotonic(), domain_names(files)
    ours = Measurable(request)
    examples = {
        name: load_examples(request.source(file, "test", limit), request.data.columns, ours.task.required)
        for name, file in zip(names, files, strict=True)
    }
    encoded = {name: encode(ours.task, each, name) for name, each in examples.items()}
    repeats = 1 + (against == PRETRAINED)
    find = partial(find_batch_size, ours.model, ours.task, list(encoded.values()), repeats)
    size = settled_batch_size(request.evaluation, find, progress)
    ours.task.batch_tokens = size.tokens
    notes = list(ours.task.notes)  # the prior's text, which is read later, is not what is evaluated
    others: dict[str, DataFrame] | None = None
    described = signatures = None
    if against is not None:
        theirs = ours if against == PRETRAINED else Measurable(_of(request, against))
        if theirs is not ours:
            theirs.task.batch_tokens = size.tokens
            theirs.regularise_(Regularisation(type(wanted.setting)()), progress)
        described, signatures = theirs.described, theirs.task.signatures
        others = _frames(theirs, examples, progress, encoded=encoded if theirs is ours else None)
        del theirs
    ours.regularise_(wanted, progress)
    frames = _frames(ours, examples, progress, others, encoded)
    compared = None
    if others is not None:
        alike = [name for name, each in ours.task.signatures.items() if (signatures or {}).get(name) == each]
        compared = _differences(frames, others, alike)
    result = Result(
        task=request.task,
        model=ours.described,
        against=described,
        data=request.data.model_dump(mode="json"),
        evaluation=request.evaluation.model_dump(mode="json"),
        signatures=dict(ours.task.signatures),
        domains=[
            DomainResult(
                name=name,
                data=file,
                fingerprint=examples[name].fingerprint,
                examples=len(examples[name]),
                truncated=encoded[name].truncated,
                metrics=_scores(request.evaluation.metrics, frames[name], name),
                normalisations=_by_normalisation(request, frames[name], encoded[name], name),
                against=None if compared is None else compared[name],
            )
            for name, file in zip(names, files, strict=True)
        ],
        batch_tokens=size,
        notes=notes,
        environment=environment(device_kind(device_of(ours.model))),
        seconds=round(time.monotonic() - started, 3),
    )
    return Evaluated(result, examples, frames)


def _of(request: Request, model: str) -> Request:
    """Return the request for another model."""
    source = request.model.model_copy(update={"path": model, "revision": None})
    return request.model_copy(update={"model": source})


def _frames(
    subject: Measurable,
    examples: Mapping[str, Examples],
    progress: Progress,
    pretrained: Mapping[str, DataFrame] | None = None,
    encoded: Mapping[str, Encoded] | None = None,
) -> dict[str, DataFrame]:
    """Score every data set, as a worker of a sweep does."""
    frames, described = {}, subject.described.space or PRETRAINED
    for name in progress.over(f"scoring ({described})", list(examples)):
        read = encoded[name] if encoded else encode(subject.task, examples[name], name)
        frame = score_set(subject.task, subject.model, read, name)
        predictions = None
        if pretrained is not None and "prediction" in pretrained[name]:
            predictions = list(pretrained[name]["prediction"])
        frames[name] = subject.task.completed(frame, predictions)
        subject.task.values(frames[name], name)  # or refused
    return frames


def _scores(metrics: Sequence[str], frame: DataFrame, domain: str) -> dict[str, Score]:
    return {
        name: _score(METRICS[name], statistics_of(frame, METRICS[name].group), domain) for name in metrics
    }


def _score(metric: Metric, rows: Array, domain: str) -> Score:
    drawn = _uncertainty(domain, len(rows), lambda counts: metric.score(rows, counts))
    return Score(value=float(metric.score(rows)), **drawn)


def _by_normalisation(
    request: Request, frame: DataFrame, encoded: Encoded, domain: str
) -> dict[str, dict[str, Score]] | None:
    """Return the metrics of multiple choice under each normalisation, None for other tasks."""
    if not isinstance(encoded, EncodedQuestions):
        return None
    metrics = request.evaluation.metrics
    return {by: _scores(metrics, renormalised(frame, encoded.labels, by), domain) for by in NORMALISATIONS}


def _differences(
    ours: Mapping[str, DataFrame], theirs: Mapping[str, DataFrame], metrics: Sequence[str]
) -> dict[str, dict[str, Difference]]:
    """Return the differences of two models by domain and metric, each paired by example."""
    found: dict[str, dict[str, Difference]] = {domain: {} for domain in ours}
    for name in metrics:
        metric, group = METRICS[name], METRICS[name].group
        rows = {
            domain: (statistics_of(ours[domain], group), statistics_of(theirs[domain], group))
            for domain in ours
        }
        p_values = [_p_value(metric, *pair, domain) for domain, pair in rows.items()]
        for (domain, pair), p, corrected in zip(rows.items(), p_values, holm(p_values), strict=True):
            found[domain][name] = _difference(metric, *pair, domain, p, corrected)
    return found


def _difference(
    metric: Metric, ours: Array, theirs: Array, domain: str, p: float, corrected: float
) -> Difference:
    def between(counts: Array | None = None) -> Array:
        with np.errstate(invalid="ignore"):  # infinite scores are a destroyed model's
            return metric.score(ours, counts) - metric.score(theirs, counts)

    return Difference(
        other=float(metric.score(theirs)),
        difference=float(between()),
        **_uncertainty(domain, len(ours), between),
        p=_known(p),
        p_holm=_known(corrected),
    )


def _p_value(metric: Metric, ours: Array, theirs: Array, domain: str) -> float:
    if len(ours) < FEWEST or metric.higher_is_better is None:
        return float("nan")
    return p_value(metric, [ours], [theirs], f"{domain}.test")


def _uncertainty(domain: str, examples: int, resampled: Callable[[Array], Array]) -> dict[str, float | None]:
    """Return the standard error and the ends of the interval, drawn as a report draws those of a test set."""
    if examples < FEWEST:
        return dict.fromkeys(("standard_error", "low", "high"))
    values = resampled(resample_counts(f"{domain}.test", examples))
    low, high = interval(values)
    return {"standard_error": _known(standard_error(values)), "low": low, "high": high}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
