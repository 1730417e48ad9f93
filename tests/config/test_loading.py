"""Numbers as people write them are numbers, and what is written is read as the same."""

import json
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nvreg.config import Section
from nvreg.config.loading import load_checked
from nvreg.config.yaml import read_yaml, write_yaml
from nvreg.errors import UserError
from nvreg.experiment import Experiment, load_experiment
from nvreg.finetune.schema import load_finetuning
from nvreg.text import visible
from tests.conftest import EXPERIMENT

NUMBERS = {
    "1e-3": 0.001,
    "1E5": 1e5,
    "1.": 1.0,
    ".5": 0.5,
    "-.5": -0.5,
    "+1e3": 1000.0,
    "2.5e+2": 250.0,
    "1e10": 1e10,
    "1_000": 1000,
    "1_000.5": 1000.5,
    "-3": -3,
    "010": 10,
    "0x1f": 31,
    "0o17": 15,
    "-.inf": -math.inf,
}
TEXTS = ["1:30", "1e", "e3", "1e3s", "2024.05.01", "1.2.3", ".", "+", "1-2", "en-de", "inf"]
TEXTS += ["no", "Yes", "on", "OFF", "y", "2024-01-01", "2024-99-99", "2001-12-14 21:59:43", "truely"]


@pytest.mark.parametrize("written", NUMBERS)
def test_a_number_is_a_number_however_it_is_written(written):
    for value in (read_yaml(written), *read_yaml(f"[{written}]"), read_yaml(f"a: {written}")["a"]):
        assert value == NUMBERS[written]
        assert type(value) is type(NUMBERS[written])


@pytest.mark.parametrize("written", TEXTS)
def test_text_that_looks_like_a_number_a_date_or_an_answer_is_text(written):
    assert read_yaml(f"a: {written}") == {"a": written}
    assert read_yaml(f"{written}: a") == {written: "a"}


def test_labels_may_be_numbers(tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_text(EXPERIMENT)
    assert load_checked(Experiment, path, ["data.labels={1: negative, 2: 0}"]).data.labels == {
        "1": "negative",
        "2": "0",
    }
    with pytest.raises(UserError, match=r"data.labels.*: expected text, got True"):
        load_checked(Experiment, path, ["data.labels={1: true}"])


def test_norwegian_labels_and_dates_are_what_the_file_says(tmp_path):
    path = tmp_path / "experiment.yaml"
    text = EXPERIMENT.replace("name: tiny", "name: 2024-01-01")
    path.write_text(text.replace("path: model,", "path: model, trust_remote_code: yes,"))
    overrides = ["data.target_language=no", "data.labels={no: yes}"]
    experiment = load_checked(Experiment, path, overrides)
    assert experiment.name == "2024-01-01"
    assert (experiment.data.target_language, experiment.data.labels) == ("no", {"no": "yes"})
    assert experiment.model.trust_remote_code is True
    path.write_text(text.replace("path: model,", "path: model, trust_remote_code: maybe,"))
    with pytest.raises(UserError, match=r"model\.trust_remote_code: expected true or false, got 'maybe'"):
        load_experiment(path)


@given(st.floats(allow_nan=False) | st.integers())
def test_every_number_that_python_or_json_writes_is_read_as_the_same(number):
    for written in (repr(number), json.dumps(number)):
        if math.isfinite(number):
            assert read_yaml(written) == number
            assert type(read_yaml(written)) is type(number)


@given(
    st.sampled_from(
        [*NUMBERS, *TEXTS, "yes", "no", "2010-02-11", "~", "ä", "<<", "\x85", "a\u2028b", "\u202eb"]
    )
    | st.text(max_size=8)
)
def test_what_is_written_is_read_as_the_same_also_by_others(text):
    document = {"name": text, "space": {"tau_mu": [text, 1e-3, 5, None, True, math.inf]}}
    assert read_yaml(write_yaml(document)) == document
    assert yaml.safe_load(write_yaml(document)) == document
    for written in (write_yaml({text: text}), write_yaml({text: text}, on_one_line=True)):
        assert read_yaml(written) == {text: text}
        assert visible(written) == written


def test_numbers_are_numbers_in_every_key_of_every_file(tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_text(
        EXPERIMENT.replace("[0, 0.5]", "[1e-3, 5E-1]").replace("tau_alpha:", "tau_mu: 1.\n    tau_alpha:")
    )
    overrides = ["sweep.trials=1e1", "sweep.enqueue=[{tau_sigma: 1e-2}]", "data.in_domain.train.limit=+1e3"]
    experiment = load_experiment(path, [*overrides, "sweep.seeds=[1e1, 2.0]"])
    assert experiment.sweep.seeds == [10, 2]
    assert experiment.sweep.methods["nv"].space["tau_sigma"] == {"encoder": [0.001, 0.5]}
    assert experiment.sweep.methods["nv"].space["tau_mu"] == 1.0
    assert experiment.sweep.methods["nv"].enqueue == [{"tau_sigma": 0.01}]
    assert (experiment.sweep.trials, experiment.data.in_domain.train.limit) == (10, 1000)


def test_numbers_are_numbers_in_a_fine_tuning_file(tmp_path):
    path = tmp_path / "finetuning.yaml"
    path.write_text(
        "{name: x, task: classification, model: {path: ./m}, method: plain, output: o, "
        "training: {learning_rate: 2e-5}, "
        "data: {in_domain: {name: a, train: {files: t}, validation: {files: v}}}}"
    )
    assert load_finetuning(path).training.learning_rate == 2e-5
    assert load_finetuning(path, ["training.weight_decay=1E-2"]).training.weight_decay == 0.01


@pytest.mark.parametrize("value", ["!!bool x", "!!int x", "!!timestamp 2024-99-99"])
def test_a_value_that_is_not_what_its_tag_or_form_says_is_one_line(tmp_path, value):
    class Anything(Section):
        a: object = None

    path = tmp_path / "a.yaml"
    path.write_text("a: 1\n")
    with pytest.raises(UserError, match=r"^--set: expected keys of the experiment and a YAML value, got"):
        load_checked(Anything, path, [f"a={value}"])
    path.write_text(f"a: {value}\n")
    with pytest.raises(UserError, match=r"a\.yaml: expected YAML, got"):
        load_checked(Anything, path)
