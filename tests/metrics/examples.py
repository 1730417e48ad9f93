"""Random statistics of every group, as real examples would have."""

import numpy as np
from hypothesis import strategies as st

from nvreg.metrics import text_statistics
from nvreg.metrics.classification import choice_statistics

WORDS = ["a", "b", "cat", "dog.", "ein", "Ö", "12,5", "running\n", "runs"]
SENTENCE = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
CORPUS = st.lists(st.tuples(SENTENCE, SENTENCE), min_size=1, max_size=8)
SEED = st.integers(0, 10_000)


def text_rows(name, corpus):
    predictions, references = zip(*corpus, strict=True)
    return text_statistics(name, predictions, references)


def predictions(seed, examples=40, classes=3):
    """Right classes and probabilities, with examples of equal probabilities among them."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(examples, classes)).round(rng.integers(0, 4))
    return rng.integers(classes, size=examples), np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


def choice_rows(group, labels, probabilities):
    return np.array(choice_statistics(np.log(probabilities), labels)[group])


def likelihood_rows(seed, examples=40):
    rng = np.random.default_rng(seed)
    return np.stack([rng.gamma(5, 5, examples), *rng.integers(1, 30, (2, examples))], axis=1)
