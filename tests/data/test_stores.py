"""Files by their addresses, directories that `datasets` saved, and parts of data sets of the hub."""

import gzip
import json
import os
import sys

import datasets
import fsspec
import pytest

from nvreg.config import Source, source_of
from nvreg.data import load_examples
from nvreg.errors import UserError
from nvreg.experiment import load_experiment
from nvreg.sweep.manifest import conditions_of
from nvreg.sweep.workbench import open_workbench
from nvreg.text import without_secrets
from tests.data.reading import json_lines, load, records_of, texts_of
from tests.fake_hub import READER, Repo

TEXTS = [f"text {number}" for number in range(10)]
RECORDS = [{"text": text} for text in TEXTS]
LINES = json_lines(RECORDS).encode()


@pytest.fixture
def memory():
    """A store in memory, which is empty."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    yield store
    store.store.clear()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


FORMATS = {
    "a.jsonl": LINES,
    "a.jsonl.gz": gzip.compress(LINES),
    "a.csv": "\n".join(["text", *TEXTS]).encode(),
    "a.txt": "\n".join(TEXTS).encode(),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_a_store_is_read_as_one_of_this_machine(memory, tmp_path, name):
    memory.pipe(f"/data/{name}", FORMATS[name])
    (tmp_path / name).write_bytes(FORMATS[name])
    there = load(("text",), {}, files=f"memory://data/{name}")
    here = load(("text",), {}, files=tmp_path / name)
    assert there.records == here.records == RECORDS
    assert there.fingerprint == here.fingerprint
    assert texts_of(files=f"file://{tmp_path / name}", limit=3, seed=0) == texts_of(
        files=tmp_path / name, limit=3, seed=0
    )


def test_parquet_and_globs_and_pairs_of_a_store(memory, tmp_path):
    datasets.Dataset.from_list(RECORDS).to_parquet(tmp_path / "a.parquet")
    memory.pipe("/data/a.parquet", (tmp_path / "a.parquet").read_bytes())
    assert texts_of(files="memory://data/a.parquet") == TEXTS
    for part in ("1", "0"):
        memory.pipe(f"/data/part-{part}.jsonl", json_lines([{"text": part}]).encode())
    assert texts_of(files="memory://data/part-*.jsonl") == ["0", "1"]
    memory.pipe("/data/a.en", b"a\nb\n")
    memory.pipe("/data/a.de", b"c\nd\n")
    pairs = load(("source", "target"), {}, source_file="memory://data/a.en", target_file="memory://data/a.de")
    assert pairs.records == [{"source": "a", "target": "c"}, {"source": "b", "target": "d"}]


BROKEN = {
    "memory://data/none.jsonl": "expected a file, or files that match, got none",
    "memory://data/none-*.jsonl": "expected a file, or files that match, got none",
    "memory://data": "expected a file, or files that match, got a directory",
    "memory://data/bad.jsonl": "line 1: expected text in UTF-8, got the byte 0xff",
    "memory://data/bad.parquet": "expected parquet",
    "nostore://data/a.jsonl": "expected one of ",
    "github://data/a.jsonl": "expected a ",  # file that can be read, or package that reads it
    "ftp://127.0.0.1:9/a.jsonl": "got no connection ",
}


@pytest.mark.parametrize("address", BROKEN)
def test_what_cannot_be_read_of_a_store_is_one_line(memory, address):
    memory.pipe("/data/bad.jsonl", b"\xff\n")
    memory.pipe("/data/bad.parquet", b"no")
    with pytest.raises(UserError) as refused:
        texts_of(files=address)
    assert BROKEN[address] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_store_that_nothing_reads_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(
        UserError, match=r"s3://.*got none \(Install s3fs .*\); install it, or download the file"
    ):
        texts_of(files="s3://bucket/a.jsonl")


def test_an_address_is_no_path_beside_the_file(tmp_path):
    for address in ("s3://bucket/a.jsonl", "hf://datasets/org/set/a.jsonl"):
        source = Source.model_validate({"files": address}, context={"directory": tmp_path})
        assert source.files == address


@pytest.mark.parametrize("password", ["sesame-open", "a:b", ""])
def test_an_address_with_a_password_is_refused_and_not_shown(password):
    with pytest.raises(UserError, match="expected an address without a password") as refused:
        source_of(f"https://me:{password}@example.org/a.jsonl", "test")
    assert not password or password not in without_secrets(str(refused.value))
    assert source_of("https://example.org/a:b@c.jsonl", "test").files  # no part of the host


# --- directories that datasets saved --------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    whole = datasets.Dataset.from_list(RECORDS)
    whole.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": whole, "test": whole.select(range(4))}).save_to_disk(
        str(tmp_path / "several")
    )
    return tmp_path


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ({"files": "one"}, TEXTS),
        ({"files": "one", "split": "train[2:4]"}, TEXTS[2:4]),
        ({"files": "several", "split": "test"}, TEXTS[:4]),
        ({"files": "several", "split": "train[:50%]"}, TEXTS[:5]),
        ({"files": "several", "split": "train[8:]+test[:1]"}, [*TEXTS[8:], TEXTS[0]]),
    ],
)
def test_a_saved_directory_is_read_by_its_splits(saved, place, expected):
    place = {**place, "files": str(saved / place["files"])}
    assert texts_of(**place) == expected
    assert texts_of(**place, limit=2) == expected[:2]


def test_a_saved_directory_has_the_fingerprint_of_its_records(saved):
    (saved / "a.jsonl").write_bytes(LINES)
    one = load(("text",), {}, files=saved / "one")
    assert one.fingerprint == load(("text",), {}, files=saved / "a.jsonl").fingerprint


def test_a_saved_directory_may_be_in_a_store(saved, memory):
    memory.put(str(saved / "several"), "/kept", recursive=True)
    assert texts_of(files="memory://kept", split="test") == TEXTS[:4]


def test_what_a_saved_directory_has_not_is_one_line(saved):
    with pytest.raises(UserError, match=r"several: expected a split, one of train, test, got none"):
        texts_of(files=saved / "several")
    with pytest.raises(
        UserError, match=r"several: expected a directory that save_to_disk wrote, got: .*none"
    ):
        texts_of(files=saved / "several", split="none")
    for path in (saved / "one").glob("*.arrow"):
        path.write_bytes(b"no")
    with pytest.raises(UserError, match=r"one: expected a directory that save_to_disk wrote, got: "):
        texts_of(files=saved / "one")


# --- parts and streams of data sets of the hub ----------------------------------------------------


@pytest.fixture(params=["jsonl", "parquet"])
def laid_out(request, tmp_path, cache):
    directory = tmp_path / "set"
    directory.mkdir()
    if request.param == "jsonl":
        (directory / "test.jsonl").write_bytes(LINES)
    else:
        datasets.Dataset.from_list(RECORDS).to_parquet(directory / "test.parquet")
    return str(directory)


PARTS = {"test[:3]": TEXTS[:3], "test[4:6]": TEXTS[4:6], "test[8:]": TEXTS[8:], "test": TEXTS}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("split", PARTS)
def test_a_part_of_a_split_is_the_same_streamed_or_not(laid_out, split, streaming):
    place = {"hub": laid_out, "split": split, "streaming": streaming}
    assert texts_of(**place) == PARTS[split]
    assert texts_of(**place, limit=2) == PARTS[split][:2]
    assert (
        load(("text",), {}, **place).fingerprint == load(("text",), {}, hub=laid_out, split=split).fingerprint
    )


def test_a_random_part_of_a_stream_is_that_of_the_whole(laid_out):
    drawn = texts_of(hub=laid_out, split="test", streaming=True, limit=4, seed=1)
    assert drawn == texts_of(hub=laid_out, split="test", limit=4, seed=1)
    half = texts_of(hub=laid_out, split="test", streaming=True, part=[0, 0.5])
    assert half == texts_of(hub=laid_out, split="test", part=[0, 0.5])


@pytest.mark.parametrize("split", ["test[:50%]", "test[-3:]"])
def test_what_needs_the_number_of_records_is_not_streamed(laid_out, split):
    assert texts_of(hub=laid_out, split=split)
    with pytest.raises(UserError, match=r"as test\[:500\], with streaming, got 'test\[.*leave streaming out"):
        texts_of(hub=laid_out, split=split, streaming=True)


def test_names_of_classes_are_those_of_a_stream_too(tmp_path, cache):
    features = datasets.Features({"label": datasets.ClassLabel(names=["neg", "pos"])})
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict({"label": [1, 0]}, features).to_parquet(tmp_path / "set/test.parquet")
    place = {"hub": str(tmp_path / "set"), "split": "test", "streaming": True}
    assert records_of(("label",), **place) == [{"label": "pos"}, {"label": "neg"}]
    with pytest.raises(UserError, match=r"expected a column 'text', got label"):
        texts_of(**place)


def test_name_stands_for_config():
    assert Source.model_validate({"hub": "a/b", "name": "de"}).config == "de"
    with pytest.raises(ValueError, match="expected config or name, which stands for it, got both"):
        Source.model_validate({"hub": "a/b", "name": "de", "config": "en"})
    assert "name" in Source.model_json_schema()["properties"]


@pytest.fixture
def data_set(hub):
    hub.repos["datasets/org/set"] = Repo()
    sha = hub.repos["datasets/org/set"].commit("main", {"test.jsonl": LINES})
    hub.repos["datasets/org/set"].commit("less", {"test.jsonl": json_lines(RECORDS[:2]).encode()})
    return sha


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_of_the_hub_has_revisions(data_set, streaming):
    place = {"hub": "org/set", "split": "test[:3]", "streaming": streaming}
    assert texts_of(**place, revision=data_set) == TEXTS[:3]
    assert texts_of(**place, revision="less") == TEXTS[:2]


def test_a_file_of_the_hub_is_read_by_its_address(hub, data_set, monkeypatch):
    assert texts_of(files="hf://datasets/org/set/test.jsonl") == TEXTS
    assert texts_of(files="hf://datasets/org/set@less/test.jsonl") == TEXTS[:2]
    assert texts_of(files="hf://datasets/org/set/*.jsonl") == TEXTS
    with pytest.raises(UserError, match=r"org/none.*got none, or none for this token \(401\)"):
        texts_of(files="hf://datasets/org/none/test.jsonl")
    hub.repos["datasets/org/set"].private = True
    monkeypatch.setenv("HF_TOKEN", READER)
    assert texts_of(hub="org/set", split="test") == TEXTS


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_that_there_is_not_is_one_line(hub, streaming):
    with pytest.raises(UserError) as refused:
        texts_of(hub="org/none", split="test", streaming=streaming)
    assert "org/none: expected a data set of the hub, got Dataset 'org/none' doesn't exist" in str(
        refused.value
    )
    assert "give its path as files" in str(refused.value)
    assert "\n" not in json.dumps(str(refused.value))


def test_a_run_s_conditions_are_those_of_its_records(tiny_experiment, tmp_path, memory):
    lines = (tiny_experiment.parent / "home/validation.jsonl").read_text()
    datasets.Dataset.from_list(list(map(json.loads, lines.splitlines()))).save_to_disk(
        str(tmp_path / "saved")
    )
    memory.pipe("/there.jsonl", lines.encode())
    places = [[], [tmp_path / "saved"], ["memory://there.jsonl"]]
    told = []
    for place in places:
        changes = [f"data.in_domain.validation={{files: {each}}}" for each in place]
        workbench = open_workbench(load_experiment(tiny_experiment, changes))
        validation = workbench.scored["home"]["validation"].examples
        told.append((conditions_of(workbench, "cpu"), validation.fingerprint))
    assert told[0] == told[1] == told[2]


def test_a_command_line_names_what_a_file_of_an_experiment_does(memory, data_set, saved):
    """A path, an address, a data set of the hub, or all keys of a source; what else it says goes before."""
    memory.pipe("/data/a.jsonl", LINES)

    def texts(written, split="test", **others):
        return [
            each["text"] for each in load_examples(source_of(written, split, **others), {}, ["text"]).records
        ]

    assert texts("memory://data/a.jsonl") == TEXTS
    assert texts("hub:org/set") == TEXTS
    assert texts('{hub: org/set, split: "test[:3]", revision: less}') == TEXTS[:2]
    assert texts(f"{{files: {saved / 'several'}, split: test}}", limit=2) == TEXTS[:2]
    words = source_of("a.conll", "train", words="1", tags="-1")
    assert (words.conll, words.token_column, words.tag_column) == (os.path.abspath("a.conll"), 1, -1)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("hub:", "expected hub:NAME or hub:NAME:CONFIG of a data set, got 'hub:'"),
        ("{hub: a, splt: b}", "unknown key.*did you mean 'split'"),
        ("{hub: [", r"expected the keys of a source, as in \{hub: NAME, split: test\}, got"),
        ("{}: a", "expected the keys of a source, as in"),
        ("{}", "expected files, source_file with target_file, conll, or hub; got nothing"),
    ],
)
def test_what_names_no_data_is_one_line(written, message):
    with pytest.raises(UserError, match=message) as refused:
        source_of(written, "test")
    assert "\n" not in str(refused.value)
