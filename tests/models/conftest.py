"""Models for the contract."""

import pytest
import torch

from tests.models.architectures import ARCHITECTURES, IN_HEAD_SPACE
from tests.models.running import converted, each_of

IN_EVERY_FORM = {"test_it_is_the_definition", "test_identity_is_bit_identical"}
"""Run on every architecture in the default suite."""


def pytest_generate_tests(metafunc):
    if "architecture" not in metafunc.fixturenames or any(
        "architecture" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")
    ):
        return
    name = metafunc.function.__name__
    both = getattr(metafunc.module, "IN_BOTH_SPACES", False) and not name.endswith("_in_input_space")
    architectures = [*ARCHITECTURES, *(IN_HEAD_SPACE if both else [])]
    if name in IN_EVERY_FORM:
        metafunc.parametrize("architecture", architectures, ids=str)
    else:
        metafunc.parametrize("architecture", each_of(architectures))


@pytest.fixture
def no_gradients():
    with torch.inference_mode(mode=False), torch.no_grad():
        yield


@pytest.fixture
def generating(architecture):
    if not architecture.can_generate:
        pytest.skip(f"{architecture} does not generate")


@pytest.fixture
def plain(architecture):
    return architecture.build()


@pytest.fixture
def model(architecture):
    """The same model, converted, with settings that use every branch."""
    return converted(architecture.build())


@pytest.fixture
def compiled():
    """How to compile a model, without generating code; as a whole, or fail."""
    torch._dynamo.reset()
    return lambda model, *, whole=True: torch.compile(model, backend="eager", fullgraph=whole)
