"""Experiment files with comments say what they are made from, whatever that is."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nvreg.config.yaml import read_yaml
from nvreg.start.writing import WIDTH, commented_yaml

KEYS = st.text(min_size=1, max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=150)
VALUES = st.recursive(
    SCALARS | st.lists(SCALARS, max_size=3),
    lambda inner: (
        st.dictionaries(KEYS, inner, max_size=3)
        | st.lists(st.dictionaries(KEYS, inner, min_size=1, max_size=3), max_size=3)
    ),
    max_leaves=12,
)


def paths(value, before=""):
    """All dotted paths of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield f"{before}{key}"
        yield from paths(inner, f"{before}{key}.")


@settings(max_examples=40)
@given(st.data(), st.dictionaries(KEYS, VALUES, min_size=1, max_size=3))
def test_a_reader_of_yaml_reads_the_document_alone(data, document):
    noted = data.draw(
        st.dictionaries(st.sampled_from(list(paths(document))), st.text(max_size=200), max_size=4)
    )
    heading = data.draw(st.lists(st.text(max_size=30), max_size=2))
    assert read_yaml(commented_yaml(document, noted, heading)) == document


def test_white_space_that_begins_a_key_is_kept():
    document = {"a": [{"\xa00": None, "b" * WIDTH: None}]}
    assert read_yaml(commented_yaml(document, {"a.0.\xa00": "note"})) == document


def test_a_comment_stands_beside_its_key_or_above_it():
    document = {"task": "translation", "data": {"a": {"files": "x"}, "b": [{"name": "y", "test": 1}]}}
    notes = {"task": "guess", "data.a": "long " * 30, "data.b.0.test": "two"}
    assert commented_yaml(document, notes, ["top"]).splitlines() == [
        "# top",
        "task: translation  # guess",
        "data:",
        f"  # {('long ' * 21).strip()}",
        f"  # {('long ' * 9).strip()}",
        "  a: {files: x}",
        "  b:",
        "    - name: y",
        "      test: 1  # two",
    ]
    assert all(len(line) <= WIDTH for line in commented_yaml(document, notes).splitlines())
