"""What the schema of every file says of its keys."""

import pytest

from nvreg.config import Evaluation
from nvreg.experiment import Experiment
from nvreg.finetune.schema import FineTuning


@pytest.mark.parametrize("schema", [Experiment, FineTuning], ids=lambda schema: schema.__name__)
def test_every_key_is_described_in_a_sentence(schema):
    described = schema.model_json_schema()
    sections = {schema.__name__: described, **described["$defs"]}

    def description(value):
        """Return the key's own, or that of the section it holds where both are the same."""
        of_section = sections.get(value.get("$ref", "").rpartition("/")[2], {})
        return value.get("description") or of_section.get("description", "")

    keys = {
        f"{section}.{key}": description(value)
        for section, parts in sections.items()
        for key, value in parts.get("properties", {}).items()
    }
    assert len(keys) > 20
    assert [key for key, description in keys.items() if not description.endswith(".")] == []


@pytest.mark.parametrize(
    ("given", "kept"), [([], [1.0]), ([1], [1.0]), ([2, 0.5], [0.5, 1.0, 2.0]), ([2, 1], [1.0, 2.0])]
)
def test_1_is_always_among_the_temperatures_which_ascend(given, kept):
    evaluation = Evaluation(metrics=["nll"], temperatures=given)
    assert (evaluation.temperatures, evaluation.keeps_temperatures) == (kept, len(kept) > 1)
    assert Evaluation(**evaluation.model_dump()) == evaluation


def test_temperatures_are_among_what_trials_compare_by_unless_none_are_kept():
    options = [Evaluation(metrics=["nll"], temperatures=each).options for each in ([], [2], [3])]
    assert [each.get("temperatures") for each in options] == [None, [1.0, 2.0], [1.0, 3.0]]
