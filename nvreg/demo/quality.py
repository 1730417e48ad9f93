"""How well a model of the demo does, beside what does without a model."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nvreg.config import Evaluation, Generation, Reading
from nvreg.data import Examples
from nvreg.demo.corpora import Record
from nvreg.metrics import METRICS, score, text_statistics
from nvreg.tasks import make_task

MEASURES = {
    "translation": "bleu",
    "classification": "accuracy",
    "language-modelling": "perplexity",
    "summarisation": "rougeL",
}
"""Task to the metric that its model is judged by."""

Records = Sequence[Record]


def model_score(
    task: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, held_out: Records
) -> float:
    """Return the measure of a task's model on examples it has not seen."""
    generation = Generation(num_beams=1, max_new_tokens=80)
    evaluation = Evaluation(metrics=[MEASURES[task]], generation=generation, temperatures=[])
    scorer = make_task(task, tokenizer, model.config, data=Reading(), evaluation=evaluation)
    return score(scorer.score(model, scorer.encode(Examples(list(held_out)))), MEASURES[task])


def baseline_scores(
    task: str, tokenizer: PreTrainedTokenizerBase, train: Records, held_out: Records
) -> dict[str, float]:
    """Return the measure of a task's baselines, by name, on examples they have not seen."""
    match task:
        case "translation":
            nearest = [_nearest(record["source"], train)["target"] for record in held_out]
            return {"most similar training sentence": _of_texts("bleu", nearest, held_out, "target")}
        case "summarisation":
            first = [record["document"].partition(".")[0] for record in held_out]
            return {"first sentence": _of_texts("rougeL", first, held_out, "summary")}
        case "classification":
            ((commonest, _),) = Counter(record["label"] for record in train).most_common(1)
            return {
                "commonest label": _accuracy(lambda text: commonest, held_out),
                "naive Bayes": _accuracy(_naive_bayes(train), held_out),
            }
        case _:
            seen, unseen = (
                tokenizer([record["text"] for record in records])["input_ids"]
                for records in (train, held_out)
            )
            return _ngram_perplexities(seen, unseen, len(tokenizer))


def _of_texts(metric: str, predictions: Sequence[str], held_out: Records, column: str) -> float:
    references = [record[column] for record in held_out]
    return float(METRICS[metric].score(text_statistics(metric, predictions, references)))


def _nearest(source: str, train: Records) -> Record:
    """Return the training example that has most of its words in common with a source."""
    words = set(source.split())

    def similarity(record: Record) -> float:
        others = set(record["source"].split())
        return len(words & others) / len(words | others)

    return max(train, key=similarity)


def _accuracy(predict: Callable[[str], str], held_out: Records) -> float:
    return sum(predict(record["text"]) == record["label"] for record in held_out) / len(held_out)


def _naive_bayes(train: Records) -> Callable[[str], str]:
    """Return the multinomial classifier of words, smoothed by adding one."""
    words: dict[str, Counter[str]] = defaultdict(Counter)
    for record in train:
        words[record["label"]].update(record["text"].split())
    vocabulary = len(set().union(*words.values()))
    texts = Counter(record["label"] for record in train)

    def predict(text: str) -> str:
        def log_probability(label: str) -> float:
            total = words[label].total() + vocabulary
            likelihood = sum(math.log((words[label][word] + 1) / total) for word in text.split())
            return math.log(texts[label]) + likelihood

        return max(texts, key=log_probability)

    return predict


def _ngram_perplexities(
    seen: Sequence[Sequence[int]], unseen: Sequence[Sequence[int]], vocabulary: int
) -> dict[str, float]:
    """Return the perplexities of unigrams, smoothed by adding one, and of Witten and Bell's bigrams."""
    unigrams = Counter(token for text in seen for token in text[1:])
    bigrams = Counter(pair for text in seen for pair in pairwise(text))
    contexts = Counter(context for text in seen for context in text[:-1])
    followers = Counter(context for context, _ in bigrams)
    total = unigrams.total() + vocabulary

    def unigram(context: int, token: int) -> float:
        return (unigrams[token] + 1) / total

    def bigram(context: int, token: int) -> float:
        known = contexts[context] + followers[context]
        if not known:
            return unigram(context, token)
        return (bigrams[context, token] + followers[context] * unigram(context, token)) / known

    def perplexity(probability: Callable[[int, int], float]) -> float:
        nats = [-math.log(probability(*pair)) for text in unseen for pair in pairwise(text)]
        return math.exp(sum(nats) / len(nats))

    return {"unigrams": perplexity(unigram), "bigrams": perplexity(bigram)}
