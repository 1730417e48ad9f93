"""``nvreg schema``."""

import json
from typing import Annotated, Literal

from nvreg.cli.options import one_of, say

Kind = Annotated[
    Literal["experiment", "finetune", "evaluation"],
    one_of(
        "--kind",
        "experiment",
        "finetune",
        "evaluation",
        help="The file of nvreg sweep or of nvreg finetune, or what nvreg evaluate writes.",
    ),
]


def schema(kind: Kind = "experiment") -> None:
    """Print the JSON Schema of a file, by which editors complete and check its keys.

    Save it, and begin the file with: # yaml-language-server: $schema=FILE

    Example:
        nvreg schema

        nvreg schema --kind finetune
    """
    from nvreg.config import Section
    from nvreg.evaluation.result import Result
    from nvreg.experiment import Experiment
    from nvreg.finetune.schema import FineTuning

    kinds: dict[str, type[Section]] = {"experiment": Experiment, "finetune": FineTuning, "evaluation": Result}
    mode: Literal["validation", "serialization"] = "serialization" if kind == "evaluation" else "validation"
    described = kinds[kind].model_json_schema(mode=mode)
    described = {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}
    say(json.dumps(described, indent=1))
