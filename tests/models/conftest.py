"""Models for the contract."""

import pytest
import torch

from tests.models.architectures import ARCHITECTURES, IN_HEAD_SPACE
from tests.models.running import converted

QUICK_IN_HEAD_SPACE = {"qwen3", "gemma2", "t5 heads"}
"""Run in the default suite; the others in head space in the slow one, but for the following."""

IN_EVERY_FORM = {"test_it_is_the_definition", "test_identity_is_bit_identical"}


def pytest_generate_tests(metafunc):
    if "architecture" not in metafunc.fixturenames or any(
        "architecture" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")
    ):
        return
    is_quick = metafunc.function.__name__ in IN_EVERY_FORM
    late = [
        pytest.param(each, marks=[] if is_quick or each.name in QUICK_IN_HEAD_SPACE else pytest.mark.slow)
        for each in IN_HEAD_SPACE
    ]
    is_of_inputs = metafunc.function.__name__.endswith("_in_input_space")
    both = getattr(metafunc.module, "IN_BOTH_SPACES", False) and not is_of_inputs
    metafunc.parametrize("architecture", [*ARCHITECTURES, *(late if both else [])], ids=str)


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
