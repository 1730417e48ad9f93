"""``nvreg schema``."""

import json
from typing import Annotated, Any, Literal

from nvreg.cli.options import one_of, say
from nvreg.registry import Registry

SCHEMAS: Registry[Any] = Registry(
    "kind",
    {
        "experiment": "nvreg.experiment:Experiment",
        "finetune": "nvreg.finetune.schema:FineTuning",
        "evaluation": "nvreg.evaluation.result:Result",
        "trial": "nvreg.results:TRIAL",
        "manifest": "nvreg.results:MANIFEST_OF_SWEEP",
        "prior": "nvreg.prior.artefact:DESCRIPTION",
        "settings": "nvreg.checkpoint:SETTINGS",
        "finetune-manifest": "nvreg.trained:FINETUNING_MANIFEST",
        "training": "nvreg.trained:TRAINING_RECORD",
        "fisher": "nvreg.finetune.fisher:WRITTEN_SCORES",
    },
)
"""The type of the content of each kind of file, or a `pydantic.TypeAdapter` of it."""

Kind = Annotated[
    str,
    one_of(
        "--kind",
        *SCHEMAS,
        help="The file of nvreg sweep or of nvreg finetune, or what nvreg evaluate writes; of what sweeps "
        "leave, a line of trials.jsonl, manifest.json, the metadata of a prior's file or, in a converted "
        "checkpoint, nvreg.json; of what fine-tunings leave, manifest.json, training.json or a file of "
        "Fisher scores.",
    ),
]


def schema(kind: Kind = "experiment") -> None:
    """Print the JSON Schema of a file, by which editors complete and check its keys.

    Save it, and begin the file with: # yaml-language-server: $schema=FILE

    Example:
        nvreg schema

        nvreg schema --kind finetune
    """
    from pydantic import TypeAdapter

    content = SCHEMAS[kind]
    adapter = content if isinstance(content, TypeAdapter) else TypeAdapter(content)
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    mode: Literal["validation", "serialization"] = "serialization" if kind == "evaluation" else "validation"
    say(json.dumps({**dialect, **adapter.json_schema(mode=mode)}, indent=1))
