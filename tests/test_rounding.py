import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvreg.rounding import number_text, with_interval


@given(st.floats(allow_nan=False, allow_infinity=False, width=32), st.integers(-40, 40))
def test_a_number_has_a_text_without_a_negative_zero(value, decimals):
    text = number_text(value, decimals)
    assert math.isclose(float(text), value, abs_tol=10.0**-decimals) or abs(float(text)) < 10.0**-decimals
    assert number_text(abs(value), decimals, "+").startswith("+")
    assert not re.fullmatch(r"-0(\.0*)?", text)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.7, 0.6543, 0.7411), "0.700 [0.654, 0.741]"),
        ((12.345678, 12.34, 12.35), "12.3457 [12.3400, 12.3500]"),
        ((1234.5, 1100, 1399), "1230 [1100, 1400]"),
        ((0.7, None, None), "0.7000"),
        ((0.7, 0.7, 0.7), "0.7000 [0.7000, 0.7000]"),
    ],
)
def test_numbers_end_at_the_second_digit_of_the_half_width(numbers, text):
    assert with_interval(*numbers) == text
