"""The table of model types is what trying them leaves, and a trial notices what is wrong."""

import pytest
import transformers

from nvreg.models import dispatching
from nvreg.models.architectures import WITH, trials
from nvreg.models.heads import HeadState
from nvreg.models.inputs import NVState
from nvreg.models.registry import layouts
from scripts import architectures
from scripts.architectures import TABLE, as_json, tried, types
from scripts.tiny_models import tiny_model
from scripts.trial import Wrong

DRAWN = (
    "bart",
    "bert",
    "blt",
    "deepseek_v32",
    "doge",
    "gemma3",
    "jamba",
    "layoutlmv2",
    "longcat_flash",
    "mllama",
    "olmo with clip_qkv",
    "qwen3_next",
    "t5",
    "t5gemma2",
    "zaya",
)
TRIED_WITH, TRIALS = trials()

with_the_version_that_was_tried = pytest.mark.skipif(
    transformers.__version__ != TRIED_WITH, reason=f"the table is of Transformers {TRIED_WITH}"
)


@with_the_version_that_was_tried
def test_every_model_type_with_a_text_head_is_in_the_table():
    assert {name: list(by_head) for name, by_head in TRIALS.items()} == types()
    assert TABLE.read_text() == as_json(TRIALS)


@with_the_version_that_was_tried
@pytest.mark.parametrize(
    "model_type",
    [*DRAWN, *(pytest.param(name, marks=pytest.mark.slow) for name in types() if name not in DRAWN)],
)
def test_the_table_is_what_trying_leaves(model_type):
    found = {head: tried(model_type, head) for head in types()[model_type]}
    assert found == TRIALS[model_type], f'make architectures TYPES="{model_type}"'


def test_every_layout_s_model_types_are_in_the_table():
    listed = {name for name, by_head in TRIALS.items() if any("inputs" in each for each in by_head.values())}
    of_layouts = {name for model_types in layouts().values() for name in model_types}
    assert of_layouts - listed == {"whisper"}, "make architectures"  # whose text head is its decoder alone
    assert listed - of_layouts == {"encoder-decoder", "gpt-sw3"}


@with_the_version_that_was_tried
def test_as_many_are_converted_as_were_wanted():
    converted = {}
    for name, by_head in TRIALS.items():
        for head, each in by_head.items():
            if WITH not in name and ("inputs" in each or "heads" in each):
                converted[head] = converted.get(head, 0) + 1
    assert converted["causal"] >= 140
    assert converted["classification"] >= 90
    assert converted["masked"] >= 30
    assert converted["sequence-to-sequence"] >= 24


def test_a_type_that_cannot_be_tried_is_named_and_in_no_other_s_way(monkeypatch, capfd):
    def fails(model_type, head):
        raise ValueError("layers must equal\nlayers")

    monkeypatch.setattr(architectures, "tried", fails)
    monkeypatch.setattr(architectures, "write_text", None)
    assert architectures.main(["bart", "bert"]) == 1
    said = capfd.readouterr().err
    assert [line for line in said.splitlines() if line in ("bart", "bert")] == ["bart", "bert"]
    assert "\n  causal: ValueError: layers must equal layers\n" in said


# --- what a trial notices -------------------------------------------------------------------------


@pytest.mark.parametrize(("model_type", "state"), [("qwen3", HeadState), ("bert", NVState)])
@pytest.mark.parametrize(
    ("changes_tokens", "message"),
    [(True, "off the definition by"), (False, "a prior without weight changes")],
)
def test_a_trial_notices_attention_that_is_off(monkeypatch, model_type, state, changes_tokens, message):
    attend = state.attend

    def off(self, *args, **kwargs):
        output, weights = attend(self, *args, **kwargs)
        return output * (1.001 if self.settings.changes_tokens == changes_tokens else 1), weights

    monkeypatch.setattr(state, "attend", off)
    with pytest.raises(Wrong, match=rf"^{model_type} \(causal, \w+\): {message}"):
        tried(model_type, "causal")


def test_a_trial_notices_softmax_attention_that_is_not_converted(monkeypatch):
    every = dispatching._attention
    monkeypatch.setattr(
        dispatching,
        "_attention",
        lambda model: (each for each in every(model) if each[0] != "layers.1.self_attn"),
    )
    with pytest.raises(Wrong, match=r"^qwen3 \(causal, heads\): softmax beside the sites: .*attention"):
        tried("qwen3", "causal")


def test_a_trial_notices_a_site_that_text_does_not_run(monkeypatch):
    everything = {
        type(part.config)
        for part in tiny_model("voxtral", "sequence-to-sequence").modules()
        if hasattr(part, "config")
    }
    monkeypatch.setattr(dispatching, "_text_configs", lambda model: everything)
    with pytest.raises(Wrong, match="estimate the prior of 'audio_tower"):
        tried("voxtral", "sequence-to-sequence")


def test_a_trial_notices_tokens_that_meet_where_the_prior_is_alone(monkeypatch):
    monkeypatch.setattr("scripts.trial.OTHER_MIXING", ())
    with pytest.raises(Wrong, match="the prior alone: input_ids moves others"):
        tried("mobilebert", "masked")
