import math
from random import Random

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from nvreg.demo.quality import baseline_scores


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(WordLevel({"<unk>": 0, "a": 1, "b": 2, "c": 3}, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


def test_translation_is_compared_with_the_most_similar_training_sentence(tokenizer) -> None:
    train = [
        {"source": "sul limo faru.", "target": "ko gabok degatenos von ter."},
        {"source": "em nusi faru reve.", "target": "hozel zubad degatena mil tas."},
    ]
    held_out = [{"source": "em nusi faru.", "target": "hozel zubad degatena mil tas."}]
    assert baseline_scores("translation", tokenizer, train, held_out) == {
        "most similar training sentence": pytest.approx(100)
    }


def test_summarisation_is_compared_with_the_first_sentence(tokenizer) -> None:
    held_out = [{"document": "sul limo faru. em nusi lova.", "summary": "limo faru."}]
    (score,) = baseline_scores("summarisation", tokenizer, held_out, held_out).values()
    assert score == pytest.approx(2 * (2 / 3) * 1 / (2 / 3 + 1))


def test_naive_bayes_is_scikit_learn_s(tokenizer) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB

    rng = Random(0)
    labels = {"x": "abcd", "y": "cdef", "z": "aefg"}
    records = [
        {"text": " ".join(rng.choices(labels[label] + "abcdefg", k=6)), "label": label}
        for label in rng.choices(list(labels), (5, 2, 1), k=300)
    ]
    train, held_out = records[:150], records[150:]
    scores = baseline_scores("classification", tokenizer, train, held_out)
    counts = CountVectorizer(token_pattern=r"\S+").fit([record["text"] for record in train])
    expected = MultinomialNB().fit(
        counts.transform([record["text"] for record in train]), [record["label"] for record in train]
    )
    assert scores["naive Bayes"] == expected.score(
        counts.transform([record["text"] for record in held_out]), [record["label"] for record in held_out]
    )
    assert scores["commonest label"] == sum(record["label"] == "x" for record in held_out) / 150


def test_perplexities_of_unigrams_and_bigrams(tokenizer) -> None:
    train = [{"text": "a b a b a c"}]
    scores = baseline_scores("language-modelling", tokenizer, train, [{"text": "a b c"}])
    b, c = 3 / 9, 2 / 9  # of the five scored tokens two are b and one is c; four more for the vocabulary
    assert scores["unigrams"] == pytest.approx(math.exp(-(math.log(b) + math.log(c)) / 2))
    b_after_a = (2 + 2 * b) / (3 + 2)
    c_after_b = (0 + 1 * c) / (2 + 1)
    assert scores["bigrams"] == pytest.approx(math.exp(-(math.log(b_after_a) + math.log(c_after_b)) / 2))


def test_what_never_came_before_is_a_unigram(tokenizer) -> None:
    scores = baseline_scores("language-modelling", tokenizer, [{"text": "a b"}], [{"text": "c b"}])
    assert scores["bigrams"] == pytest.approx(scores["unigrams"])
