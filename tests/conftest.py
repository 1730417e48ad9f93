"""What every test may use; no test reaches the network."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from tests.fake_hub import Hub

hypothesis.settings.register_profile("nvreg", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("nvreg")

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # tiny tensors: threads would only wait for each other

HOME = """data:
  columns: {source: en, target: de}
  in_domain:
    name: home
    train:      {files: home/train.jsonl}
    validation: {files: home/validation.jsonl}
"""
"""What files of experiments and of fine-tunings begin their data with."""

EXPERIMENT = (
    HOME
    + """    test:       {files: home/test.jsonl}
  out_of_domain:
    - name: away
      validation: {files: away/validation.jsonl}
      test:       {files: away/test.jsonl}
name: tiny
task: translation
model: {path: model, device: cpu}
sweep:
  sampler: random
  trials: 3
  space:
    tau_alpha: {cross: [-5, 5]}
    tau_sigma: {encoder: [0, 0.5]}
evaluation: {metrics: [perplexity, bleu], generation: {num_beams: 1, max_new_tokens: 8}}
selection: {metric: perplexity, protocols: [in-domain, in-domain-tolerance, oracle]}
output: results/tiny
"""
)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none, and say so."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("expected a GPU that PyTorch sees, got none")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage beside thousands of tests, and leave them and the libraries out of it later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def default_dtype(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have XGLM run in float64: it makes the least number of its dtype a tensor of the default dtype."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is None or getattr(callspec.params.get("architecture"), "model_type", None) != "xglm":
        yield
        return
    import torch

    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have reports lay out their figures and draw none: drawing takes most of a report's time."""
    monkeypatch.setattr("nvreg.report.writing._draw", lambda page, folder: None)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real checkpoints and data next to the repository."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip(f"needs the folder of real checkpoints and data at {path}")
    return path


@pytest.fixture(scope="session")
def tiny_experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment file, with the tiny model and corpus that it names beside it. Not to be changed."""
    from tests.tiny import tiny_marian, write_corpus

    directory = write_corpus(tmp_path_factory.mktemp("experiment"))
    for part in tiny_marian():
        part.save_pretrained(directory / "model")
    path = directory / "tiny.yaml"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on loopback that this process takes for the Hugging Face hub, with nobody logged in."""
    import datasets
    import huggingface_hub
    from huggingface_hub import constants

    from tests.fake_hub import running_hub

    with running_hub() as hub:
        url = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        changes = {
            "ENDPOINT": hub.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": url,
            "HF_HUB_CACHE": str(tmp_path / "hub-cache"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_TOKEN_PATH": str(tmp_path / "token"),
        }
        for name, value in changes.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.endpoint)
        # Transformers keeps what it made at its first call, with the endpoint of then.
        monkeypatch.setattr("transformers.utils.hub._hf_api", None, raising=False)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.endpoint)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub
