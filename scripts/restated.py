"""Write what layouts restate of the installed Transformers into the table that conversion warns by.

    python -m scripts.restated

Run it once the tests of nvreg/models pass on that version; digests of other versions stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator
from pathlib import Path

import transformers
from transformers import CONFIG_MAPPING
from transformers.integrations.sdpa_attention import sdpa_attention_forward

import nvreg
from nvreg.files import write_text
from nvreg.models.registry import ADAPTERS
from nvreg.models.restated import FILE, checked, definitions, digest_of

TABLE = Path(nvreg.__file__).parent / "models" / FILE


def restated(model_types: Container[str] | None = None) -> Iterator[tuple[str, str]]:
    """Yield module and name of head space's function, and of the classes of layouts: by default all."""
    yield sdpa_attention_forward.__module__, sdpa_attention_forward.__name__
    for adapter in ADAPTERS:
        for model_type, pattern in adapter.attention_classes.items():
            if model_types is not None and model_type not in model_types:
                continue
            module = CONFIG_MAPPING[model_type].__module__.replace(".configuration_", ".modeling_")
            found = [name for name in definitions(module) if re.fullmatch(pattern, name)]
            assert found, f"{model_type}: expected {pattern} in {module}"
            yield from ((module, name) for name in found)


def main() -> None:
    """Add the digests of the installed version to the table, and its version to those that it had."""
    table = {
        name: {**checked().get(name, {}), digest_of(module, name): transformers.__version__}
        for module, name in restated()
    }
    write_text(TABLE, json.dumps(table, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
