"""The numbers that lm-evaluation-harness 0.4.13 printed, by the recipe of docs/tasks.md.

``python -m tests.harness.local`` prints them again, in an environment that has the harness.
"""

import pytest

from nvreg.config import Evaluation, Reading
from nvreg.data import Examples
from nvreg.metrics import score
from nvreg.metrics.choices import renormalised
from nvreg.metrics.classification import ACCURACY
from nvreg.models.loading import load_model, load_tokenizer
from nvreg.tasks import TASKS, make_task
from tests.harness.local import QUESTIONS, TEXTS, WINDOW, write_model

FIGURES = {
    "word_perplexity": 212.52082504796374,
    "byte_perplexity": 3.338551265646134,
    "bits_per_byte": 1.7392221939303336,
    "acc": 0.08333333333333333,
    "acc_norm": 0.4166666666666667,
    "acc_bytes": 0.5,
}
"""What the harness printed, each to be met to 1e-6."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = write_model(tmp_path_factory.mktemp("harness") / "model")
    return load_model(path, TASKS["language-modelling"].auto_class, device="cpu"), load_tokenizer(path)


def scored(model, task, metrics, examples, **evaluation):
    loaded, tokenizer = model
    evaluation = Evaluation(metrics=metrics, **evaluation)
    made = make_task(task, tokenizer, loaded.config, data=Reading(), evaluation=evaluation)
    encoded = made.encode(Examples(examples))
    return made.score(loaded, encoded), encoded


def test_perplexities_of_bytes_and_words_are_the_harness_s(model):
    names = ["word-perplexity", "byte-perplexity", "bits-per-byte"]
    examples = [{"text": text} for text in TEXTS]
    options = {"prefix": "auto", "window": WINDOW, "stride": WINDOW}
    frame, _ = scored(model, "language-modelling", names, examples, **options)
    for name in names:
        assert score(frame, name) == pytest.approx(FIGURES[name.replace("-", "_")], rel=1e-6)


@pytest.mark.parametrize(
    ("by", "name"), [("none", "acc"), ("characters", "acc_norm"), ("bytes", "acc_bytes")]
)
def test_accuracies_are_the_harness_s(model, by, name):
    """By the normalisation of the evaluation, and of a scoring by tokens."""
    options = {"prefix": "auto"}
    frame, _ = scored(model, "multiple-choice", ["accuracy"], QUESTIONS, normalisation=by, **options)
    assert score(frame, "accuracy") == pytest.approx(FIGURES[name], abs=1e-12)
    kept, encoded = scored(model, "multiple-choice", ["accuracy"], QUESTIONS, **options)
    again = renormalised(kept, encoded.labels, by)
    assert score(again, ACCURACY.name) == pytest.approx(FIGURES[name], abs=1e-12)
