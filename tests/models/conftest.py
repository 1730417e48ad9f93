"""Models for the contract."""

import pytest
import torch

from tests.models.architectures import ARCHITECTURES
from tests.models.running import converted


@pytest.fixture(params=ARCHITECTURES, ids=str)
def architecture(request):
    return request.param


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
