"""Numbers as text."""

import math
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvreg.report.cells import RESELECTED, gain_text, score_cell, with_decimals

NAN = float("nan")


def table(*cells: dict[str, float | str]) -> pd.DataFrame:
    empty = dict.fromkeys(
        ["score", "deviation", "difference", "low", "high", "low_reselected", "high_reselected", "p_holm"],
        NAN,
    )
    return pd.DataFrame([{"domain": "talks", "trial": pd.NA} | empty | cell for cell in cells])


def texts(*cells: dict[str, float | str]) -> list[str]:
    return [str(score_cell(cell)) for cell in with_decimals(table(*cells)).to_dict("records")]


def gains(*cells: dict[str, float | str]) -> list[str]:
    return [gain_text(cell) for cell in with_decimals(table(*cells), [RESELECTED]).to_dict("records")]


def cell(score: float, difference: float, half_width: float, reselected: float = NAN, **more: float) -> dict:
    ends = {"low": difference - half_width, "high": difference + half_width}
    ends |= {"low_reselected": difference - reselected, "high_reselected": difference + reselected}
    return {"score": score, "difference": difference, **ends, **more}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (cell(35.1234, 1.2345, 0.9876), "35.12 (+1.23 [+0.25, +2.22])"),
        (cell(0.27265, 0.00055, 0.00031), "0.27265 (+0.00055 [+0.00024, +0.00086])"),
        (cell(12.6912, 0.51, 0.00996), "12.691 (+0.510 [+0.500, +0.520])"),
        (cell(345.678, -12.34, 56.78), "346 (-12 [-69, +44])"),
        (cell(23456.7, 1234.5, 1678.9), "23500 (+1200 [-400, +2900])"),
        (cell(1.23456e9, 1.2e9, 1.5e8), "1.23e+09 (+1.20e+09 [+1.05e+09, +1.35e+09])"),
        (cell(2.0, -1e-9, 0.04), "2.000 (+0.000 [-0.040, +0.040])"),
    ],
)
def test_numbers_end_at_the_second_digit_of_the_half_width(given, shown):
    assert texts(given) == [shown]


def test_the_interval_that_repeats_the_choice_is_shown_and_sets_the_digits():
    both = cell(0.2793, 0.0077, 0.0025, 0.0127, p_holm=0.0012)
    assert texts(both) == ["0.279 (+0.008 {-0.005, +0.020})"]
    assert gains(both) == ["+0.008 {-0.005, +0.020}"]
    with_other = both | {"deviation": 0.0412, "other": 0.2716}
    assert texts(with_other) == ["0.272 → 0.279 ± 0.041 (+0.008 {-0.005, +0.020})"]


def test_all_else_unfolds_with_the_digits_of_the_narrower_interval():
    more = {"p_holm": 0.0012, "trial": 3, "method": "nv", "setting": '{"tau_sigma": {"cross": 0.5}}'}
    (record,) = with_decimals(table(cell(0.2793, 0.0077, 0.0025, 0.0127) | more)).to_dict("records")
    assert list(score_cell(record).facts) == [
        "difference +0.0077",
        "choice repeated {-0.0050, +0.0204}",
        "choice as given [+0.0052, +0.0102]",
        "p = 0.001",
        "trial 3: tau_sigma cross=0.5",
    ]
    assert score_cell(record).value == 0.2793
    (record,) = with_decimals(table(cell(0.2793, 0.0077, 0.0025) | {"p_holm": 0.0002})).to_dict("records")
    assert "p < 0.001" in score_cell(record).facts


def test_better_and_worse_have_a_sign():
    (record,) = with_decimals(table(cell(0.28, 0.008, 0.0025, 0.0127))).to_dict("records")
    assert str(score_cell(record, "better")).endswith(") ✓")
    assert str(score_cell(record, "worse")).endswith(") ✗")


@pytest.mark.parametrize("width", [0.0, 1e-12])
def test_an_interval_without_width_leaves_the_digits_to_the_other_or_to_the_difference(width):
    assert texts(cell(1.9, -0.1, 0.012, width)) == ["1.900 (-0.100 {-0.100, -0.100})"]
    assert texts(cell(1.9, -0.1, width)) == ["1.90 (-0.10 [-0.10, -0.10])"]
    assert texts(cell(1.9, 0.0, width)) == ["1.900 (+0.000 [+0.000, +0.000])"]


def test_what_is_not_finite_is_a_word_and_an_interval_of_what_is_no_number_is_left_out():
    assert texts(cell(math.inf, math.inf, NAN)) == ["inf (+inf)"]
    assert texts(cell(2.5, -math.inf, math.inf) | {"other": math.inf}) == ["inf → 2.500 (-inf)"]
    assert texts({"score": NAN}) == ["n/a"]
    assert gains({"score": NAN}) == ["n/a"]
    ends = {"low": 0.1, "high": math.inf, "low_reselected": 0.05, "high_reselected": 0.35}
    assert texts({"score": 3.0, "difference": 0.2, **ends}) == ["3.00 (+0.20 {+0.05, +0.35})"]
    ends |= {"low_reselected": NAN, "high_reselected": NAN}
    assert texts({"score": 3.0, "difference": 0.2, **ends}) == ["3.00 (+0.20 [+0.10, +inf])"]


def test_a_score_alone_is_shown_like_the_others_of_its_domain():
    model, same = {"score": 0.68512}, cell(0.68512, 0.0, 0.0, 0.00045, trial=0)
    assert texts(model, same, cell(0.6, 0.0, 0.012), cell(0.6, 0.0, 0.013), cell(0.6, 0.0, 0.4)) == [
        "0.685",
        "0.685 (pretrained)",
        "0.600 (+0.000 [-0.012, +0.012])",
        "0.600 (+0.000 [-0.013, +0.013])",
        "0.60 (+0.00 [-0.40, +0.40])",
    ]
    assert texts(model | {"domain": "books"}, cell(0.6, 0.0, 0.4))[0] == "0.6851"
    assert texts({"score": 35.1234}, {"score": 0.0, "domain": "books"}) == ["35.12", "0.000"]


@given(
    score=st.floats(-1e12, 1e12),
    difference=st.floats(-1e12, 1e12),
    half_width=st.floats(1e-9, 1e12),
)
def test_every_number_is_within_a_hundredth_of_a_half_width_of_what_it_was(score, difference, half_width):
    given_cell = cell(score, difference, half_width)
    (text,) = texts(given_cell)
    numbers = [float(number) for number in re.findall(r"[-+]?[\d.]+(?:e[-+]\d+)?", text)]
    expected = [score, difference, given_cell["low"], given_cell["high"]]
    if half_width > 1e-5 * max(abs(score), abs(score - difference)):
        for number, exact in zip(numbers, expected, strict=True):
            assert number == pytest.approx(exact, rel=1e-12, abs=half_width / 19)
