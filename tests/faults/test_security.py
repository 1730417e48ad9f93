"""Nothing gets in by what is read, and nothing gets out by what is written."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.running import JOBS, LIMIT, ROOT, Result, run

SECRET = "zq81-secret-zq81"
HUB_TOKEN = "hf_" + "zq81" * 8


def run_with(environment: dict[str, str], *arguments: object, directory: Path) -> Result:
    """Return how a command ends in an environment of its own."""
    done = subprocess.run(
        [Path(sys.executable).with_name("nvreg"), *map(str, arguments)],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.faults
@pytest.mark.parametrize("name", JOBS)
def test_the_environment_is_in_nothing_that_is_written(name, place):
    directory = place(JOBS[name])
    before = set(directory.rglob("*"))
    environment = {"HF_TOKEN": HUB_TOKEN, "MY_PASSWORD": SECRET, "ANYTHING": "zq81-anything"}
    result = run_with(environment, *JOBS[name].arguments, directory=directory)
    assert result.code == 0, result
    written = [path for path in directory.rglob("*") if path.is_file() and path not in before]
    assert written
    for content in [result.out.encode(), result.err.encode(), *(path.read_bytes() for path in written)]:
        assert b"zq81" not in content


@pytest.mark.faults
@pytest.mark.parametrize("token", [HUB_TOKEN, HUB_TOKEN + "\n"])
def test_a_token_is_in_no_message_of_the_hub(token, place):
    directory = place(JOBS["prior"])
    environment = {"HF_TOKEN": token, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": f"http://me:{SECRET}@127.0.0.1:9"}
    result = run_with(
        environment,
        "prior",
        "some/model",
        "out.safetensors",
        *JOBS["prior"].arguments[3:],
        directory=directory,
    )
    assert result.code == 2, result
    assert "zq81" not in result.out + result.err


CODE = """
import pathlib
from transformers import MarianMTModel
pathlib.Path({mark!r}).touch()


class Other(MarianMTModel):
    pass
"""


@pytest.fixture
def with_code(place):
    """A directory whose model comes with code, and the file that the code makes when it is run."""
    directory = place(JOBS["sweep"])
    mark = directory / "code-was-run"
    (directory / "model/other.py").write_text(CODE.format(mark=str(mark)))
    path = directory / "model/config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoModelForSeq2SeqLM": "other.Other"}})
    )
    return directory, mark


@pytest.mark.faults
@pytest.mark.parametrize("name", ["sweep", "finetune", "prior", "fisher"])
def test_code_of_a_checkpoint_is_not_run(name, with_code):
    directory, mark = with_code
    result = run_with(
        {"HF_MODULES_CACHE": str(directory / "modules")}, *JOBS[name].arguments, directory=directory
    )
    assert result.code in (0, 2), result
    assert not mark.exists()


@pytest.mark.faults
@pytest.mark.parametrize(("name", "file"), [("sweep", "tiny.yaml"), ("finetune", "tuning.yaml")])
def test_code_of_a_checkpoint_is_run_where_the_file_says_so_and_named(name, file, with_code):
    directory, mark = with_code
    environment = {"HF_MODULES_CACHE": str(directory / "modules")}
    arguments = JOBS[name].arguments
    refused = run_with(environment, *arguments, "--set", "model.trust_remote_code=true", directory=directory)
    assert "trust_remote_code" in refused.mistake
    assert not mark.exists()
    text = (directory / file).read_text().replace("path: model,", "path: model, trust_remote_code: true,")
    (directory / file).write_text(text)
    result = run_with(environment, *arguments, "--quiet", directory=directory)
    assert result.code == 0, result
    assert mark.exists()
    assert result.err.splitlines()[0].startswith("running the code that comes with ")
    manifest = "run/manifest.json" if name == "sweep" else "tuned/seed-1/training.json"
    assert json.loads((directory / manifest).read_text())["trust_remote_code"] is True


class Harm:
    """What makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


PICKLES = [
    "model/pytorch_model.bin",
    "model/training_args.bin",
    "run/study.db",
    "run/prior.safetensors",
    "home/train.jsonl",
]


@pytest.mark.faults
@pytest.mark.parametrize("file", PICKLES)
def test_no_pickle_is_read(file, place):
    directory = place(JOBS["report"])
    mark = directory / "harm-was-done"
    if file == "model/pytorch_model.bin":
        (directory / "model/model.safetensors").unlink()
    (directory / file).write_bytes(pickle.dumps(Harm(mark)))
    for name in ("sweep", "report", "export", "prior", "fisher", "finetune"):
        result = run(*JOBS[name].arguments, directory=directory)
        assert result.code in (0, 2), result
        assert "Traceback" not in result.err
        assert "weights_only" not in result.err
    assert not mark.exists()
