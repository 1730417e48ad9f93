import gzip
import json
import os

from nvreg.config import Source
from nvreg.data import load_examples

COLUMNS = {"source": "en", "target": "de"}


def load(required=("source", "target"), columns=COLUMNS, **source):
    """Return the examples of a source, whose paths may be Path objects."""
    given = {key: str(value) if isinstance(value, os.PathLike) else value for key, value in source.items()}
    return load_examples(Source(**given), columns, required)


def records_of(required=("text",), columns=None, **source):
    return load(required, columns or {}, **source).records


def texts_of(**source):
    return [record["text"] for record in records_of(**source)]


def write(path, content):
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def json_lines(records):
    return "".join(json.dumps(record) + "\n" for record in records)
