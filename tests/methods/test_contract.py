"""What every method promises, on every architecture; most of them in the slow tests."""

import math

import pytest
import torch

from nvreg.methods import METHODS
from nvreg.testing import METHOD_CHECKS, Subject, check_mistake
from tests.estimation.test_calibration import sample
from tests.models.architectures import ARCHITECTURES, random_prior
from tests.models.running import padded

QUICK = ("t5", "bert", "gpt2", "llama")
NOT_IN_HEAD_SPACE = ["falcon", "gpt_neo", "gptj", "megatron-bert", "mpnet", "mvp", "rembert", "tapas", "xglm"]
"""The model types among `ARCHITECTURES` whose softmax is not in Transformers' attention function."""

STRONGER = {
    "nv": [{"tau_alpha": 1.0, "tau_sigma": 0.1}, {"tau_alpha": -2.0, "tau_sigma": 0.1}],
    "nv-gaussian": [{"tau_alpha": 1.0}, {"tau_alpha": -2.0}],
    "nv-no-interpolation": [{"tau_sigma": 0.1}, {"tau_sigma": 0.4}],
    "nv-heads": [{"tau_alpha": 1.0, "noise_share": 0.01}, {"tau_alpha": -2.0, "noise_share": 0.01}],
    "nv-heads-no-interpolation": [{"noise_share": 0.01}, {"noise_share": 0.1}],
    "output-temperature": [{"output_temperature": 1.2}, {"output_temperature": 2.0}],
    "mc-dropout": [{"rate": 0.1, "seed": 1}, {"rate": 0.4, "seed": 1}],
    "temperature": [{"temperature": 1.2}, {"temperature": 0.5}],
    "sink": [{"sink_logit": -1.0}, {"sink_logit": 1.0}],
    "weight-noise": [{"scale": 0.1, "seed": 1}, {"scale": 0.3, "seed": 1}],
    "low-rank": [{"keep": 0.9}, {"keep": 0.4}],
    "wise-ft": [{"mix": 0.9}, {"mix": 0.3}],
    "quantise": [{"bits": 8}, {"bits": 4}],
    "prune": [{"share": 0.3}, {"share": 0.6}],
    "layer-skip": [{"skipped": 1}, {"skipped": 2}],
}
"""By method, a setting and one that regularises more."""

MISTAKES = {
    "nv": {"tau_sigma": -1.0},
    "nv-gaussian": {"tau_mu": 2.0},
    "nv-no-interpolation": {"prior_weight": 1.0},
    "nv-heads": {"noise_share": 1.0},
    "nv-heads-no-interpolation": {"noise_share": -0.1},
    "output-temperature": {"output_temperature": 0.0},
    "mc-dropout": {"rate": 1.0},
    "temperature": {"temperature": 0.0},
    "sink": {"sink_logit": math.inf},
    "weight-noise": {"scale": -0.1},
    "low-rank": {"keep": 0.0},
    "wise-ft": {"mix": {"encoder": 0.5}},
    "quantise": {"bits": 9},
    "prune": {"share": 1.1},
    "layer-skip": {"skipped": 0.5},
}


@pytest.fixture(
    params=[
        pytest.param(each, id=each.name, marks=[] if each.name in QUICK else pytest.mark.slow)
        for each in ARCHITECTURES
    ]
)
def architecture(request):
    return request.param


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Saves another model of an architecture, once."""

    def save(architecture):
        path = tmp_path_factory.getbasetemp() / architecture.name
        if not path.exists():
            architecture.build(seed=1, dtype=torch.float32).save_pretrained(path)
        return str(path)

    return save


@pytest.fixture(params=METHODS)
def method(request, architecture, pretrained):
    """A method; one that needs the pretrained checkpoint has another model of the architecture."""
    method = METHODS[request.param]
    if method.space == "heads" and architecture.model_type in NOT_IN_HEAD_SPACE:
        pytest.skip(f"{architecture} is refused in head space")
    if request.param == "mc-dropout" and architecture.model_type in ("nllb-moe", "whisper"):
        pytest.skip(f"{architecture} drops of tokens by expert, or reads no tokens, and is refused")
    return method(
        **{"pretrained": pretrained(architecture)} if "pretrained" in method.options.model_fields else {}
    )


class ArchitectureSubject(Subject):
    """An architecture as what methods are tried on."""

    def __init__(self, architecture):
        super().__init__(architecture.name, architecture.build)
        self._architecture = architecture
        self.inputs = architecture.inputs

    @property
    def generates(self):
        return self._architecture.can_generate

    def padded(self):
        return padded(self._architecture, "right")

    def sample(self):
        return sample(self._architecture)

    def prior(self, model, space):
        return random_prior(model, space=space)


@pytest.mark.parametrize("check", METHOD_CHECKS, ids=lambda check: check.__name__)
def test_a_method_keeps_its_promises(check, method, architecture):
    weaker, stronger = STRONGER[method.name]
    check(method, ArchitectureSubject(architecture), weaker, stronger)


@pytest.mark.parametrize("name", METHODS)
def test_values_that_cannot_be_are_refused(name):
    check_mistake(METHODS[name], MISTAKES[name])
