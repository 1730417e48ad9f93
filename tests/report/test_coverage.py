"""What intervals cover where the truth is known (docs/reports.md)."""

import numpy as np

from nvreg.metrics.resampling import interval, resample_counts
from nvreg.protocols import Evidence, best_in_domain

SETTINGS, EXAMPLES, RUNS = 30, 200, 60


def best(scores: np.ndarray) -> np.ndarray:
    """Choose by scores of the pretrained model and the settings."""
    zeros = np.zeros(1 + SETTINGS)
    return best_in_domain(Evidence("news", {"news": scores}, zeros, zeros), "news")


def coverage(deviation: float) -> tuple[float, float]:
    """The shares of runs in which the mean gain of choosing is in brackets, and in braces."""
    generator = np.random.default_rng(0)
    validation, test = (
        resample_counts(f"news.{split}", EXAMPLES) / EXAMPLES for split in ("validation", "test")
    )
    covered = np.zeros(2)
    for _ in range(RUNS):
        truth = np.append(0, generator.normal(0, deviation, SETTINGS))

        def differences(examples: int, truth=truth) -> np.ndarray:
            noise = generator.normal(size=(examples, SETTINGS))
            return truth + np.hstack([np.zeros((examples, 1)), noise])

        seen, unseen = differences(EXAMPLES), differences(EXAMPLES)
        other_samples = truth + (differences(500) - truth) / np.sqrt(EXAMPLES)
        mean_gain = truth[best(other_samples)].mean()
        resampled = test @ unseen
        given = resampled[:, best(seen.mean(axis=0))]
        redrawn = np.take_along_axis(resampled, best(validation @ seen)[:, None], axis=1)[:, 0]
        ends = (interval(given), interval(redrawn))
        covered += [low <= mean_gain <= high for low, high in ends]
    return tuple(covered / RUNS)


def test_a_repeated_choice_covers_the_mean_gain_of_choosing():
    given, redrawn = coverage(deviation=0.2)
    assert given < 0.93
    assert redrawn > 0.97
