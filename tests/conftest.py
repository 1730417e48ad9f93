"""What every test may use; no test reaches the network."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

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
