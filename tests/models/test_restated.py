"""What conversion restates of Transformers is what it was checked on, or conversion says so."""

import importlib.util
import itertools
import sys
import warnings

import pytest

import nvreg
from nvreg.errors import NvregWarning
from nvreg.models import restated
from nvreg.models.registry import layouts
from nvreg.models.restated import checked, digest_of
from scripts.restated import restated as all_restated
from tests.models.architectures import ARCHITECTURES, random_prior

ONE_OF_EACH = frozenset(model_types[0] for model_types in layouts().values())
"""A model type of every layout: what changes attention in one file mostly does in all."""


@pytest.mark.parametrize("model_types", [ONE_OF_EACH, pytest.param(None, marks=pytest.mark.slow)])
def test_transformers_is_as_it_was_checked(model_types):
    changed = [
        f"{name} of {module}"
        for module, name in all_restated(model_types)
        if digest_of(module, name) not in checked().get(name, {})
    ]
    assert not changed, "hold these against their layouts, run the tests of nvreg/models, then make restated"


# --- what counts ----------------------------------------------------------------------------------

CODE = '''
import torch


def rotate(x):
    """Turn."""
    return -x


class ToyRotaryEmbedding:
    factor = 2.0


class Base:
    pass


class ToyAttention(Base):
    """Attend."""

    def forward(self, x: "torch.Tensor", scale: float = 1.0) -> "torch.Tensor":
        # as it should be
        return f"{scale}" * rotate(x)


def unrelated():
    return 1
'''


COUNT = itertools.count()


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Returns the digest of the attention of a file of this code."""

    def digest(code, name="ToyAttention"):
        module = f"toy_{next(COUNT)}"  # what was read of a module is kept
        path = tmp_path / f"{module}.py"
        path.write_text(code)
        spec = importlib.util.spec_from_file_location(module, path)
        monkeypatch.setitem(sys.modules, module, importlib.util.module_from_spec(spec))
        return digest_of(module, name)

    return digest


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("-x\n", "+x\n"),
        ("factor = 2.0", "factor = 3.0"),
        ("    pass", "    scaled = True"),
        ("scale: float = 1.0", "scale: float = 2.0"),
        ("scale: float = 1.0", "scales: float = 1.0"),
        ("* rotate(x)", "* rotate(rotate(x))"),
    ],
)
def test_a_digest_is_another_where_attention_is(toy, before, after):
    assert before in CODE
    assert toy(CODE.replace(before, after)) != toy(CODE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return 1", "return 2"),
        ('"""Attend."""', '"""Attend to it."""'),
        ("# as it should be", "# as it has to be"),
        ('x: "torch.Tensor"', "x"),
        ("import torch", "import torch as t"),
    ],
)
def test_a_digest_is_the_same_where_attention_is(toy, before, after):
    assert before in CODE
    assert toy(CODE.replace(before, after)) == toy(CODE)


def test_a_digest_is_the_same_in_every_python(toy):
    assert toy(CODE) == "60faccb497a83130"


def test_of_a_function_its_arguments_count(toy):
    code = "def attend(query, key, *, scaling=None):\n    return query\n"
    assert toy(code, "attend") == toy(code.replace("return query", "return key"), "attend")
    assert toy(code, "attend") != toy(code.replace("scaling", "scaling, softcap"), "attend")


def test_without_source_there_is_no_digest(toy):
    assert digest_of("no_such_module", "ToyAttention") is None
    assert toy(CODE, "NoSuchAttention") is None


# --- what conversion says -------------------------------------------------------------------------


@pytest.fixture
def others(monkeypatch):
    """Has other digests in the table."""

    def put(**table):
        monkeypatch.setattr(restated, "checked", lambda: table)
        restated._warn_of_change.cache_clear()

    yield put
    restated._warn_of_change.cache_clear()


def convert(space):
    model = next(each for each in ARCHITECTURES if each.name == "bert").build()
    nvreg.convert_(model, random_prior(model, space=space))


def test_conversion_of_other_attention_warns_once(others):
    others(BertSelfAttention={"0" * 16: "5.1.0", "1" * 16: "5.2.0"})
    expected = (
        r"^expected BertSelfAttention as in Transformers 5\.1\.0 and 5\.2\.0, which conversion was checked "
        r"on, got another in Transformers \d+\.\d+\.\d+: [^\n]+; install [^\n]+, or convert in head space, "
        r"[^\n]+$"
    )
    with pytest.warns(NvregWarning, match=expected) as said:
        convert("inputs")
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", NvregWarning)
        convert("inputs")


def test_head_space_warns_of_the_interface_alone(others):
    others(sdpa_attention_forward={"0" * 16: "5.1.0"})
    with pytest.warns(NvregWarning, match=r"^expected sdpa_attention_forward [^\n]+ was checked$") as said:
        convert("heads")
    assert len(said) == 1


@pytest.mark.parametrize("space", ["inputs", "heads"])
def test_conversion_says_nothing_of_what_was_checked(space):
    restated._warn_of_change.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error", NvregWarning)
        convert(space)
