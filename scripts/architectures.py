"""Try every model type of the installed Transformers that has a text head, and write what became of it.

    python -m scripts.architectures [MODEL_TYPE...]

A tiny model of every type is converted in either space, and compared with the definitions of the tests. The
table comes with nvreg, and `nvreg architectures` prints it. Types that are named are alone tried anew.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers

import nvreg
from nvreg.errors import UserError
from nvreg.files import write_text
from nvreg.models.architectures import FILE, WITH, Tried, trials
from nvreg.models.dispatching import left_alone
from nvreg.models.registry import attention_modules, refused_options
from scripts.tiny_models import HEADS, UNTRIED, tiny_model
from scripts.trial import check

TABLE = Path(nvreg.__file__).parent / "models" / FILE


def types() -> dict[str, list[str]]:
    """Return every model type that has a text head, those with an option that matters too, and its heads."""
    found: dict[str, list[str]] = {}
    for head, model_types in HEADS.items():
        for model_type in model_types:
            found.setdefault(model_type, []).append(head)
    found |= {f"{model_type}{WITH}{option}": found[model_type] for model_type, option in refused_options()}
    return dict(sorted(found.items()))


def tried(model_type: str, head: str) -> Tried:
    """Return what became of a tiny model of a type under a head.

    Raises:
        Wrong: if it is converted, and does not do what the method says.
    """
    if why := UNTRIED.get(model_type):
        return {"untried": why}
    try:
        model = tiny_model(model_type, head)
    except ImportError as error:
        library = re.search(r"requires the (\S+)", str(error))
        return {"untried": f"it needs {library[1] if library else error}"}
    result, refusals = Tried(), {}
    for space in ("inputs", "heads"):
        try:
            sites = nvreg.sites(model, space)
        except UserError as refusal:
            refusals[space] = str(refusal)
            continue
        check(model_type, head, space)
        if space == "heads":
            result["heads"] = sorted(set(left_alone(model, sites).values()))
        else:
            adapters = {type(adapter) for adapter, _ in attention_modules(model).values()}
            result["inputs"] = ", ".join(sorted({each.__module__.rpartition(".")[2] for each in adapters}))
    if len(refusals) == 2:
        by_inputs, by_heads = _reason(refusals["inputs"]), _reason(refusals["heads"])
        is_general = "attention interface" in by_heads
        result["refused"] = (is_general and by_inputs) or by_heads
    elif "inputs" in refusals:
        result["not_inputs"] = _reason(refusals["inputs"]) or "nvreg has no layout for it"
    return result


def _reason(refusal: str) -> str:
    """Return what of a refusal stands in the table: nothing that is a model's own, or an empty text."""
    if refusal.startswith("expected the encoder"):
        return "cross-attention comes without its encoder"
    given = re.search(r"cannot be converted(?: in head space)?: (.*?)(?: \(\w+\))?(?:; .*)?$", refusal)
    return re.sub(r" of \w*[A-Z]\w*(?: at '\S+')?", "", given[1]) if given else ""


def as_json(by_type: Mapping[str, Mapping[str, Tried]]) -> str:
    """Return the table, a line a model type."""
    lines = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(by_head)}" for name, by_head in sorted(by_type.items())
    )
    return f'{{"transformers": "{transformers.__version__}", "trials": {{\n{lines}\n}}}}\n'


def main(named: Sequence[str]) -> int:
    """Write the table; return 1 where a model is wrong or was not tried, 2 where a name is no model type."""
    if unknown := sorted(set(named) - types().keys()):
        print(
            f"architectures: expected model types with a text head, got {', '.join(unknown)}", file=sys.stderr
        )
        return 2
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    by_type = {} if not named else trials()[1]
    wrong = 0
    for model_type, heads in types().items():
        if named and model_type not in named:
            continue
        print(model_type, file=sys.stderr)
        by_type[model_type] = {}
        for head in heads:
            try:
                by_type[model_type][head] = tried(model_type, head)
            except Exception as error:  # what is new in Transformers raises whatever it likes
                print(f"  {head}: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
                wrong += 1
    if not wrong:
        write_text(TABLE, as_json(by_type))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
