"""The script that measures which estimate ranks settings, on a run whose classifier is known."""

import numpy as np
import pandas as pd
import pytest

from nvreg.metrics.classification import choice_statistics
from nvreg.metrics.temperature import alternatives_of
from nvreg.report.reading import read_run
from scripts.unlabelled import main, measure
from tests.report.conftest import SyntheticRun

SETTINGS = (0.5, 1.0, 2.0, 4.0)  # signal over noise; the first is the pretrained model's


def predictions(signal: float, examples: int, seed: int):
    """Log-probabilities of two classes and labels, of a classifier that is as sure as it should be."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=examples)
    evidence = 2 * signal * (np.where(labels == 1, signal, -signal) + rng.normal(size=examples))
    logits = np.stack([np.zeros(examples), evidence], axis=-1)
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True), labels


@pytest.fixture
def run(tmp_path):
    synthetic = SyntheticRun(tmp_path / "run", metric="nll", metrics=("nll",), domains={
        "news": ("validation", "test"), "talks": ("validation", "test")
    })  # fmt: skip
    for number, signal in enumerate(SETTINGS):
        statistics = {}
        for place, domain in enumerate(("news", "talks")):
            log_probabilities, labels = predictions(signal / (1 + place), 400, place)
            rows = choice_statistics(list(log_probabilities), labels.tolist())["likelihood"]
            statistics[domain] = {split: {"likelihood": np.array(rows)} for split in ("validation", "test")}
        synthetic.add(statistics, settings={"tau_sigma": float(number)} if number else {})
        for place, domain in enumerate(("news", "talks")):
            path = synthetic.directory / "examples" / f"key{number}" / f"{domain}.validation.parquet"
            log_probabilities, labels = predictions(signal / (1 + place), 400, place)
            columns = alternatives_of(list(log_probabilities), labels.tolist())
            pd.read_parquet(path).assign(**columns).to_parquet(path)
    return synthetic.write()


def test_settings_are_ranked_as_their_accuracy_ranks_them(run, capsys):
    rows = measure(read_run(run))
    assert list(rows["domain"]) == ["talks", "talks"]
    assert rows["correlation"].to_list() == pytest.approx([1, 1])
    assert (rows["distance"] < 0.1).all()
    assert (rows["chosen"] == rows["best"]).all()
    assert (rows["pretrained"] < rows["best"]).all()
    assert main([str(run)]) == 0
    assert "| average thresholded confidence | talks" in capsys.readouterr().out


def test_a_directory_that_is_no_run_is_a_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("expected a directory written by nvreg sweep")
