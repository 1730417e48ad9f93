import pytest

from nvreg.errors import UserError
from nvreg.tasks.labels import number_of

NAMES = ["contradiction", "Neutral", "3"]


@pytest.mark.parametrize(
    ("label", "renamed", "number"),
    [
        ("contradiction", None, 0),
        ("NEUTRAL", None, 1),
        (1, None, 1),
        ("0", None, 0),
        (3, None, 2),
        ("no", {"no": "contradiction", "maybe": "Neutral"}, 0),
        ("maybe", {"maybe": "neutral"}, 1),
        (0, {"0": "Neutral", "1": "contradiction"}, 1),
        ("A", {"A": "0", "B": "1"}, 0),
        ("Neutral", {"no": "contradiction"}, 1),
    ],
)
def test_a_label_is_a_name_or_a_number_of_the_model_or_what_is_renamed_to_one(label, renamed, number):
    assert number_of(label, NAMES, renamed, record=1) == number


@pytest.mark.parametrize(
    ("label", "renamed"), [("entailment", None), (4, None), (-1, None), ("2.0", None), ("a", {"a": "b"})]
)
def test_another_label_is_refused_with_the_models(label, renamed):
    received = (renamed or {}).get(label, label)
    message = f"^record 7: .* contradiction, Neutral, 3 or a number of 0 to 2, received {received}; say under"
    with pytest.raises(UserError, match=message):
        number_of(label, NAMES, renamed, record=7)
