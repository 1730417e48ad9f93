"""The JSON Schemas of the files: what nvreg accepts, and what it refuses."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from nvreg.cli.schema import SCHEMAS
from nvreg.config.yaml import read_yaml
from tests.cli.running import run
from tests.conftest import EXPERIMENT

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
FILES = sorted(EXPERIMENTS.glob("*/*.yaml"))
FINETUNINGS = sorted(EXPERIMENTS.glob("*/finetuning/*.yaml"))


@pytest.fixture(scope="module")
def schemas():
    """The schema of each kind of file, checked."""
    found = {kind: json.loads(run("schema", "--kind", kind).stdout) for kind in SCHEMAS}
    for schema in found.values():
        Draft202012Validator.check_schema(schema)
    return {kind: Draft202012Validator(schema) for kind, schema in found.items()}


@pytest.mark.parametrize(
    ("kind", "path"),
    [*(("experiment", path) for path in FILES), *(("finetune", path) for path in FINETUNINGS)],
    ids=lambda value: getattr(value, "stem", value),
)
def test_every_file_of_ours_is_valid(schemas, kind, path):
    schemas[kind].validate(read_yaml(path.read_text()))


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_key_is_described_in_a_sentence(schemas, kind):
    described = schemas[kind].schema
    sections = {kind: described, **described.get("$defs", {})}

    def description(value):
        """Return the key's own, or that of the section it holds where both are the same."""
        of_section = sections.get(value.get("$ref", "").rpartition("/")[2], {})
        return value.get("description") or of_section.get("description", "")

    keys = {
        f"{section}.{key}": description(value)
        for section, parts in sections.items()
        for key, value in parts.get("properties", {}).items()
    }
    assert len(keys) > 1
    assert described["description"]
    assert [key for key, description in keys.items() if not description.endswith(".")] == []


LONG = """{sampler: grid, methods: {
  nv: {space: {tau_mu: 0.5}, enqueue: [{tau_alpha: {cross: inf}}]},
  wise-ft: {pretrained: x, space: {mix: 0.5}}}}"""


@pytest.mark.parametrize(
    "sweep",
    [
        LONG,
        "{sampler: tpe, trials: 3, seed: 3, racing: {after: 5}, space: {prior_weight: [1e-3, 0.5]}}",
        "{sampler: random, trials: 3, seeds: [3, 4], method: wise-ft, pretrained: x, space: {mix: [0, 1]}}",
    ],
)
def test_both_forms_of_a_sweep_are_valid(schemas, sweep):
    schemas["experiment"].validate(read_yaml(EXPERIMENT) | {"sweep": read_yaml(sweep)})


@pytest.mark.parametrize(
    "sweep",
    [
        "{sampler: bayes, trials: 3, space: {tau_mu: 0.5}}",
        "{sampler: grid}",
        "{sampler: grid, space: {tau_mu: 0.5}, methods: {nv: {space: {tau_mu: 0.5}}}}",
        "{sampler: grid, methods: {nv: {space: {mix: 0.5}}}}",
        "{sampler: grid, methods: {nvv: {space: {tau_mu: 0.5}}}}",
        "{sampler: grid, methods: {wise-ft: {space: {mix: 0.5}}}}",
        "{sampler: grid, methods: {nv: {pretrained: x, space: {tau_mu: 0.5}}}}",
        "{sampler: grid, method: dropout, space: {tau_mu: 0.5}}",
        "{sampler: grid, trails: 3, space: {tau_mu: 0.5}}",
    ],
)
def test_mistakes_in_a_sweep_are_not(schemas, sweep):
    document = read_yaml(EXPERIMENT) | {"sweep": read_yaml(sweep)}
    assert list(schemas["experiment"].iter_errors(document))


@pytest.mark.parametrize("key", ["task", "selection.metric", "selection.protocols.0", "evaluation.metrics.0"])
def test_names_are_those_that_are_registered(schemas, key):
    document = read_yaml(EXPERIMENT)
    *parents, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    place = document
    for parent in parents:
        place = place[parent]
    place[last] = "no such name"
    (error,) = schemas["experiment"].iter_errors(document)
    assert "enum" in str(error.schema)
