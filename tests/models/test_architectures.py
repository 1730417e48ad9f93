"""The table of model types: how it is grouped, counted and printed."""

import json

import pytest
from typer.testing import CliRunner

from nvreg.cli import app
from nvreg.models import architectures as module
from nvreg.models.architectures import Count, architectures

TRIALS = {
    "both": {"causal": {"inputs": "llama", "heads": []}, "masked": {"inputs": "llama", "heads": []}},
    "half": {
        "causal": {"heads": ["Cross"], "not_inputs": "no encoder"},
        "masked": {"inputs": "bart", "heads": []},
    },
    "half with norm": {"causal": {"heads": [], "not_inputs": "a norm"}},
    "heads": {"causal": {"heads": ["Mamba", "Tower"], "not_inputs": "a norm"}},
    "none": {"causal": {"refused": "no softmax"}, "masked": {"refused": "no softmax"}},
    "some": {"causal": {"refused": "no softmax"}, "masked": {"inputs": "bart"}},
    "unknown": {"causal": {"untried": "it needs timm"}},
}


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setattr(module, "trials", lambda: ("5.0", TRIALS))
    return architectures()


def printed(form):
    result = CliRunner().invoke(app, ["architectures", "--format", form])
    assert result.exit_code == 0
    return result.stdout


def test_types_are_grouped_by_space_reason_and_head(known):
    assert known.inputs == {"bart": ["half", "some"], "llama": ["both"]}
    assert known.heads == ["both", "half", "heads"]
    assert known.not_inputs == {"a norm": ["half with norm", "heads"], "no encoder": ["half (causal)"]}
    assert known.left_alone == {"Cross": ["half (causal)"], "Mamba": ["heads"], "Tower": ["heads"]}
    assert known.refused == {"no softmax": ["none", "some (causal)"]}
    assert known.untried == {"it needs timm": ["unknown"]}


def test_types_are_counted_without_their_options(known):
    assert known.counts == {
        "causal": Count(inputs=1, heads=3, either=3, types=6),
        "masked": Count(inputs=3, heads=2, either=3, types=4),
    }


def test_another_version_than_the_one_that_was_tried_is_named(known):
    said = "A tiny model of every model type was tried with Transformers 5.0. Transformers 5."
    assert printed("markdown").startswith(said)
    assert " ".join(printed("text").split()).startswith(said)
    data = json.loads(printed("json"))
    assert (data["transformers"], data["installed"]) == ("5.0", known.installed)


def test_the_list_as_data_text_and_markdown_says_the_same():
    known, data = architectures(), json.loads(printed("json"))
    assert list(data)[:5] == ["transformers", "inputs", "heads", "refused", "untried"]
    assert data["counts"]["causal"] == known.counts["causal"]._asdict()
    for name in ("inputs", "heads", "refused", "untried", "not_inputs", "left_alone"):
        assert data[name] == getattr(known, name)
    text, tables = printed("text"), printed("markdown")
    for table in (known.inputs, known.not_inputs, known.left_alone, known.refused, known.untried):
        for key, names in table.items():
            assert f"| {key} | {', '.join(names)} |" in tables
            assert f"{key}: {', '.join(names)}" in text.replace("\n    ", " ")
    assert max(map(len, text.splitlines())) <= 100
