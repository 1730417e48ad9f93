"""What fine-tunings say of themselves, read again: as it was written, or refused by file and key."""

import json

import pytest

from nvreg.errors import DamagedError, UserError
from nvreg.trained import read_manifest, read_record, sealed_text, training_seconds

MANIFEST = {
    "name": "tiny",
    "task": "classification",
    "method": "plain",
    "regulariser": {},
    "training": {"epochs": 3},
    "model": "bert 123",
    "data": {"train": {"fingerprint": "a", "examples": 12, "truncated": 0}},
    "reading": {},
}
RECORD = MANIFEST | {
    "seed": 1,
    "seconds": 77.5,
    "epochs": 3.0,
    "steps": 9,
    "best": {"epoch": 3.0, "step": 9, "accuracy": float("nan")},
    "precision": "float32, as asked for",
    "nvreg": "1.0",
}


def write(directory, document, name="training.json"):
    path = directory / name
    path.write_text(sealed_text(document))
    return path


def test_what_is_written_is_read(tmp_path):
    record = read_record(path := write(tmp_path, RECORD))
    assert (record.seed, record.seconds, record.data["train"].examples) == (1, 77.5, 12)
    assert "NaN" not in path.read_text()
    assert read_manifest(write(tmp_path, MANIFEST, "manifest.json")).method == "plain"


@pytest.mark.parametrize("key", RECORD)
def test_a_wrong_value_is_refused_by_file_and_key(tmp_path, key):
    path = tmp_path / "training.json"
    for wrong in [None, True, [1], *((-1, "1") if key in ("seconds", "steps") else ())]:
        path.write_text(json.dumps(RECORD | {"best": {}, key: wrong}))
        with pytest.raises(UserError, match=rf"training.json: {key}\b.*expected .*; put the file"):
            read_record(path)


@pytest.mark.parametrize("key", MANIFEST)
def test_a_lost_key_is_refused(tmp_path, key):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({name: value for name, value in MANIFEST.items() if name != key}))
    with pytest.raises(UserError, match=rf"{key}: expected a value, the key is missing"):
        read_manifest(path)


def test_a_record_that_has_changed_is_refused_and_one_without_a_digest_is_read(tmp_path):
    path = write(tmp_path, RECORD)
    document = json.loads(path.read_text()) | {"seconds": 7.5}
    path.write_text(json.dumps(document))
    for read in (read_record, lambda path: training_seconds(path.parent)):
        with pytest.raises(DamagedError, match=r"training.json: expected what nvreg finetune wrote, got"):
            read(path)
    del document["digest"]
    path.write_text(json.dumps(document))
    assert training_seconds(tmp_path) == 7.5


@pytest.mark.parametrize("content", ["", "[]", "{", '{"seconds": "long"}', "[" * 100_000])
def test_a_file_of_the_name_is_a_record_where_nvreg_wrote_the_checkpoint_alone(tmp_path, content):
    assert training_seconds(tmp_path) is None
    (tmp_path / "training.json").write_text(content)
    assert training_seconds(tmp_path) is None
    (tmp_path / "digests.json").write_text("{}")
    with pytest.raises(UserError, match=r"training.json: "):
        training_seconds(tmp_path)
