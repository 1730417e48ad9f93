"""Random statistics of every group, as real examples would have."""

import numpy as np
from hypothesis import strategies as st

from nvreg.metrics import padded, text_statistics
from nvreg.metrics.classification import choice_statistics, entity_statistics, word_statistics

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


def word_rows(group, labels, probabilities, words):
    """The rows of examples that have a choice for each of so many words."""
    rows = word_statistics(np.log(probabilities), labels, words)[group]
    return padded(np.concatenate(rows), np.array(list(map(len, rows))))


def words(seed, total=40):
    """The numbers of words of examples, some without any."""
    ends = np.sort(np.random.default_rng(seed).integers(total + 1, size=9))
    return np.diff([0, *ends, total])


TAGS = [*(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("a", "b-c", "")), *"OBIES"]
SENTENCES = st.lists(
    st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), max_size=7), min_size=1, max_size=5
)
"""The right and the predicted tag of every word of some sentences."""


def entity_rows(sentences):
    right, predicted = ([[pair[side] for pair in each] for each in sentences] for side in (0, 1))
    return np.array(entity_statistics(right, predicted))


def likelihood_rows(seed, examples=40):
    rng = np.random.default_rng(seed)
    return np.stack([rng.gamma(5, 5, examples), *rng.integers(1, 30, (2, examples))], axis=1)
