"""``nvreg schema``."""

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from nvreg.cli.options import one_of, say

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Kind = Annotated[
    Literal["experiment", "finetune", "evaluation", "trial", "manifest", "prior", "settings"],
    one_of(
        "--kind",
        "experiment",
        "finetune",
        "evaluation",
        "trial",
        "manifest",
        "prior",
        "settings",
        help="The file of nvreg sweep or of nvreg finetune, or what nvreg evaluate writes; of what runs "
        "leave, a line of trials.jsonl, "
        "manifest.json, the metadata of a prior's file or, in a converted checkpoint, nvreg.json.",
    ),
]


def schema(kind: Kind = "experiment") -> None:
    """Print the JSON Schema of a file, by which editors complete and check its keys.

    Save it, and begin the file with: # yaml-language-server: $schema=FILE

    Example:
        nvreg schema

        nvreg schema --kind finetune
    """
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    mode: Literal["validation", "serialization"] = "serialization" if kind == "evaluation" else "validation"
    say(json.dumps({**dialect, **_adapter(kind).json_schema(mode=mode)}, indent=1))


def _adapter(kind: str) -> "TypeAdapter[Any]":
    """Return what describes files of a kind; what imports torch is imported for its own kinds alone."""
    from pydantic import TypeAdapter

    match kind:
        case "experiment":
            from nvreg.experiment import Experiment

            return TypeAdapter(Experiment)
        case "finetune":
            from nvreg.finetune.schema import FineTuning

            return TypeAdapter(FineTuning)
        case "evaluation":
            from nvreg.evaluation.result import Result

            return TypeAdapter(Result)
        case "trial":
            from nvreg.results import TRIAL

            return TRIAL
        case "prior":
            from nvreg.prior.artefact import DESCRIPTION

            return DESCRIPTION
        case "manifest":
            from nvreg.results import MANIFEST_OF_SWEEP

            return MANIFEST_OF_SWEEP
        case _:
            from nvreg.checkpoint import SETTINGS

            return SETTINGS
