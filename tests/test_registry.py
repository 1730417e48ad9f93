from typing import Annotated

import pytest
from pydantic import TypeAdapter, ValidationError

from nvreg.config.sections import NameIn
from nvreg.errors import UserError
from nvreg.registry import Registry


@pytest.fixture
def registry():
    return Registry(
        "colour", {"red": 1, "green": "math:pi", "blue": 3}, refused={"mauve": "nobody can spell it"}
    )


def test_values_come_in_the_order_of_registration_and_are_imported_when_asked_for(registry):
    import math

    registry["yellow"] = 4
    assert list(registry) == ["red", "green", "blue", "yellow"]
    assert list(registry.values()) == [1, math.pi, 3, 4]
    assert registry["green"] is registry["green"]


def test_names_are_listed_and_checked_without_an_import():
    registry = Registry("colour", {"grey": "nvreg.no_such_module:grey"})
    assert list(registry) == ["grey"]
    assert "grey" in registry
    assert registry.check("grey") == "grey"
    with pytest.raises(ModuleNotFoundError):
        registry["grey"]


def test_a_name_that_does_not_exist_lists_those_that_do_and_the_nearest(registry):
    message = r"^colour: expected one of red, green, blue, got 'gren', did you mean 'green'\?$"
    with pytest.raises(UserError, match=message):
        registry["gren"]
    with pytest.raises(UserError, match=r"got 'crimson'$"):
        registry["crimson"]


def test_a_name_that_is_refused_says_why(registry):
    with pytest.raises(UserError, match=r"got 'mauve', which is not offered: nobody can spell it$"):
        registry["mauve"]
    assert "mauve" not in registry


def test_it_is_a_mapping(registry):
    assert registry.get("crimson", 7) == 7
    del registry["red"]
    assert list(registry) == ["green", "blue"]
    assert len(registry) == 2


def test_its_names_are_a_type_of_pydantics(registry):
    adapter = TypeAdapter(Annotated[str, NameIn(registry)])
    registry["yellow"] = 4
    assert adapter.json_schema() == {"type": "string", "enum": ["red", "green", "blue", "yellow"]}
    assert adapter.validate_python("yellow") == "yellow"
    with pytest.raises(ValidationError, match="expected one of red, green, blue, yellow, got 'gren'"):
        adapter.validate_python("gren")
