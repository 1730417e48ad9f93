"""What is left of a choice when it, and the pretrained model, may be softened or sharpened."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from nvreg.config import Evaluation
from nvreg.metrics.resampling import resample_counts
from nvreg.report.analysis import Analysis, analyse
from nvreg.report.comparison import combine
from nvreg.report.reading import Arm
from nvreg.report.sections import NO_TEMPERATURES
from nvreg.report.tables import methods_table
from nvreg.report.temperature import tempered
from nvreg.report.writing import write_combined, write_comparison, write_report
from tests.report.test_page import table_under

EXAMPLES, CLASSES = 600, 5
DOMAINS = {name: ("validation", "test") for name in ("news", "talks", "books")}
KEPT = (0.8, 1.0, 1.3, 1.7)
NV = Arm("nv", 42)
HONEST = ("in-domain", "in-domain-tolerance", "leave-one-domain-out", "out-of-domain-validation")


def drawn(generator: np.random.Generator, examples: int = EXAMPLES) -> tuple[dict, dict]:
    """The logits of a perfect model, and labels that are drawn from what it says."""
    logits = {
        domain: {split: generator.normal(scale=2, size=(examples, CLASSES)) for split in splits}
        for domain, splits in DOMAINS.items()
    }

    def label(row: np.ndarray) -> int:
        return generator.choice(CLASSES, p=softmax(row))

    labels = {
        domain: {split: np.array([label(row) for row in rows]) for split, rows in splits.items()}
        for domain, splits in logits.items()
    }
    return logits, labels


def each(logits: dict, change) -> dict:
    return {
        domain: {split: change(rows) for split, rows in splits.items()} for domain, splits in logits.items()
    }


@pytest.fixture(params=["classification", "language-modelling"])
def sharp(synthetic, tmp_path, request):
    """A run of a perfect model whose logits are scaled by 1.3; its logits before that, and the labels.

    All temperatures can be tried of a classifier, of a language model those it kept, 1.3 among them.
    """
    perfect, labels = drawn(np.random.default_rng(0))
    is_classifier = request.param == "classification"
    run = synthetic(
        tmp_path / "run",
        metric="nll",
        metrics=("nll", "brier", "accuracy") if is_classifier else ("nll",),
        domains=DOMAINS,
        planned=1,
        task=request.param,
        temperatures=KEPT,
    )
    return run.add_logits(each(perfect, lambda rows: 1.3 * rows), labels), perfect, labels


def test_the_temperature_of_a_model_whose_logits_are_scaled_is_found(sharp):
    run, perfect, labels = sharp
    run.add_logits(each(perfect, lambda rows: 3 * rows), labels, strength=1.0)
    after = analyse(run.write()).after_temperature
    for protocol in ("in-domain", "leave-one-domain-out", "out-of-domain-validation", "oracle"):
        found = [each for pick in after.model(protocol).values() for each in pick.temperatures]
        assert all(1.1 < temperature < 1.6 for temperature in found)
    assert after.model("in-domain-tolerance")["books"].temperatures[0] > 1.6  # as strong as is tolerated


def test_a_gain_that_is_softening_alone_is_none_after_temperature(sharp):
    run, perfect, labels = sharp
    run.add_logits(perfect, labels, strength=0.1, settings={"tau_mu": 0.9})
    analysis = analyse(run.write(), ["in-domain"])
    rows = (
        methods_table(analysis.after_temperature)
        .set_index(["metric", "method", "domain"])
        .sort_index()
        .loc["nll", "nv"]
    )
    for domain in DOMAINS:
        row = rows.loc[domain]
        assert row["trial"] == 1
        assert row["low_reselected"] <= 1e-12
        assert row["high_reselected"] >= -1e-12
        assert float(row["other_temperature"]) / float(row["temperature"]) == pytest.approx(1.3, rel=0.01)
    text = write_report(analysis, formats=())
    assert "- in-domain: improves news, talks, books; not after temperature; worsens no domain." in text


@pytest.mark.parametrize("scale", [1.18, 1.37])
def test_softening_by_what_was_not_kept_is_none_after_temperature(synthetic, tmp_path, scale):
    """The likelihood of many tokens tells temperatures apart that lie nearer than those of the list."""
    perfect, labels = drawn(np.random.default_rng(0))
    run = synthetic(
        tmp_path / "run", metric="nll", metrics=("nll",), domains=DOMAINS, planned=1,
        task="language-modelling", temperatures=Evaluation(metrics=["nll"]).temperatures,
    )  # fmt: skip
    run.add_logits(each(perfect, lambda rows: scale * rows), labels)
    run.add_logits(perfect, labels, strength=0.1, settings={"tau_mu": 0.9})
    after = analyse(run.write(), ["out-of-domain-validation"]).after_temperature
    ours, theirs = (
        choice["out-of-domain-validation"]["talks"]
        for choice in (after.choices[NV], after.choices[Arm("pretrained", None)])
    )
    assert (ours.trials, theirs.trials) == ((1,), (0,))
    assert theirs.temperatures[0] / ours.temperatures[0] == pytest.approx(scale, rel=0.01)
    assert ours.score("nll") == pytest.approx(theirs.score("nll"), rel=1e-3)
    low, high = np.quantile(ours.reselected("nll") - theirs.reselected("nll"), [0.025, 0.975])
    assert low <= 0 <= high


def test_a_rule_that_looks_for_a_strong_setting_softens_and_never_sharpens(synthetic, tmp_path):
    """Here a sharper model is tolerated, and lies further from 1 than any softer one that is."""
    perfect, labels = drawn(np.random.default_rng(0), examples=200)
    run = synthetic(
        tmp_path / "run", metric="nll", metrics=("nll",), domains=DOMAINS, planned=1,
        task="classification", protocols=("in-domain", "in-domain-tolerance"),
    )  # fmt: skip
    for strength in (0.0, 0.1):
        run.add_logits(each(perfect, lambda rows: 0.9 * rows), labels, strength=strength)
    after = analyse(run.write()).after_temperature
    (best,) = after.model("in-domain")["books"].temperatures
    (strongest,) = after.model("in-domain-tolerance")["books"].temperatures
    assert best < 1 <= strongest
    redrawn = after.model("in-domain-tolerance")["books"], after.choices[NV]["in-domain-tolerance"]["books"]
    assert redrawn[1].temperatures[0] >= 1
    assert (np.array(redrawn[1].redrawn_temperatures) >= 1).all()


def test_softening_alone_is_none_after_temperature_under_every_selection(sharp):
    run, perfect, labels = sharp
    run.add_logits(perfect, labels, strength=0.1, settings={"tau_mu": 0.9})
    after = methods_table(analyse(run.write(), HONEST).after_temperature)
    rows = after[after["method"].eq("nv") & after["metric"].eq("nll")]
    assert rows["protocol"].nunique() == len(HONEST)
    assert rows["trial"].eq(1).all()
    assert (rows["low_reselected"] <= 1e-12).all()
    assert (rows["high_reselected"] >= -1e-12).all()


def test_a_gain_that_is_more_than_softening_is_kept(sharp):
    run, perfect, labels = sharp
    knowing = {
        domain: {split: 1.3 * rows + np.eye(CLASSES)[labels[domain][split]] / 2 for split, rows in of.items()}
        for domain, of in perfect.items()
    }
    run.add_logits(knowing, labels, strength=0.1, settings={"tau_mu": 0.9})
    analysis = analyse(run.write(), ["in-domain"])
    rows = (
        methods_table(analysis.after_temperature)
        .set_index(["metric", "method", "domain"])
        .sort_index()
        .loc["nll", "nv"]
    )
    assert rows["high_reselected"].max() < -0.05
    assert rows["p_holm"].max() < 0.001
    text = write_report(analysis, formats=())
    assert "- in-domain: improves news, talks, books, also after temperature; worsens no domain." in text


def test_only_metrics_that_a_temperature_changes_have_a_table(sharp):
    run, perfect, labels = sharp
    run.add_logits(perfect, labels, strength=0.1)
    analysis = analyse(run.write(), ["in-domain"])
    assert analysis.after_temperature.metrics == [name for name in run.metrics if name != "accuracy"]
    text = write_report(analysis, ["csv"])
    written = pd.read_csv(run.directory / "tables/after-temperature.csv")
    assert list(written["metric"].unique()) == analysis.after_temperature.metrics
    for metric in run.metrics:
        assert (f"## {metric} after temperature (" in text) == (metric != "accuracy")
    if "accuracy" in run.metrics:
        assert "- in-domain: improves no domain; worsens no domain." in text.split("## accuracy")[1]


def test_a_cell_has_its_temperature_and_the_table_the_end_of_the_list(sharp):
    run, perfect, labels = sharp
    run.add_logits(each(perfect, lambda rows: 6 * rows), labels, strength=0.1)
    run.add_logits(each(perfect, lambda rows: 5.5 * rows), labels, strength=0.2)
    for line in run.lines[:1]:  # a model that every setting is better than
        for splits in line["metrics"].values():
            for metrics in splits.values():
                metrics["nll"] = 100.0
    text = write_report(analyse(run.write(), ["oracle"]), formats=())
    header, model, tempered, chosen = table_under(text, "nll after temperature")
    assert header == ["selection", "method", "news (in-domain)", "talks", "books"]
    assert model[0] == "pretrained"
    assert "at" not in model[2].split()
    assert tempered[:2] == ["oracle (upper bound)", "pretrained"]
    end = "4" if run.task == "classification" else "1.7"
    assert f" at {end} (" in chosen[2]
    assert re.search("Temperatures at the end of the list are chosen for nv on .*books: there, and", text)


def test_a_choice_of_the_pretrained_model_is_named_at_its_temperature(sharp):
    run, perfect, labels = sharp
    run.add_logits(each(perfect, lambda rows: 3 * rows), labels, strength=0.1)
    text = write_report(analyse(run.write(), ["in-domain"]), formats=())
    *_, tempered, chosen = table_under(text, "nll after temperature")
    assert all(" at 1." in cell and cell.endswith("(pretrained)") for cell in chosen[2:])
    assert not any("pretrained" in cell for cell in tempered[2:])
    assert "Every selection keeps the pretrained model." in text
    assert "- pretrained (every selection): improves " in text
    assert "- nv (every selection): keeps the pretrained model." in text


def test_the_choice_of_a_temperature_is_repeated_on_every_resample(sharp):
    run, perfect, labels = sharp
    generator = np.random.default_rng(1)
    for scale in (1.2, 1.5):
        noisy = each(perfect, lambda rows, scale=scale: scale * rows + generator.normal(size=rows.shape) / 4)
        run.add_logits(noisy, labels, strength=scale - 1)
    analysis = analyse(run.write(), ["out-of-domain-validation"])
    read, plain = analysis.run, analysis.choices[NV]["out-of-domain-validation"]["talks"]
    pick = analysis.after_temperature.choices[NV]["out-of-domain-validation"]["talks"]
    assert pick.redrawn == plain.redrawn
    counts = {split: resample_counts(f"talks.{split}", EXAMPLES) for split in ("validation", "test")}
    grid, expected = np.array(read.temperatures), np.empty(len(counts["test"]))
    nats = {number: read.likelihoods(number, "talks", "validation")[0] for number in read.trials}
    for resample, number in enumerate(pick.redrawn[0].tolist()):
        temperature = grid[(counts["validation"][resample] @ nats[number]).argmin()]
        assert pick.redrawn_temperatures[0][resample] == temperature
        rows = read.statistics(number, "talks", "test", "likelihood", temperature)[:, 0]
        expected[resample] = counts["test"][resample] @ rows / EXAMPLES
    assert len(set(pick.redrawn[0].tolist())) > 1
    assert len(set(pick.redrawn_temperatures[0].tolist())) > 1
    np.testing.assert_allclose(pick.reselected("nll"), expected)


def test_in_domain_is_the_mean_over_the_temperatures_of_the_domains(sharp):
    run, perfect, labels = sharp
    talks = {split: 0.85 * rows for split, rows in perfect["talks"].items()}
    run.add_logits(perfect | {"talks": talks}, labels, strength=0.1)
    analysis = analyse(run.write(), ["out-of-domain-validation"]).after_temperature
    choice = analysis.choices[NV]["out-of-domain-validation"]
    of_talks, of_books = choice["talks"].temperatures, choice["books"].temperatures
    assert of_talks < of_books
    assert choice["news"].temperatures == of_talks + of_books
    assert analysis.model("out-of-domain-validation")["news"].trials == (0, 0)
    rows = methods_table(analysis).set_index(["metric", "method", "protocol", "domain"])
    table = rows.loc["nll", "nv", "out-of-domain-validation", "news"]
    assert table["temperature"] == f"{of_talks[0]:.4g} to {of_books[0]:.4g}"


def test_a_method_that_cannot_change_a_metric_is_said_to(synthetic, tmp_path):
    perfect, labels = drawn(np.random.default_rng(0), examples=40)
    methods = {"output-temperature": {"space": {"output_temperature": [0.5, 2]}}}
    run = synthetic(
        tmp_path / "run",
        metric="nll",
        metrics=("accuracy", "nll"),
        domains=DOMAINS,
        planned=1,
        task="classification",
        methods=methods,
        protocols=("in-domain",),
    )
    for scale in (3.0, 1.0):
        tried = {"output_temperature": 3 / scale} if scale == 1 else {}
        of = {"method": "output-temperature", "settings": tried, "strength": 1.0} if tried else {}
        run.add_logits(each(perfect, lambda rows, scale=scale: scale * rows), labels, **of)
    text = write_report(analyse(run.write()), formats=())
    *_, row = table_under(text, "accuracy")
    assert all(cell.endswith("(cannot change it)") for cell in row[1:])
    assert "- in-domain: cannot change it." in text
    *_, row = table_under(text, "nll")
    assert not any("cannot" in cell for cell in row)


@pytest.fixture
def two(synthetic, tmp_path):
    """Two runs of a sharp model: what the first tried softens it, what the second tried knows more."""
    runs, (perfect, labels) = [], drawn(np.random.default_rng(0), examples=200)
    knowing = {
        domain: {split: 1.3 * rows + 2 * np.eye(CLASSES)[labels[domain][split]] for split, rows in of.items()}
        for domain, of in perfect.items()
    }
    for name, logits in {"soft": perfect, "knowing": knowing}.items():
        run = synthetic(
            tmp_path / name,
            metric="nll",
            metrics=("nll",),
            domains=DOMAINS,
            planned=1,
            task="language-modelling",
            temperatures=KEPT,
            protocols=("in-domain", "oracle"),
        )
        run.add_logits(each(perfect, lambda rows: 1.3 * rows), labels)
        run.add_logits(logits, labels, strength=0.1, settings={"tau_mu": 0.9})
        runs.append(run)
    return runs


def test_several_runs_have_a_table_after_temperature(two, tmp_path):
    text = write_combined([analyse(run.write()) for run in two], ["csv"], tmp_path / "all")
    table = pd.read_csv(tmp_path / "all" / "combined-after-temperature.csv")
    rows = table.set_index(["protocol", "run", "method", "domain"]).sort_index().loc["in-domain"]
    assert rows.loc["soft", "nv", "talks"]["high_reselected"] > -0.01
    assert rows.loc["knowing", "nv", "talks"]["high_reselected"] < -0.1
    assert "- soft (every selection): improves talks; not after temperature; worsens no domain." in text
    assert "- knowing (every selection): improves news, talks, books, also after temperature;" in text
    assert "Temperatures at the end of the list are chosen for knowing nv on news, talks, books:" in text
    assert "## nll after temperature" in text


def test_two_runs_are_compared_after_temperature(two, tmp_path):
    text = write_comparison(*(analyse(run.write()) for run in two), ["csv"], tmp_path / "two")
    table = pd.read_csv(tmp_path / "two" / "comparison-after-temperature.csv")
    rows = table.set_index(["method", "protocol", "domain"]).sort_index()
    assert rows.loc["pretrained", "in-domain", "talks"]["difference"] == pytest.approx(0, abs=1e-12)
    cell = rows.loc["nv", "in-domain", "talks"]
    assert cell["high_reselected"] < -0.1
    assert (float(cell["other_temperature"]), float(cell["temperature"])) == (1.0, 0.8)
    assert re.search(r"\d at 1 → \d\.\d+ at 0\.8 \(-", text)
    assert re.search(r"After temperature, \S+ shows no difference from", text)
    assert re.search(r"After temperature, \S+ with what \S+ chose of nv is better than \S+, from", text)


def test_runs_of_which_one_kept_no_temperatures_have_none(two):
    two[1].temperatures = ()
    analyses = [analyse(run.write()) for run in two]
    assert NO_TEMPERATURES in combine(analyses)[0]


@pytest.mark.parametrize(
    "temperatures", [None, *(pytest.param(each, marks=pytest.mark.slow) for each in [(), (1.0,)])]
)
def test_without_temperatures_there_is_no_table_and_a_line_says_why(small, temperatures):
    small.temperatures = temperatures
    text = write_report(analyse(small.write()), formats=["csv"])
    assert "There is no table after temperature: nothing was kept to try temperatures on" in text
    assert not list(small.directory.glob("tables/*temperature*"))


def test_before_a_setting_is_measured_there_is_neither_table_nor_line(sharp):
    run, *_ = sharp
    text = write_report(analyse(run.write()), formats=())
    assert "No setting is measured yet." in text
    assert "after temperature" not in text


def test_metrics_that_no_temperature_changes_need_no_line(run):
    run.metric, run.metrics = "bleu", ("bleu",)
    rows = {
        domain: {split: {"bleu": np.full((4, 10), 9.0)} for split in splits}
        for domain, splits in run.domains.items()
    }
    assert "temperature" not in write_report(analyse(run.add(rows).write()), formats=())


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000))
def test_with_1_alone_the_table_after_temperature_is_the_table(synthetic, tmp_path_factory, seed):
    run, generator = synthetic(tmp_path_factory.mktemp("run")), np.random.default_rng(seed)
    for number in range(4):
        run.add_nll(**{domain: 2 + generator.random() for domain in run.domains}, strength=number / 10)
    analysis = analyse(run.write())
    plain = methods_table(analysis)
    after = methods_table(Analysis(analysis.run, tempered(analysis.run, analysis.choices)))
    alone = after["method"].eq("pretrained") & after["protocol"].ne("pretrained")
    pd.testing.assert_frame_equal(after.loc[~alone, plain.columns].reset_index(drop=True), plain)
    assert after.loc[alone, "difference"].dropna().eq(0).all()
