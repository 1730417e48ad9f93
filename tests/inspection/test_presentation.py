"""The table and the heat map say what was measured."""

import numpy as np
import pandas as pd
import pytest

from nvreg.diagnostics import QUANTITIES
from nvreg.document import png
from nvreg.inspection.presentation import heatmap, page

HEADS = {"decoder": 2, "encoder": 3, "cross": 2}


@pytest.fixture
def heads():
    """Value: 10 x layer + head, and 100 more in the second domain; the encoder has a head more."""
    rows = [
        (domain, role, layer, head, quantity, 100.0 * number + 10 * layer + head)
        for number, domain in enumerate(("news", "talks"))
        for layer in range(2)
        for role, count in HEADS.items()
        for head in range(count)
        for quantity in QUANTITIES
    ]
    return pd.DataFrame(rows, columns=["domain", "role", "layer", "head", "quantity", "value"])


def test_the_page_has_the_means_over_heads_of_every_layer(heads):
    lines = page("model", heads, {"news": 5, "talks": 1}).splitlines()
    assert lines[0] == "# model"
    news, talks = lines.index("## news (5 examples)"), lines.index("## talks (1 examples)")
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[talks + 2 :]]
    assert table[0][:4] == ["role", "layer", "prior weight", "discarded share"]
    assert [row[:3] for row in table[2:]] == [
        ["encoder", "0", "101.0000"],
        ["encoder", "1", "111.0000"],
        ["cross", "0", "100.5000"],
        ["cross", "1", "110.5000"],
        ["decoder", "0", "100.5000"],
        ["decoder", "1", "110.5000"],
    ]
    assert talks - news == len(table) + 3


def test_a_panel_shows_layers_by_heads_on_one_scale_a_quantity(heads):
    heads.loc[heads["quantity"] == "entropy", "value"] /= 1000
    figure = heatmap(heads)
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 2 * len(QUANTITIES)
    news = panels[QUANTITIES.index("prior_weight")]
    expected = [[0, 1, 2], [10, 11, 12], *[[0, 1, np.nan], [10, 11, np.nan]] * 2]
    np.testing.assert_equal(news.images[0].get_array().filled(np.nan), expected)
    names = ["encoder 0", "encoder 1", "cross 0", "cross 1", "decoder 0", "decoder 1"]
    assert [label.get_text() for label in news.get_yticklabels()] == names
    scales = {axes.images[0].get_clim() for axes in panels}
    assert scales == {(0, 112), (0, 0.112)}
    assert png(figure).startswith(b"\x89PNG")


def test_a_model_at_identity_has_a_heat_map_too(heads):
    assert png(heatmap(heads.assign(value=0.0))).startswith(b"\x89PNG")
