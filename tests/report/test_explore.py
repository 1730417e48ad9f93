"""The drawings of all settings of a run."""

import re

from nvreg.report.analysis import analyse
from nvreg.report.explore import changes_plot, slices
from nvreg.report.points import Cloud
from tests.report.conftest import SyntheticRun


def cloud_of(run: SyntheticRun, noise_shares, changes) -> Cloud:
    run.methods = {"nv": {"space": {"noise_share": {"cross": [0.001, 0.5]}}}}
    run.add_nll(news=2.0, talks=3.0, books=3.0)
    for share, change in zip(noise_shares, changes, strict=True):
        setting = {"noise_share": {"cross": share}}
        run.add_nll(news=2.5, talks=3.0 - change, books=3.0 - change, settings=setting, strength=share)
    return Cloud.of_run(analyse(run.write()))


def test_ticks_of_a_narrow_range_are_told_apart(tmp_path):
    cloud = cloud_of(SyntheticRun(tmp_path / "run"), [0.005628, 0.005655], [0.1, 0.2])
    ticks = re.findall(r'text-anchor="middle">([\d.e-]+)</text>', slices(cloud).html)
    assert len(ticks) > 1
    assert len(set(ticks)) == len(ticks)


def test_numbers_of_chosen_settings_do_not_cover_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr("nvreg.report.points.Point.is_selected", True)
    cloud = cloud_of(SyntheticRun(tmp_path / "run"), [0.01, 0.02, 0.03, 0.04], [0.1, 0.1, 0.1, 0.3])
    named = re.findall(r'<text class="name"[^>]* y="(.*?)%" dy="(.*?)"', changes_plot(cloud).html)
    assert len(set(named)) == len(named) == 3
