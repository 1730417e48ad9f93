"""Metrics of generated text against a reference, by sacrebleu and rouge-score.

The groups and their columns:

- ``bleu``: words of the prediction and of the reference, then matching and all predicted n-grams of each
  order 1 to 4, as sacrebleu counts them;
- ``chrf``: n-grams of the prediction, of the reference and in both, for each order 1 to 6 of characters;
- ``rouge1``, ``rouge2``, ``rougeL``, ``rougeLsum``: the F-measure;
- ``overlap``: the columns of ``bleu`` or of ``rougeL``, with the pretrained model's text as the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from importlib.metadata import version

import numpy as np
import regex
from sacrebleu.metrics import bleu, chrf

from nvreg.compat import corpus_statistics
from nvreg.errors import UserError
from nvreg.metrics.metric import Array, Metric, mean_of, of_sums
from nvreg.metrics.tokenisation import BleuTokenizer, RougeTokenizer, Tokenisation


@cache
def bleu_of(tokenizer: BleuTokenizer) -> bleu.BLEU:
    """Return sacrebleu's BLEU with a tokenizer.

    Raises:
        UserError: if the tokenizer needs a package that is not installed, or a file that cannot be fetched.
    """
    try:
        return bleu.BLEU(tokenize=tokenizer, force=True)  # force: no warning where text looks tokenised
    except Exception as error:  # each tokenizer raises its own
        language = tokenizer.partition("-")[0]
        mend = f'pip install "sacrebleu[{language}]"' if "-" in tokenizer else "char needs nothing else"
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(
            f"evaluation.bleu_tokenize: expected a tokenizer that can be had, got {tokenizer}: "
            f"{reason} ({mend})"
        ) from error


_CHRF = chrf.CHRF()

WORD = r"[\p{L}\p{M}\p{N}]+"
CHARACTER = r"[\p{L}\p{N}]\p{M}*"
"""A letter or digit with the marks above, below and around it, such as the vowels of Thai and Hindi."""


class _RougeTokenizer:
    """Words of any script, or characters: in lower case, without punctuation, not stemmed."""

    def __init__(self, pattern: str) -> None:
        self._pattern = regex.compile(pattern)

    def tokenize(self, text: str) -> list[str]:
        return self._pattern.findall(text.lower())


_ROUGE_TOKENIZERS: dict[RougeTokenizer, _RougeTokenizer | None] = {
    "latin": None,  # rouge-score's own
    "words": _RougeTokenizer(WORD),
    "characters": _RougeTokenizer(CHARACTER),
}


def _sacrebleu_statistics(
    metric: bleu.BLEU | chrf.CHRF, predictions: Sequence[str], references: Sequence[str]
) -> Array:
    return np.asarray(corpus_statistics(metric, predictions, references), dtype=np.float64)


def _bleu_statistics(
    predictions: Sequence[str], references: Sequence[str], tokenisation: Tokenisation
) -> Array:
    return _sacrebleu_statistics(bleu_of(tokenisation.bleu), predictions, references)


def _chrf_statistics(
    predictions: Sequence[str], references: Sequence[str], tokenisation: Tokenisation
) -> Array:
    return _sacrebleu_statistics(_CHRF, predictions, references)


def _rouge_statistics(
    name: str, predictions: Sequence[str], references: Sequence[str], tokenisation: Tokenisation
) -> Array:
    from rouge_score.rouge_scorer import RougeScorer  # a second to import

    scorer = RougeScorer([name], use_stemmer=True, tokenizer=_ROUGE_TOKENIZERS[tokenisation.rouge])
    pairs = zip(references, predictions, strict=True)
    return np.array([[scorer.score(*pair)[name].fmeasure] for pair in pairs])


def _bleu(statistics: Array, effective_order: bool = False) -> Array:
    """BLEU (Papineni et al., 2002), where the k-th order without a match counts as 1/2^k of one.

    ``effective_order`` leaves out the orders that a prediction is too short for, as sacrebleu does with
    sentences.
    """
    predicted, reference = statistics[..., 0], statistics[..., 1]
    matches, totals = statistics[..., 2:6], statistics[..., 6:10]
    counted = totals > 0 if effective_order else np.ones_like(totals, dtype=bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        missed = matches == 0
        precision = np.where(missed, 0.5 ** missed.cumsum(axis=-1), matches) / totals
        brevity = np.exp(np.minimum(0, 1 - reference / predicted))
        mean = np.where(counted, np.log(precision), 0).sum(axis=-1) / counted.sum(axis=-1)
        scores = 100 * brevity * np.exp(mean)
    return np.where(missed.all(axis=-1) | (counted & (totals == 0)).any(axis=-1), 0.0, scores)


def _chrf(statistics: Array, beta: float = chrf.CHRF.BETA) -> Array:
    """F-beta of character n-grams, chrF (Popovic, 2015), from means over the orders that both texts have."""
    orders = statistics.reshape(*statistics.shape[:-1], -1, 3)
    predicted, reference, matches = orders[..., 0], orders[..., 1], orders[..., 2]
    counted = (predicted > 0) & (reference > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(counted, matches / predicted, 0).sum(axis=-1) / counted.sum(axis=-1)
        recall = np.where(counted, matches / reference, 0).sum(axis=-1) / counted.sum(axis=-1)
        f_score = (1 + beta**2) * precision * recall / (beta**2 * precision + recall)
    return 100 * np.nan_to_num(f_score, nan=0.0)


def _f_measure(statistics: Array) -> Array:
    return statistics[:, 0]


def _length_ratio(sums: Array) -> Array:
    return sums[..., 0] / sums[..., 1]


def _length_ratio_of_examples(statistics: Array) -> Array:
    return statistics[:, 0] / np.maximum(1, statistics[:, 1])


def _overlap(statistics: Array, counts: Array) -> Array:
    of_corpus = mean_of(_f_measure) if statistics.shape[-1] == 1 else of_sums(_bleu)
    return of_corpus(statistics, counts)


def _overlap_of_examples(statistics: Array) -> Array:
    return _f_measure(statistics) if statistics.shape[-1] == 1 else _bleu(statistics, effective_order=True)


def _sacrebleu_signature(metric: bleu.BLEU | chrf.CHRF) -> str:
    _sacrebleu_statistics(metric, [""], [""])  # the number of references is known only after scoring
    return str(metric.get_signature())


def _bleu_signature(tokenisation: Tokenisation) -> str:
    return _sacrebleu_signature(bleu_of(tokenisation.bleu))


def _chrf_signature(tokenisation: Tokenisation) -> str:
    return _sacrebleu_signature(_CHRF)


def _rouge_signature(name: str, tokenisation: Tokenisation) -> str:
    sentences = "|sentences:lines" if name == "rougeLsum" else ""
    is_latin = tokenisation.rouge == "latin"
    words = "a-z0-9|stem:porter" if is_latin else f"unicode-{tokenisation.rouge}|stem:no"
    return f"{name}|f-measure|mean:examples|tok:{words}{sentences}|version:{version('rouge-score')}"


def _rouge(name: str) -> Metric:
    signature, of_texts = partial(_rouge_signature, name), partial(_rouge_statistics, name)
    return Metric(name, name, True, signature, _f_measure, of_texts=of_texts)


BLEU = Metric(
    "bleu",
    "bleu",
    True,
    _bleu_signature,
    partial(_bleu, effective_order=True),
    of_sums(_bleu),
    _bleu_statistics,
)
CHRF = Metric("chrf", "chrf", True, _chrf_signature, _chrf, of_sums(_chrf), _chrf_statistics)
ROUGE_1, ROUGE_2, ROUGE_L, ROUGE_LSUM = map(_rouge, ("rouge1", "rouge2", "rougeL", "rougeLsum"))
LENGTH_RATIO = Metric(
    "length-ratio",
    "bleu",
    None,
    _bleu_signature,
    _length_ratio_of_examples,
    of_sums(_length_ratio),
    _bleu_statistics,
)
OVERLAP = Metric(
    "overlap",
    "overlap",
    None,
    lambda _: "reference:pretrained",
    _overlap_of_examples,
    _overlap,
)
