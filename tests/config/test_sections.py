"""What the schema of every file says of its keys."""

import pytest

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
