"""``nvreg schema``."""

import json
from typing import Annotated, Literal

from nvreg.cli.options import one_of, say

Kind = Annotated[
    Literal["experiment", "finetune"],
    one_of("--kind", "experiment", "finetune", help="The file of nvreg sweep, or of nvreg finetune."),
]


def schema(kind: Kind = "experiment") -> None:
    """Print the JSON Schema of a file, by which editors complete and check its keys.

    Save it, and begin the file with: # yaml-language-server: $schema=FILE

    Example:
        nvreg schema

        nvreg schema --kind finetune
    """
    from nvreg.config import Section
    from nvreg.experiment import Experiment
    from nvreg.finetune.schema import FineTuning

    kinds: dict[str, type[Section]] = {"experiment": Experiment, "finetune": FineTuning}
    described = {"$schema": "https://json-schema.org/draft/2020-12/schema", **kinds[kind].model_json_schema()}
    say(json.dumps(described, indent=1))
