import pytest
from hypothesis import given
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.scoring import BootstrapAggregator
from sacrebleu.metrics import BLEU, CHRF

from nvreg.metrics import METRICS, Tokenisation
from tests.metrics.examples import CORPUS, text_rows

SACREBLEU = {"bleu": BLEU, "chrf": CHRF}
ROUGE = ["rouge1", "rouge2", "rougeL", "rougeLsum"]


def score(name, corpus):
    return METRICS[name].score(text_rows(name, corpus))


def per_example(name, corpus):
    return METRICS[name].per_example(text_rows(name, corpus))


@pytest.mark.parametrize("name", SACREBLEU)
@given(corpus=CORPUS)
def test_scores_are_sacrebleus(name, corpus):
    predictions, references = zip(*corpus, strict=True)
    expected = SACREBLEU[name]().corpus_score(predictions, [references]).score
    assert score(name, corpus) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", SACREBLEU)
@given(corpus=CORPUS)
def test_sentence_scores_are_sacrebleus(name, corpus):
    scorer = BLEU(effective_order=True) if name == "bleu" else CHRF()
    expected = [scorer.sentence_score(prediction, [reference]).score for prediction, reference in corpus]
    assert per_example(name, corpus) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ROUGE)
@given(corpus=CORPUS)
def test_scores_are_rouge_scores_own(name, corpus):
    scorer, aggregator = RougeScorer([name], use_stemmer=True), BootstrapAggregator(n_samples=1)
    expected = [scorer.score(reference, prediction)[name] for prediction, reference in corpus]
    assert per_example(name, corpus) == pytest.approx([one.fmeasure for one in expected])
    aggregator.add_scores({name: expected[0]})
    assert score(name, corpus[:1]) == pytest.approx(aggregator.aggregate()[name].mid.fmeasure)
    mean = sum(one.fmeasure for one in expected) / len(corpus)
    assert score(name, corpus) == pytest.approx(mean)


def test_rouge_stems_words_and_lsum_reads_lines_as_sentences():
    assert score("rouge1", [("running cats", "run cat")]) == pytest.approx(1)
    two_sentences = [("one two\nthree four", "three four\none two")]
    assert score("rougeL", two_sentences) == pytest.approx(0.5)
    assert score("rougeLsum", two_sentences) == pytest.approx(1)


@pytest.mark.parametrize("name", SACREBLEU)
@given(corpus=CORPUS)
def test_bleu_and_chrf_of_a_copy_are_100(name, corpus):
    copies = [(reference + " one two three four",) * 2 for _, reference in corpus]
    assert score(name, copies) == pytest.approx(100)


def test_length_ratio_counts_words_of_predictions_by_words_of_references():
    corpus = [("a b c", "a b"), ("d.", "e f g h"), ("a", "")]
    assert score("length-ratio", corpus) == pytest.approx(6 / 6)
    assert list(per_example("length-ratio", corpus)) == [1.5, 0.5, 1]


@pytest.mark.parametrize("name", ["bleu", "rougeL"])
@given(corpus=CORPUS)
def test_overlap_is_the_metric_that_its_rows_are_of(name, corpus):
    rows = text_rows(name, corpus)
    assert METRICS["overlap"].score(rows) == pytest.approx(score(name, corpus))
    assert METRICS["overlap"].per_example(rows) == pytest.approx(per_example(name, corpus))


@pytest.mark.parametrize("name", SACREBLEU)
def test_signature_is_sacrebleus(name):
    reference = SACREBLEU[name]()
    reference.corpus_score(["a"], [["b"]])
    assert METRICS[name].signature(Tokenisation()) == str(reference.get_signature())


@pytest.mark.parametrize("name", [*SACREBLEU, *ROUGE])
def test_signature_names_the_version(name):
    assert "version:" in METRICS[name].signature(Tokenisation())
