from datetime import timedelta

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvreg.data import arrow
from nvreg.errors import UserError
from tests.data.reading import load, records_of, texts_of, write


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


NAMED = datasets.Features(
    {
        "text": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["neg", "pos"]),
        "inner": {"label": datasets.ClassLabel(names=["x", "y"])},
        "tags": datasets.List(datasets.ClassLabel(names=["O", "B"])),
    }
)


def named(labels):
    columns = {"label": labels, "inner": [{"label": 1}] * 2, "tags": [[0, 1], [1]]}
    return datasets.Dataset.from_dict({"text": ["a", "b"], **columns}, features=NAMED)


def from_file(directory, labels):
    named(labels).to_parquet(directory / "test.parquet")
    return {"files": directory / "test.parquet"}


def from_hub(directory, labels):
    named(labels).to_parquet(directory / "set" / "test.parquet")
    return {"hub": directory / "set", "split": "test"}


@pytest.mark.parametrize("source", [from_file, from_hub])
def test_numbered_classes_become_their_names_and_below_0_are_missing(tmp_path, hub_cache, source):
    required, columns = ("label", "tags"), {"label": "label"}
    place = source(tmp_path, [1, 0])
    assert records_of(required, columns, **place) == [
        {"label": "pos", "tags": ["O", "B"]},
        {"label": "neg", "tags": ["B"]},
    ]
    assert records_of(("label",), {"label": "inner.label"}, **place) == [{"label": "y"}] * 2


@pytest.mark.parametrize("source", [from_file, from_hub])
def test_a_number_of_no_class_is_refused(tmp_path, hub_cache, source):
    with pytest.raises(UserError, match=r"record 2, column 'label': expected a label.*got nothing"):
        records_of(("label",), **source(tmp_path, [1, -1]))


@pytest.mark.parametrize("name", ["inner.label", "inner.text"])
def test_what_a_missing_record_would_hold_is_refused(tmp_path, name):
    features = datasets.Features({"inner": {**NAMED["inner"], "text": NAMED["text"]}})
    inner = [{"label": 1, "text": "a"}, None]
    datasets.Dataset.from_dict({"inner": inner}, features=features).to_parquet(tmp_path / "a.parquet")
    column = name.removeprefix("inner.")
    with pytest.raises(UserError, match=rf"record 2, column '{name}': .*got nothing"):
        records_of((column,), {column: name}, files=tmp_path / "a.parquet")


@pytest.mark.parametrize("source", [from_file, from_hub])
def test_missing_columns_are_named_with_those_that_there_are(tmp_path, hub_cache, source):
    with pytest.raises(UserError, match=r"expected a column 'inner', got text, label, inner\.label, tags;"):
        records_of(("label",), {"label": "inner"}, **source(tmp_path, [1, 0]))


@pytest.mark.parametrize("source", [from_file, from_hub])
def test_a_limit_is_the_same_of_any_source(tmp_path, hub_cache, source, monkeypatch):
    monkeypatch.setattr(arrow, "_ROWS", 1)
    place = source(tmp_path, [1, 0])
    assert texts_of(**place, limit=1) == ["a"]
    assert texts_of(**place, limit=1, seed=0) == ["b"]
    assert texts_of(**place, limit=3, seed=0) == ["a", "b"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=2, max_size=3)), min_size=1, max_size=5))
def test_parquet_is_read_as_written(tmp_path_factory, records):
    path = tmp_path_factory.getbasetemp() / "a.parquet"
    rows = [{"inner": {"text": text}, "choices": choices} for text, choices in records]
    pq.write_table(pa.Table.from_pylist(rows), path)
    found = records_of(("text", "choices"), {"text": "inner.text"}, files=path)
    assert found == [{"text": text, "choices": choices} for text, choices in records]


