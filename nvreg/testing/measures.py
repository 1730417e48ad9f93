"""What metrics, tasks and protocols promise, as checks on examples that are given or drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nvreg.data import Examples
from nvreg.metrics import METRICS, Array, Metric, Tokenisation, statistics_of
from nvreg.models.teacher_forcing import run_body
from nvreg.protocols import Evidence, Protocol
from nvreg.results import digest
from nvreg.tasks import Task, encode, score_set
from nvreg.tasks.base import content_of, part

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_metric(metric: Metric, statistics: Array, seed: int = 0) -> None:
    """Check what tables and intervals take for granted of a metric.

    Args:
        metric: which.
        statistics: rows of its group, of a dozen examples: [examples, k], NaN after the end of shorter ones.
        seed: the seed of what is drawn from them.
    """
    rng, close = np.random.default_rng(seed), np.testing.assert_allclose
    assert metric.signature(Tokenisation()), "expected a signature, got an empty one"
    alone = metric.score(statistics)
    assert alone.shape == (), f"expected one score without counts, got shape {alone.shape}"
    ones = np.ones((3, len(statistics)), dtype=np.uint16)
    close(metric.score(statistics, ones), [alone] * 3, rtol=1e-12, err_msg="counts of one change the score")
    counts = rng.integers(0, 4, (3, len(statistics)))
    counts[:, np.nonzero(~np.isnan(statistics[:, 0]))[0][0]] += 1
    together = metric.score(statistics, counts)
    each = [metric.score(statistics, count[None])[0] for count in counts]
    close(together, each, rtol=1e-12, err_msg="resamples score otherwise than each alone")
    repeated = [metric.score(statistics.repeat(count, axis=0)) for count in counts]
    close(together, repeated, rtol=1e-9, atol=1e-12, err_msg="a count is not as good as repeating the row")
    shuffled = metric.score(rng.permutation(statistics))
    close(shuffled, alone, rtol=1e-9, atol=1e-12, err_msg="the order of examples matters")
    scores = metric.per_example(statistics)
    if scores is not None:
        assert scores.shape == (len(statistics),), f"expected a score an example, got shape {scores.shape}"
        assert np.isfinite(scores).all(), "an example has a score that is not finite"


@torch.no_grad()
def check_task(task: Task[Any], model: PreTrainedModel, records: Sequence[Mapping[str, Any]]) -> None:
    """Check what sweeps take for granted of a task: above all that an example scores as it does alone.

    Args:
        task: made for the model, in float32, with metrics of its own.
        model: in evaluation mode.
        records: a few examples of different lengths, with the columns that the task requires.
    """
    encoded = encode(task, Examples([dict(record) for record in records]), "records")
    assert 0 <= encoded.truncated <= len(records), f"expected how many were cut, got {encoded.truncated}"
    digest(content_of(encoded))  # which is part of keys, or a TypeError
    batches = [dict(batch) for batch in task.teacher_forced(encoded)]
    assert batches, "expected teacher-forced batches, got none"
    for batch in (*batches, task.batch(encoded, [len(records) - 1, 0])):
        assert "labels" in batch, f"expected labels in a batch, got {', '.join(batch)}"
        run_body(model, batch)
    frame = task.completed(score_set(task, model, encoded, "records"))
    assert list(frame["id"]) == list(range(len(records))), "expected a row an example, in their order"
    task.values(frame, "records")
    again = [
        task.completed(score_set(task, model, part(encoded, slice(at, at + 1)), "one example"))
        for at in range(len(records))
    ]
    for group in {METRICS[name].group for name in task.signatures}:
        rows = statistics_of(frame, group)
        for at, alone in enumerate(again):
            expected = statistics_of(alone, group)[0]
            got = rows[at][: len(expected)]
            message = f"example {at} scores otherwise in a batch than alone ({group})"
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5, err_msg=message)
    if "prediction" in frame:
        predictions = [each["prediction"][0] for each in again]
        assert list(frame["prediction"]) == predictions, "predictions are others in a batch than alone"


def check_protocol(protocol: Protocol, seed: int = 0) -> None:
    """Check that a protocol's choices exist, are the pretrained model's where all are equal, and no NaN's.

    Each of several resamples at once has to be chosen for as if it were alone.
    """
    rng, candidates, domains = np.random.default_rng(seed), 6, ("home", "away", "abroad")
    scores = rng.normal(size=(len(domains), 4, candidates))
    scores[:, 0] = 1.0
    scores[:, 1:, 2] = np.nan
    nothing = np.zeros(candidates)

    def chosen(scores: Array) -> dict[str, tuple[Any, ...]]:
        by_domain = dict(zip(domains, scores, strict=True))
        evidence = Evidence(domains[0], by_domain, nothing, nothing, dict(by_domain))
        columns = protocol.choose(evidence, domains[1:])
        assert set(columns) == set(domains), f"expected a column a domain, got {sorted(columns)}"
        return columns

    together = chosen(scores)
    for domain, places in together.items():
        for place in places:
            assert place.shape == (4,), f"expected a candidate for each of 4 resamples, got {place.shape}"
            assert ((place >= 0) & (place < candidates)).all(), f"{domain}: expected a candidate, got {place}"
            assert place[0] == 0, f"{domain}: of equal candidates the first has to win, got {place[0]}"
            assert (place[1:] != 2).all(), f"{domain}: chose a candidate whose score is no number"
    for number in range(4):
        for domain, places in chosen(scores[:, number]).items():
            expected = [int(place[number]) for place in together[domain]]
            assert [int(place) for place in places] == expected, f"{domain}: resamples are not alone"
