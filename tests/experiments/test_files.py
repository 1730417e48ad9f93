"""Every file under experiments/ is an experiment; what it says of its suite is true."""

from pathlib import Path

import pytest

from nvreg.demo.corpora import DOMAINS
from nvreg.demo.recipe import RECIPES
from nvreg.experiment import load_experiment
from nvreg.protocols import PROTOCOLS
from nvreg.tasks import TASKS as EVERY_TASK

ROOT = Path(__file__).resolve().parents[2]
"""The root of the repository."""
DEMO = ROOT / "results" / "demo"
EMBEDDED, PAPER, REAL = (
    sorted((ROOT / "experiments" / suite).glob("*.yaml")) for suite in ("embedded", "paper", "real")
)
TASKS = [path for path in EMBEDDED if path.stem != "rivals"]

every = pytest.mark.parametrize(
    "path", [*EMBEDDED, *PAPER, *REAL], ids=lambda path: f"{path.parent.name}/{path.stem}"
)
embedded = pytest.mark.parametrize("path", EMBEDDED, ids=lambda path: path.stem)
tasks = pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
paper = pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
real = pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
fetched = pytest.mark.parametrize("path", [*PAPER, *REAL], ids=lambda path: f"{path.parent.name}/{path.stem}")


@every
def test_it_is_valid_and_named_after_its_file(path: Path) -> None:
    experiment = load_experiment(path)
    assert experiment.name == f"{path.parent.name}-{path.stem}"
    assert experiment.output == f"results/runs/{path.parent.name}/{path.stem}"
    assert set(experiment.evaluation.metrics) <= set(EVERY_TASK[experiment.task].metrics())
    protocols = set(PROTOCOLS) if path in REAL else set(PROTOCOLS) - {"unlabelled"}
    if EVERY_TASK[experiment.task].generates:
        protocols -= {"unlabelled"}
    assert set(experiment.selection.protocols) == protocols


def test_the_embedded_suite_has_every_task_of_the_demo() -> None:
    assert [path.stem for path in TASKS] == sorted(RECIPES)


@embedded
def test_the_embedded_suite_reads_the_demo(path: Path) -> None:
    experiment = load_experiment(path)
    demo = DEMO / experiment.task
    assert experiment.task == (path.stem if path in TASKS else "classification")
    assert experiment.model.path == str(demo / "model")
    domains = [experiment.data.in_domain, *experiment.data.out_of_domain]
    assert [domain.name for domain in domains] == [domain.name for domain in DOMAINS]
    assert experiment.data.in_domain.train.files == str(demo / "village" / "train.jsonl")
    for domain in domains:
        for split in ("validation", "test"):
            assert getattr(domain, split).files == str(demo / domain.name / f"{split}.jsonl")


@tasks
def test_the_embedded_suite_is_calibrated_and_names_every_role(path: Path) -> None:
    space = load_experiment(path).sweep.methods["nv"].space
    roles = {"classification": {"encoder"}, "language-modelling": {"decoder"}}
    for parameter in ("prior_weight", "noise_share"):
        assert set(space[parameter]) == roles.get(path.stem, {"encoder", "cross", "decoder"})
    assert set(space) == {"prior_weight", "noise_share"}


PUBLISHED = {  # docs/method.md, section 8
    "bart-large-cnn": (
        {"encoder": [-7, 0], "cross": [-15, 0], "decoder": [1, 5]},
        {"encoder": [0, 0.5], "cross": [0, 0.5], "decoder": [0, 0.2]},
    ),
    "bart-large-xsum": (
        {"encoder": [-10, -3], "cross": [-10, -3], "decoder": [0.5, 3]},
        {"encoder": [0, 0.5], "cross": [0, 0.5], "decoder": [0, 0.5]},
    ),
    **dict.fromkeys(
        ("opus-mt-en-de", "opus-mt-en-fr"),
        (
            {"encoder": [-2, 5], "cross": [-13, 10], "decoder": [0, 10]},
            {"encoder": [0, 0.25], "cross": [0, 1.75], "decoder": [0, 0.5]},
        ),
    ),
}
SUMMARIES = {"cnn-dailymail", "xsum", "curation", "wikihow", "samsum"}
TRANSLATIONS = {"opus100", "bible-para", "iwslt2017", "ted-talks-iwslt"}


def test_the_paper_suite_has_every_model() -> None:
    assert [path.stem for path in PAPER] == sorted(PUBLISHED)


@paper
def test_the_paper_suite_is_the_published_protocol(path: Path) -> None:
    experiment = load_experiment(path)
    tau_alpha, tau_sigma = PUBLISHED[path.stem]
    assert experiment.sweep.methods["nv"].space == {"tau_alpha": tau_alpha, "tau_sigma": tau_sigma}
    assert (experiment.sweep.sampler, experiment.sweep.seeds) == ("random", [42])
    assert 50 <= experiment.sweep.trials <= 100
    assert experiment.prior.max_tokens is experiment.data.in_domain.train.limit is None
    assert experiment.selection.metric == ("rougeL" if "bart" in path.stem else "bleu")


@paper
def test_the_paper_suite_has_the_published_domains(path: Path) -> None:
    data = load_experiment(path).data
    home = {"bart-large-cnn": "cnn-dailymail", "bart-large-xsum": "xsum"}.get(path.stem, "opus100")
    assert data.in_domain.name == home
    names = {domain.name for domain in data.out_of_domain}
    assert names == (SUMMARIES if "bart" in path.stem else TRANSLATIONS) - {home}
    assert all(domain.validation for domain in data.out_of_domain)


@fetched
def test_the_readme_says_where_the_data_comes_from(path: Path) -> None:
    readme = (path.parent / "README.md").read_text()
    data = load_experiment(path).data
    for domain in (data.in_domain, *data.out_of_domain):
        assert domain.name in readme
        for source in (domain.validation, domain.test):
            assert source.hub is None or f"`{source.hub}`" in readme


@real
def test_the_real_suite_tries_every_method_alike(path: Path) -> None:
    experiment = load_experiment(path)
    sweep = experiment.sweep
    controls = {"output-temperature", "temperature", "sink", "weight-noise", "low-rank"}
    controls |= set() if EVERY_TASK[experiment.task].generates else {"mc-dropout"}
    assert set(sweep.methods) == {"nv", "nv-heads", *controls}
    assert (sweep.sampler, sweep.trials, len(sweep.seeds)) == ("random", 30, 1)
    assert sweep.methods["nv"].space == sweep.methods["nv-heads"].space
    assert all(domain.validation for domain in experiment.data.out_of_domain)


@real
def test_the_real_suite_reads_the_hub_alone_and_names_its_models(path: Path) -> None:
    experiment = load_experiment(path)
    data = experiment.data
    sources = [data.in_domain.train]
    for domain in (data.in_domain, *data.out_of_domain):
        sources += [domain.validation, domain.test]
        assert (domain.validation.split, domain.validation.hub) != (domain.test.split, domain.test.hub)
    assert all(source.hub for source in sources)
    assert f"`{experiment.model.path}`" in (path.parent / "README.md").read_text()


def test_the_real_suite_maps_the_names_of_classes() -> None:
    (path,) = (path for path in REAL if "sst2" in path.stem)
    labels = load_experiment(path).data.labels
    assert labels == {"neg": "NEGATIVE", "pos": "POSITIVE", "1": "NEGATIVE", "2": "POSITIVE"}
