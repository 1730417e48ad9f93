"""Every role and layer by itself: what is tried, and what the report makes of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from nvreg import UserError
from nvreg.experiment import Sweep, load_experiment
from nvreg.methods import METHODS
from nvreg.report.analysis import analyse
from nvreg.report.figures import layers_figure
from nvreg.report.layers import layers_table
from nvreg.report.writing import write_report
from nvreg.samplers import Alone, alone
from nvreg.sweep.plan import make_plan
from nvreg.sweep.runner import run_sweep
from tests.conftest import EXPERIMENT
from tests.tiny import tiny_marian, write_corpus

LAYERS = {"encoder": 2, "cross": 3, "decoder": 3}
SWEEP = """{sampler: one-at-a-time, methods: {
  nv: {space: {prior_weight: {decoder: {values: [0.3]}}, tau_sigma: {values: [0, 0.2, 0.6]}}},
  weight-noise: {space: {scale: {encoder: {values: [0.3]}}, seed: 1}}}}"""


def listed(space, method="nv", layers=LAYERS):
    written = {"sampler": "one-at-a-time", "methods": {method: {"space": space}}}
    return make_plan(Sweep.model_validate(written), layers, 2).searches[0].settings


def test_every_value_of_every_parameter_stands_in_every_layer_by_itself():
    settings = listed({"tau_alpha": {"cross": {"values": [-1, 2]}}, "tau_sigma": {"values": [0, 0.1]}})
    expected = {Alone("tau_alpha", "cross", layer, value) for layer in range(3) for value in (-1, 2)}
    expected |= {
        Alone("tau_sigma", role, layer, 0.1) for role, count in LAYERS.items() for layer in range(count)
    }
    assert len(settings) == len(expected) == 6 + 8
    assert set(map(alone, settings)) == expected


def test_the_number_of_combinations_is_no_limit_as_none_is_tried():
    values = {"values": [number / 100 for number in range(50)]}
    settings = listed({name: {"cross": values} for name in ("tau_sigma", "tau_alpha", "tau_mu")})
    assert 3 * 3 * 49 <= len(settings) <= 3 * 3 * 50


def test_those_that_leave_the_encoder_alone_share_its_outputs():
    settings = listed({"tau_sigma": {"values": [0.1, 0.2]}})
    changes_encoder = ["encoder" in setting.to_dict()["tau_sigma"] for setting in settings]
    assert np.diff(changes_encoder).astype(bool).sum() == 1


def test_what_has_no_values_by_layer_is_the_same_throughout():
    settings = listed({"scale": {"decoder": {"values": [0.1, 0.2]}}, "seed": 3}, method="weight-noise")
    assert len(settings) == 6
    assert {setting.value("seed") for setting in settings} == {3}


def test_a_setting_of_several_layers_is_not_of_one_alone():
    nv = METHODS["nv"].setting_type
    assert alone(nv(tau_sigma=0.1)) is None
    assert alone(nv(tau_sigma={"encoder": 0.1})) is None
    assert alone(nv(tau_sigma={"encoder": [0.1, 0.2]})) is None
    assert alone(nv(tau_sigma={"encoder": [0.1, 0]}, tau_mu={"encoder": [0.1, 1]})) is None
    assert alone(nv.identity()) is None
    assert alone(nv(tau_sigma={"encoder": [0, 0.2]})) == Alone("tau_sigma", "encoder", 1, 0.2)


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("{trials: 3, space: {tau_sigma: {values: [0.1]}}}", "trials: expected none, as the space and"),
        ("{space: {tau_sigma: {encoder: [0, 1]}}}", "space.tau_sigma.encoder: expected {values: [...]} or a"),
        ("{space: {tau_sigma: {encoder: {layers: [0, 1]}}}}", "space.tau_sigma.encoder: expected values for"),
        (
            "{method: prune, space: {share: {values: [0.5]}}}",
            "space: expected a parameter with values by layer",
        ),
        ("{method: layer-skip, space: {skipped: 1}}", "space: expected a parameter with values by layer"),
        (
            "{method: weight-noise, space: {scale: {values: [0.1]}, seed: {values: [1, 2]}}}",
            "space.seed: expected one value, the same for all settings of sampler: one-at-a-time, got 2",
        ),
    ],
)
def test_what_it_cannot_draw_from_is_refused_in_one_line(tiny_experiment, sweep, message):
    with pytest.raises(UserError) as caught:
        load_experiment(tiny_experiment, [f"sweep={sweep}", "sweep.sampler=one-at-a-time"])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Path:
    """A finished run on a model two of whose attentions change nothing, as their outputs are dropped."""
    directory = write_corpus(tmp_path_factory.mktemp("one-at-a-time"))
    model, tokenizer = tiny_marian()
    with torch.no_grad():
        for attention in (
            model.model.encoder.layers[0].self_attn,
            model.model.decoder.layers[1].encoder_attn,
        ):
            attention.out_proj.weight.zero_()
    for part in (model, tokenizer):
        part.save_pretrained(directory / "model")
    (directory / "tiny.yaml").write_text(EXPERIMENT)
    output = directory / "output"
    experiment = load_experiment(directory / "tiny.yaml", [f"sweep={SWEEP}", f"output={output}"])
    assert run_sweep(experiment, quiet=True) == (1 + 2 + 6 * 2 + 2, 0, 0)
    assert run_sweep(experiment, quiet=True) == (1 + 2 + 6 * 2 + 2, 0, 0)
    assert len((output / "trials.jsonl").read_text().splitlines()) == 17
    return output


def test_a_layer_that_cannot_matter_changes_nothing_and_all_others_do(measured):
    table = layers_table(analyse(measured).run)
    table = table[table["method"] == "nv"]
    dead = (table["role"] == "encoder") & (table["layer"] == 0)
    dead |= (table["role"] == "cross") & (table["layer"] == 1)
    assert len(table) == (2 + 6 * 2) * 2
    assert (table.loc[dead, "difference"] == 0).all()
    assert (table.loc[~dead, "difference"] != 0).all()


def test_the_table_is_that_of_the_trials(measured):
    run = analyse(measured).run
    for row in layers_table(run).to_dict("records"):
        trial = run.trials[row["trial"]]
        score, pretrained = (
            each.metrics[row["domain"]]["validation"]["perplexity"] for each in (trial, run.trials[0])
        )
        assert (row["score"], row["difference"]) == (score, score - pretrained)
        assert alone(METHODS[trial.method].setting_type.from_dict(trial.settings)) == Alone(
            row["parameter"], row["role"], row["layer"], row["value"]
        )


def test_the_report_says_where_each_method_acts(measured, monkeypatch):
    drawn = []
    monkeypatch.setattr("nvreg.report.writing._draw", lambda page, folder: drawn.extend(page.figures))
    text = write_report(analyse(measured))
    assert "## Where it acts: perplexity (lower is better)" in text
    assert "Change at nv tau_sigma 0.2 / 0.6:" in text
    assert "Change at weight-noise scale 0.3:" in text
    assert "| encoder | 0     | 0 / 0 " in text
    table = pd.read_csv(measured / "tables" / "layers.csv")
    assert len(table) == 16 * 2
    assert {"layers-nv", "layers-weight-noise"} <= set(drawn)


def test_the_figure_has_a_panel_for_each_value_and_role_and_a_point_for_each_layer(measured):
    run = analyse(measured).run
    table = layers_table(run)
    figure = layers_figure(run, table[table["method"] == "nv"])
    assert len(figure.axes) == 3 * 3
    drawn = [bars for axes in figure.axes for bars in axes.containers]
    assert sum(len(bars[0].get_xdata()) for bars in drawn) == len(table[table["method"] == "nv"])
    assert [axes.get_title() for axes in figure.axes[:3]] == ["encoder", "cross", "decoder"]
    figure.draw_without_rendering()
    (legend,) = figure.legends
    below = next(text for text in figure.texts if "the one layer that is changed" in text.get_text())
    assert not legend.get_window_extent().overlaps(below.get_window_extent())


@pytest.mark.usefixtures("undrawn")
def test_the_page_draws_a_point_for_each_layer_and_domain_too(measured):
    write_report(analyse(measured), ["html"])
    page = (measured / "report.html").read_text()
    _, _, drawn = page.partition("Where it acts: perplexity")
    drawn = drawn.partition("<b>By layer</b>")[2].partition("<table")[0]
    assert drawn.count('<figure class="plot">') == 4  # three values of nv and one of noise
    assert drawn.count('<circle class="point') == len(layers_table(analyse(measured).run))
    assert "nv: tau_sigma 0.2, by role and layer" in drawn
    assert "<title>encoder 0, home: 0</title>" in drawn


def test_other_samplers_have_no_such_table(tiny_experiment, tmp_path):
    changes = [f"output={tmp_path / 'output'}", "sweep.sampler=grid", "sweep.space={tau_sigma: 0.1}"]
    run_sweep(load_experiment(tiny_experiment, changes), quiet=True)
    assert layers_table(analyse(tmp_path / "output").run) is None


def test_a_domain_without_a_validation_set_is_left_out(tiny_experiment, tmp_path):
    changes = [
        f"output={tmp_path / 'output'}",
        "data.out_of_domain.0.validation=null",
        "sweep={sampler: one-at-a-time, method: nv, space: {tau_sigma: {encoder: {values: [0.2]}}}}",
    ]
    experiment = load_experiment(tiny_experiment, changes)
    run_sweep(experiment, quiet=True)
    table = layers_table(analyse(tmp_path / "output").run)
    assert set(table["domain"]) == {experiment.data.in_domain.name}
    text = write_report(analyse(tmp_path / "output"))
    assert "there is no validation set out of domain, which would say where to search" in text
    layers = text.partition("## Where it acts")[2].partition("\n## ")[0]
    assert experiment.data.out_of_domain[0].name not in layers
