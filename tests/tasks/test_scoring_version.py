import pytest

from nvreg.config import Evaluation, Reading, Source
from nvreg.data import load_examples
from nvreg.tasks import SCORING_VERSION, make_task
from nvreg.tasks.metrics import score
from tests.tiny import tiny_marian, write_corpus

FROZEN_VERSION = 2
FROZEN = {
    1: {
        "nll": 3.7704874,
        "perplexity": 43.401215,
        "bits-per-character": 1.353649,
        "bleu": 3.1280929,
        "chrf": 20.726216,
        "length-ratio": 1.0652174,
    },
    2: {
        "nll": 3.7704874,
        "perplexity": 43.401215,
        "bits-per-character": 1.353649,
        "bleu": 2.3224495,
        "chrf": 19.270463,
        "length-ratio": 1.3478261,
    },
}


@pytest.mark.parametrize("beams", [1, 2])
def test_scores_are_those_of_this_scoring_version(tmp_path, beams):
    model, tokenizer = tiny_marian()
    path = write_corpus(tmp_path) / "home" / "test.jsonl"
    evaluation = Evaluation(
        metrics=list(FROZEN[beams]), generation={"num_beams": beams, "max_new_tokens": 12}
    )
    task = make_task("translation", tokenizer, model.config, data=Reading(), evaluation=evaluation)
    examples = load_examples(Source(files=str(path)), {"source": "en", "target": "de"}, task.required)
    frame = task.score(model, task.encode(examples))
    scores = {name: score(frame, name) for name in FROZEN[beams]}
    assert SCORING_VERSION == FROZEN_VERSION
    assert scores == pytest.approx(FROZEN[beams], rel=1e-5), "raise SCORING_VERSION and freeze the new scores"
