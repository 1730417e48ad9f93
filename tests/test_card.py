"""Model cards: what the hub and a reader are told of a checkpoint, and nothing of this machine."""

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import nvreg
from nvreg.card import CARD, MARK, Measurement, Provenance, Scorecard, converted_card, plain_card, write_card
from nvreg.config import Source
from nvreg.models.convert import current_settings
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def model():
    plain = tiny_model("language-modelling", 40)
    return nvreg.convert_(plain, nvreg.Prior.gaussian(plain), nvreg.Settings(tau_sigma=0.25))


def card(model, **made) -> ModelCard:
    prior = nvreg.Prior.gaussian(model)
    return ModelCard(converted_card(model, prior, current_settings(model), Provenance(**made)))


def measurement(domain="news", value=2.5, source=None, metric="nll") -> Measurement:
    source = source or Source(files="/secret/place/test.jsonl")
    facts = {"low": 2.0, "high": 3.0, "difference": -0.5}
    return Measurement(domain, "test", metric, value, "3 → 2.5 (-0.5 {-0.7, -0.3})", facts, source)


def measured(*scores) -> Scorecard:
    return Scorecard("language-modelling", scores or (measurement(),), ["What the brackets are."])


def test_a_converted_model_is_described(model):
    found = card(model, base="org/base")
    assert found.data.base_model == "org/base"
    assert found.data.library_name == "nvreg"
    assert found.data.pipeline_tag == "text-generation"
    assert {"nvreg", "gpt2"} <= set(found.data.tags)
    for part in ("tau_sigma decoder=0.25", "inputs", "gaussian", nvreg.Prior.gaussian(model).fingerprint):
        assert part in found.text, part
    assert "unchanged pretrained model" in found.text
    assert "Nothing yet: `nvreg evaluate PATH" in found.text
    assert "Nothing yet: `nvreg evaluate me/nv" in card(model, base="org/base", repo="me/nv").text


def test_what_was_measured_is_in_table_and_metadata(model):
    source = Source(hub="org/set", config="de", revision="v1", split="test[:500]")
    scores = measured(measurement(), measurement("talks", 0.7, source, "accuracy"))
    found = card(model, base="org/base", measured=scores, training=source)
    assert "| news test  | 3 → 2.5 (-0.5 {-0.7, -0.3}) |" in found.text
    assert "What the brackets are." in found.text
    assert found.data.metrics == ["nll", "accuracy"]
    assert found.data.datasets == ["org/set"]
    results = {result.dataset_name: result for result in found.data.eval_results}
    news, talks = results["news"], results["talks"]
    assert (news.metric_value, news.metric_args["low"], news.dataset_type) == (2.5, 2.0, "news")
    assert (talks.dataset_type, talks.dataset_config, talks.dataset_split) == ("org/set", "de", "test[:500]")


def test_no_place_of_this_machine_is_told(model, tmp_path):
    (tmp_path / "my-model").mkdir()
    for base in (str(tmp_path / "my-model"), str(tmp_path / "gone")):
        found = str(card(model, base=base, measured=measured()))
        assert str(tmp_path) not in found
        assert "/secret" not in found
        assert Path(base).name in found
        assert "base_model" not in found


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_json_has_no_number_for_is_in_the_table_alone(model, value):
    found = card(model, measured=measured(measurement(value=value)))
    assert found.data.eval_results is None
    assert "3 → 2.5" in found.text


HOSTILE = "# x\n---\nlicense: mit\n<script>alert(1)</script> | `a` [b](c)\u202e\x1b[31m"


def test_text_of_data_stays_text(model):
    found = card(model, base="/x/" + HOSTILE, measured=measured(measurement(HOSTILE)))
    assert found.data.license is None
    assert "<script" not in found.text.replace("\\<script", "")
    assert "\x1b" not in str(found)
    assert "\u202e" not in str(found)
    assert "\n---\n" not in found.text
    assert not [line for line in found.text.splitlines() if line.startswith("license")]


def test_what_the_base_says_of_its_licence_holds(model, tmp_path):
    header = "---\nlicense: cc-by-nc-4.0\nlanguage: [de]\ntags: [other]\n---\nMine.\n"
    (tmp_path / CARD).write_text(header)
    found = card(model, base=str(tmp_path))
    assert found.data.license == "cc-by-nc-4.0"
    assert found.data.language == ["de"]
    assert "other" not in found.data.tags
    (tmp_path / CARD).write_text("---\n: [\n---\n")
    assert card(model, base=str(tmp_path)).data.license is None


def test_a_card_that_somebody_else_wrote_stays(tmp_path):
    write_card(tmp_path, f"{MARK} one")
    write_card(tmp_path, f"{MARK} two")
    assert (tmp_path / CARD).read_text() == f"{MARK} two"
    (tmp_path / CARD).write_text("mine")
    write_card(tmp_path, f"{MARK} three")
    assert (tmp_path / CARD).read_text() == "mine"


def test_what_is_saved_has_a_card(model, tmp_path):
    nvreg.save_pretrained(model, tmp_path)
    found = ModelCard.load(tmp_path / CARD)
    assert found.data.library_name == "nvreg"
    assert json.loads((tmp_path / "nvreg.json").read_text())["settings"] == {"tau_sigma": {"decoder": 0.25}}


@pytest.mark.parametrize(
    ("task", "tag"),
    [("classification", "text-classification"), ("token-classification", "token-classification")],
)
def test_a_plain_checkpoint_is_described(task, tag):
    model = tiny_model(task, 40)
    made = Provenance("org/base", repo="me/tuned")
    found = ModelCard(plain_card(model, made, "base, tuned", "A summary.", {"method": "plain"}, "finetune"))
    assert (found.data.library_name, found.data.pipeline_tag) == ("transformers", tag)
    assert found.data.to_dict()["base_model_relation"] == "finetune"
    assert f'{type(model).__name__}.from_pretrained("me/tuned")' in found.text
