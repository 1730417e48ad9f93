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
    ("label", "renamed", "number"),
    [(0, None, 0), (1, None, 1), (3, None, 3), ("7", None, 3), ("A", {"A": "1"}, 1)],
)
def test_a_choice_s_number_is_none_of_the_choices_texts(label, renamed, number):
    assert number_of(label, ["1", "0", "3", "7"], renamed, record=1, by_number=True) == number


def test_text_that_may_be_a_choice_s_text_or_number_is_refused():
    with pytest.raises(UserError, match=r"record 2: .*got '1', which is the number of one and the text of"):
        number_of("1", ["1", "0", "2"], None, record=2, by_number=True)


@pytest.mark.parametrize(
    ("label", "renamed"), [("entailment", None), (4, None), (-1, None), ("2.0", None), ("a", {"a": "b"})]
)
def test_another_label_is_refused_with_the_models(label, renamed):
    got = (renamed or {}).get(label, label)
    message = f"^record 7: .* contradiction, Neutral, 3 or a number of 0 to 2, got {got}; say under"
    with pytest.raises(UserError, match=message):
        number_of(label, NAMES, renamed, record=7)
