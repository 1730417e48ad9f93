import subprocess
import sys

import pytest

from nvreg.errors import UserError
from nvreg.finetune.regularisers import REGULARISERS
from nvreg.finetune.schema import FineTuning, load_finetuning

FILE = """
name: tiny
task: classification
model: {path: ./model}
data:
  columns: {text: sentence}
  in_domain:
    name: home
    train: {files: train.jsonl, limit: 500, seed: 1}
    validation: {files: validation.jsonl}
method: plain
training: {epochs: 4, seeds: [1, 2], early_stopping: accuracy}
output: tuned
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ft.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def load(path):
    return lambda *overrides: load_finetuning(path, overrides)


def test_a_file_needs_one_domain_and_a_method(load, tmp_path):
    finetuning = load()
    assert finetuning.data.in_domain.train.files == str(tmp_path / "train.jsonl")
    assert finetuning.data.in_domain.train.limit == 500
    assert finetuning.model.path == str(tmp_path / "model")
    assert finetuning.training.seeds == [1, 2]
    assert finetuning.training.early_stopping.metric == "accuracy"
    assert finetuning.output == "tuned"
    assert load("training={seed: 7}").training.seeds == [7]


def test_an_experiments_data_section_serves(load, tmp_path):
    away = "[{name: away, test: {files: away.jsonl}}]"
    finetuning = load("data.in_domain.test={files: test.jsonl}", f"data.out_of_domain={away}")
    assert finetuning.data.out_of_domain[0].name == "away"


def test_options_are_those_of_the_method(load, tmp_path):
    assert load("method=mvcr", "regulariser={layers: [0, 3]}").regulariser.layers == [0, 3]
    guided = load("method=guided-dropout", "regulariser={fisher: fisher.json, schedule: reversed}")
    assert guided.regulariser.fisher == str(tmp_path / "fisher.json")
    assert guided.model_dump()["regulariser"]["schedule"] == "reversed"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["method=dropout"],
            r"method: expected one of plain, head-only, .*got 'dropout', did you mean 'guided-dropout'.$",
        ),
        (
            ["data.columns={txt: a}"],
            r"data\.columns: expected some of text, premise, hypothesis, label with task",
        ),
        (
            ["data.in_domain.validation.columns={lable: a}"],
            r"validation\.columns: .*'lable', did you mean 'label'",
        ),
        (["task=multiple-choice"], r"task: expected one of translation, .*classification, got 'multiple-ch"),
        (["task=translations"], r"task: expected one of .*, got 'translations', did you mean 'translation'"),
        (["method=mixout"], r"method: .*got 'mixout', which is not offered: no maintained library"),
        (
            ["regulariser={widths: [4]}"],
            r"regulariser: expected none, as plain has no options, got .*widths",
        ),
        (["method=mvcr", "regulariser={width: [4]}"], r"regulariser\.width: unknown key, .*'widths'"),
        (["method=mvcr", "regulariser={layers: []}"], r"regulariser\.layers: expected at least one item"),
        (
            ["method=mvcr", "regulariser={position: attention}"],
            r"regulariser\.position: expected 'feed-forward'",
        ),
        (["method=guided-dropout"], r"regulariser: expected fisher with guided-dropout, got nothing"),
        (
            ["method=guided-dropout", "regulariser={p_max: 0.2}"],
            r"regulariser\.fisher: expected a value, the key is missing",
        ),
        (
            ["method=guided-dropout", "regulariser={fisher: f, p_max: 0.1, p_min: 0.2}"],
            r"p_min: expected at most p_max, got 0\.2 and 0\.1",
        ),
        (["training.early_stopping=bleu"], r"early_stopping: expected one of nll, accuracy.*got 'bleu'"),
        (
            ["task=translation", "data.columns={}", "training.early_stopping=overlap"],
            r"expected one of nll.*got 'overlap'",
        ),
        (["training.epoch=3"], r"training\.epoch: unknown key, did you mean 'epochs'"),
        (["training.seed=3"], r"training: expected seed or seeds, got both"),
        (["training.seeds=[1, 1]"], r"training\.seeds: expected different seeds"),
        (["training.warmup=1.0"], r"training\.warmup: expected a number less than 1"),
        (["model.dtype=float16"], r"model\.dtype: expected float32.*training\.precision"),
        (["data.in_domain.train=null"], r"data\.in_domain\.train: expected keys with values"),
    ],
)
def test_mistakes_are_one_line_that_names_the_key(load, overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        load(*overrides)
    assert "\n" not in str(caught.value)


def test_checking_needs_none_of_the_heavy_libraries(path):
    """Whatever the method is, a mistake in a file is said at once."""
    script = (
        "import sys\n"
        "from nvreg.finetune.regularisers import REGULARISERS\n"
        "from nvreg.finetune.schema import load_finetuning\n"
        "for method in REGULARISERS:\n"
        "    options = '{fisher: f.json}' if method == 'guided-dropout' else '{}'\n"
        f"    load_finetuning({str(path)!r}, ['method=' + method, 'regulariser=' + options])\n"
        "heavy = {'torch', 'transformers', 'accelerate', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_json_schema_knows_every_methods_options():
    schema = FineTuning.model_json_schema()
    assert schema["properties"]["method"]["enum"] == list(REGULARISERS)
    assert "classification" in schema["properties"]["task"]["enum"]
    assert "multiple-choice" not in schema["properties"]["task"]["enum"]
    fields = [schema, *schema["$defs"].values(), *schema["properties"]["regulariser"]["anyOf"]]
    assert all(key.get("description") for each in fields for key in each.get("properties", {}).values())
    options = {each["title"] for each in schema["properties"]["regulariser"]["anyOf"]}
    assert options == {method.options_class.__name__ for method in REGULARISERS.values()}