def test_what_is_not_asked_for_may_be_anything(tmp_path):
    """Among it types that data sets of the hub do not have."""
    columns = {
        "text": pa.array(["a", "b"]).dictionary_encode(),
        "map": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())),
        "duration": pa.array([timedelta(1), None]),
        "a.b": pa.array(["c", "d"]),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    found = records_of(("text", "source"), {"source": "a.b"}, files=tmp_path / "a.parquet")
    assert found == [{"text": "a", "source": "c"}, {"text": "b", "source": "d"}]


def test_what_parquet_says_is_no_text_is_refused(tmp_path):
    pd.DataFrame({"text": pd.to_datetime(["2010-02-11"])}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(
        UserError, match=r"record 1, column 'text': expected text, got .*(datetime|Timestamp)"
    ):
        texts_of(files=tmp_path / "a.parquet")


def test_reading_prints_nothing_and_restores_what_datasets_printed(tmp_path, hub_cache, capfd):
    datasets.enable_progress_bars()
    verbosity = datasets.logging.get_verbosity()
    place = from_hub(tmp_path, [1, 0])
    capfd.readouterr()
    texts_of(**place)
    with pytest.raises(UserError):
        texts_of(hub=tmp_path / "none", split="test")
    assert capfd.readouterr() == ("", "")
    assert not datasets.are_progress_bars_disabled()
    assert datasets.logging.get_verbosity() == verbosity


def test_hub_data_set_has_splits_and_nested_columns(tmp_path, hub_cache):
    directory = tmp_path / "set"
    directory.mkdir()
    write(directory / "test.jsonl", '{"translation": {"en": "a", "de": "b"}}\n')
    columns = {"source": "translation.en", "target": "translation.de"}
    assert load(hub=directory, split="test", columns=columns).records == [{"source": "a", "target": "b"}]
    with pytest.raises(UserError, match=r"expected a split, one of test, got none"):
        load(hub=directory, columns=columns)
    with pytest.raises(UserError, match=r"expected a data set of the hub, got: .*Unknown split"):
        load(hub=directory, split="train", columns=columns)


def test_configs_of_the_hub_s_own_conversion_are_folders(tmp_path, hub_cache):
    for config in ("en-de", "en-fr"):
        table = datasets.Dataset.from_dict({"en": [config], "de": ["a"]})
        table.to_parquet(tmp_path / "set" / config / "test" / "0000.parquet")
    found = load(hub=tmp_path / "set", revision="refs/convert/parquet", config="en-fr", split="test")
    assert found.records == [{"source": "en-fr", "target": "a"}]


def test_unreachable_hub_says_how_to_go_on_without_it(hub_cache):
    with pytest.raises(UserError, match=r"nvreg-tests/none: .*got no connection.*give its path as files"):
        load(hub="nvreg-tests/none", split="test")


@pytest.mark.parametrize("value", [2, 10**6])
def test_the_number_of_no_class_is_refused_by_column(tmp_path, value):
    path = tmp_path / "test.parquet"
    schema = NAMED.arrow_schema
    plain = pa.table({"text": ["a"], "label": [value], "inner": [{"label": 1}], "tags": [[0]]})
    pq.write_table(plain.replace_schema_metadata(schema.metadata), path)
    message = f"test.parquet, column 'label': expected the number of a class, below 2, got {value}"
    with pytest.raises(UserError, match=message):
        records_of(("text", "label"), files=path)


@pytest.mark.parametrize(
    "features", [b"{", b"[]", b'{"info": {"features": []}}', b'{"info": {"features": 1}}']
)
def test_what_a_file_says_of_its_columns_is_refused_or_passed_over(tmp_path, features):
    path = tmp_path / "test.parquet"
    table = pa.table({"text": ["a"]}).replace_schema_metadata({b"huggingface": features})
    pq.write_table(table, path)
    try:
        assert records_of(files=path) == [{"text": "a"}]
    except UserError as error:
        assert str(error).startswith(f"{path}: expected parquet, got: ")  # noqa: PT017
