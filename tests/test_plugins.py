"""What installed packages add: found without an import, checked, listed, and part of keys."""

import json
import os
import re
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from nvreg.errors import NvregWarning, UserError
from nvreg.experiment import load_experiment
from nvreg.methods import METHODS, Method
from nvreg.metrics import METRICS, Metric
from nvreg.parameters import Setting
from nvreg.registry import Registry, instance_of, package_fault, subclass_of
from nvreg.results import read_trials
from nvreg.sweep.manifest import conditions_of
from nvreg.sweep.runner import run_sweep
from nvreg.sweep.workbench import open_workbench
from nvreg.tasks import TASKS

ROOT = Path(__file__).parents[1]


def install(directory, name, entries, group="nvreg.methods", version="1.2", **modules):
    """Lay out an installed package: its modules, and what `importlib.metadata` reads of it."""
    info = directory / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{each} = {value}" for each, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]))
    for module, code in modules.items():
        (directory / f"{module}.py").write_text(code)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A directory of installed packages."""
    directory = tmp_path / "site"
    directory.mkdir()
    monkeypatch.syspath_prepend(directory)
    return directory


def methods(**own):
    check = subclass_of(Method, setting_type=Setting)
    return Registry("method", own, group="nvreg.methods", check=check)


SOUND = """
from nvreg.methods.nv import NV


class Sound(NV):
    "The same by another name."

    name = "sound"
"""


def test_a_packages_class_is_found_without_an_import_and_says_where_it_is_from(site):
    install(site, "nvreg-sound", {"sound": "nvreg_sound_a:Sound"}, nvreg_sound_a=SOUND)
    registry = methods(nv="nvreg.methods.nv:NV")
    assert list(registry) == ["nv", "sound"]
    assert len(registry) == 2
    assert registry.check("sound") == "sound"
    assert "nvreg_sound_a" not in sys.modules
    assert registry["sound"].name == "sound"
    assert registry.package("sound") == "nvreg-sound 1.2"
    assert registry.package("nv") is None
    assert registry.faults() == []


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_module", "expected MODULE:Sound to be there to import, got ModuleNotFoundError: No"),
        ("1 +", "expected MODULE:Sound to be there to import, got SyntaxError: "),
        ("Other = 1", "expected MODULE:Sound to be there to import, got AttributeError: "),
        ("Sound = 3", "expected a class that derives from nvreg.methods.method.Method, got 3; mend"),
        (SOUND.replace('name = "sound"', 'name = "noise"'), "registered under, 'sound', got name = 'noise'"),
        (
            "from nvreg.methods import Method\nclass Sound(Method):\n    name = 'sound'",
            "Method and has setting_type, attach_, detach_, set_, strength, got Sound without; mend",
        ),
        (
            f"{SOUND}\n    setting_type = dict",
            "setting_type, a class that derives from nvreg.parameters.Setting, got <class 'dict'>; mend",
        ),
        ("import sys; sys.exit(3)", "expected MODULE:Sound to be there to import, got SystemExit: 3; mend"),
    ],
    ids=["import", "syntax", "attribute", "type", "name", "abstract", "setting", "exit"],
)
def test_a_fault_is_one_line_that_names_the_package_and_is_in_nobody_elses_way(site, code, message, request):
    module = f"nvreg_faulty_{request.node.callspec.id}"
    install(site, "nvreg-faulty", {"sound": f"{module}:Sound"}, **{module: code})
    registry = methods(nv="nvreg.methods.nv:NV")
    with pytest.raises(UserError) as caught:
        registry["sound"]
    line = str(caught.value)
    assert line.startswith("method 'sound' of package nvreg-faulty 1.2: expected ")
    assert message.replace("MODULE", module) in line
    assert line.endswith("; mend or uninstall it")
    assert "\n" not in line
    assert registry.faults() == [line]
    assert [name for name, _ in registry.items()] == ["nv"]
    assert [method.name for method in registry.values()] == ["nv"]


def test_a_name_that_nvreg_has_stays_its_own(site):
    install(site, "nvreg-thief", {"nv": "nvreg_sound_b:Sound"}, nvreg_sound_b=SOUND)
    registry = methods(nv="nvreg.methods.nv:NV")
    assert registry["nv"].__module__ == "nvreg.methods.nv"
    assert list(dict(registry.items())) == list(registry) == ["nv"]
    (fault,) = registry.faults()
    assert fault.startswith("method 'nv' of package nvreg-thief 1.2: expected a name that nvreg has not")
    with pytest.warns(NvregWarning, match=re.escape(fault)):
        assert registry.check("nv") == "nv"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry.check("nv")  # is said once


def test_a_name_of_two_packages_is_neither_ones(site):
    for name in ("nvreg-one", "nvreg-two"):
        install(site, name, {"sound": "nvreg_sound_c:Sound"}, nvreg_sound_c=SOUND)
    with pytest.raises(UserError, match=r"of package nvreg-\w+ 1.2 and nvreg-\w+ 1.2: .* uninstall all"):
        methods()["sound"]


def test_what_is_left_of_a_package_that_is_gone_has_no_name(site):
    install(site, "nvreg-gone", {"sound": "nvreg_gone:Sound"})
    (site / "nvreg_gone-1.2.dist-info/METADATA").unlink()
    with pytest.raises(
        UserError, match=r"^method 'sound' of package without a name: expected nvreg_gone:Sound"
    ):
        methods()["sound"]


def test_a_list_of_entry_points_that_cannot_be_read_is_in_nobody_elses_way(site):
    install(site, "other", {"b": "c:d"}, group="others.own")
    (site / "other-1.2.dist-info/entry_points.txt").write_text("[others.own]\nno entry\n")
    install(site, "nvreg-sound", {"sound": "nvreg_sound_f:Sound"}, nvreg_sound_f=SOUND)
    registry = methods(nv="nvreg.methods.nv:NV")
    assert list(registry) == ["nv", "sound"]
    assert registry.package("sound") == "nvreg-sound 1.2"


def test_a_metric_of_a_package_is_an_instance_with_its_name(site):
    code = "from nvreg.metrics import METRICS\nLOSS = METRICS['nll']"
    install(site, "nvreg-loss", {"loss": "nvreg_loss:LOSS"}, group="nvreg.metrics", nvreg_loss=code)
    registry = Registry("metric", {}, group="nvreg.metrics", check=instance_of(Metric))
    with pytest.raises(UserError, match="registered under, 'loss', got name = 'nll'"):
        registry["loss"]


def test_a_registry_without_a_group_takes_nothing_from_packages(site):
    install(site, "nvreg-sound", {"sound": "nvreg_sound_d:Sound"}, nvreg_sound_d=SOUND)
    assert list(Registry("command", {"a": 1})) == ["a"]


def test_nvregs_own_come_from_no_package():
    assert {METRICS.package(name) for name in METRICS} == {None}


def test_help_asks_no_package():
    code = (
        "import importlib.metadata, sys; importlib.metadata.entry_points = None\n"
        "import nvreg.cli; sys.argv = ['nvreg', '--help']; nvreg.cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "methods" in done.stdout


# --- in a run -------------------------------------------------------------------------------------


@pytest.fixture
def plugins(site, monkeypatch):
    """Forgets what nvreg's own registries have found, before and after: install, then name it."""
    for registry in (METHODS, METRICS, TASKS):
        monkeypatch.setattr(registry, "_found", None)
        monkeypatch.setattr(registry, "_loaded", {})
    monkeypatch.setattr("nvreg.registry._LOADED", {})
    return site


RAISING = (
    SOUND
    + """
    def set_(self, model, setting):
        return {}["no such key"]
"""
)


def test_what_raises_in_a_trial_is_one_line_that_names_the_package(plugins, tiny_experiment, tmp_path):
    install(plugins, "nvreg-raising", {"sound": "nvreg_raising:Sound"}, nvreg_raising=RAISING)
    sweep = "sweep={method: sound, sampler: grid, space: {tau_sigma: {values: [0.2]}}}"
    overrides = [sweep, "evaluation.metrics=[nll]", "selection.metric=nll", f"output={tmp_path / 'run'}"]
    experiment = load_experiment(tiny_experiment, overrides)
    assert run_sweep(experiment, quiet=True) == (1, 0, 1)
    *_, failed = read_trials(tmp_path / "run/trials.jsonl")
    line = "package nvreg-raising 1.2: expected its code to run, got KeyError: 'no such key'; mend or"
    assert failed.error == f"{line} uninstall it"
    with pytest.raises(UserError, match=re.escape(line)):
        run_sweep(experiment, quiet=True, fail_fast=True, retry_failed=True)


def test_only_a_package_s_own_code_is_blamed(plugins):
    install(
        plugins, "nvreg-sound", {"sound": "nvreg_sound_e:Sound"}, nvreg_sound_e=SOUND + "\ndef fail(): 1 / 0"
    )
    METHODS["sound"]
    with pytest.raises(ZeroDivisionError) as caught:
        sys.modules["nvreg_sound_e"].fail()
    assert package_fault(caught.value).startswith(
        "package nvreg-sound 1.2: expected its code to run, got Zero"
    )
    with pytest.raises(ZeroDivisionError) as caught:
        1 / 0  # noqa: B018
    assert package_fault(caught.value) is None


def conditions(tiny_experiment):
    overrides = ["task=first-token", "evaluation.metrics=[surprise]", "selection.metric=surprise"]
    return conditions_of(open_workbench(load_experiment(tiny_experiment, overrides)), "cpu")


def test_the_package_of_a_task_and_of_a_metric_is_part_of_every_key(plugins, tiny_experiment):
    task = "from tests.tasks.test_contract import FirstToken"
    metric = (
        "from dataclasses import replace\nfrom nvreg.metrics import METRICS\n"
        "SURPRISE = replace(METRICS['nll'], name='surprise')"
    )
    install(
        plugins, "nvreg-first", {"first-token": "nvreg_first:FirstToken"}, "nvreg.tasks", nvreg_first=task
    )
    entries = {"surprise": "nvreg_surprise:SURPRISE"}
    install(plugins, "nvreg-surprise", entries, "nvreg.metrics", nvreg_surprise=metric)
    found = conditions(tiny_experiment)
    assert found["package"] == "nvreg-first 1.2"
    assert found["signatures"] == {"surprise": "unit:nat|nvreg-surprise 1.2|scored:first-token"}


# --- the package of docs/plugins.md ---------------------------------------------------------------


def blocks(language):
    text = (ROOT / "docs/plugins.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """The environment of commands where that package is built and installed."""
    if not all(map(find_spec, ("pip", "setuptools"))):
        pytest.skip("needs pip and setuptools, which build the package")
    source, target = tmp_path_factory.mktemp("nvreg-quiet"), tmp_path_factory.mktemp("installed")
    (source / "pyproject.toml").write_text(blocks("toml")[0])
    (source / "nvreg_quiet.py").write_text(blocks("python")[0])
    pip, alone = [sys.executable, "-m", "pip"], ["-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, "wheel", *alone, "--no-build-isolation", "-w", source, source], check=True)
    (wheel,) = source.glob("*.whl")
    subprocess.run([*pip, "install", *alone, "--target", target, wheel], check=True)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), str(ROOT)])}


def run(environment, *arguments):
    command = [sys.executable, "-c", "from nvreg.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_package_of_the_docs_is_built_installed_listed_and_swept(quiet, tiny_experiment, tmp_path):
    listed = json.loads(run(quiet, "methods", "--format", "json").stdout)
    assert listed["methods"]["quiet"] == {
        "description": "The outputs of attention are multiplied by a factor.",
        "parameters": {"factor": "a number from 0 to 1"},
        "options": [],
        "package": "nvreg-quiet 0.1",
    }
    assert listed["methods"]["nv"]["package"] is None
    assert listed["faults"] == []
    assert "quiet (of nvreg-quiet 0.1): The outputs" in run(quiet, "methods").stdout

    (file,) = blocks("yaml")
    sweep = json.dumps({**yaml.safe_load(file)["sweep"], "trials": 2})
    arguments = ("sweep", "--config", tiny_experiment, "--quiet", "--output", tmp_path / "run")
    swept = run(quiet, *arguments, "--set", f"sweep={sweep}")
    assert swept.returncode == 0, swept.stderr
    trials = [trial for trial in read_trials(tmp_path / "run/trials.jsonl") if trial.method == "quiet"]
    assert [trial.status for trial in trials] == ["completed", "completed"]
    for trial in trials:
        assert trial.strength == pytest.approx(1 - trial.settings["factor"])
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    prior = manifest["prior"]["fingerprint"]
    assert manifest["methods"] == {"nv": f"nv {prior}", "quiet": f"quiet nvreg-quiet 0.1 {prior}"}
    reported = run(quiet, "report", tmp_path / "run")
    assert "| quiet" in reported.stdout, reported.stderr

    (metadata,) = Path(quiet["PYTHONPATH"].split(os.pathsep)[0]).glob("*.dist-info/METADATA")
    metadata.write_text(metadata.read_text().replace("Version: 0.1", "Version: 0.2"))
    assert run(quiet, *arguments, "--set", f"sweep={sweep}").returncode == 0
    measured = [trial.method for trial in read_trials(tmp_path / "run/trials.jsonl")]
    assert (measured.count("quiet"), measured.count("nv")) == (4, 2)  # another version is measured anew


@pytest.mark.slow
def test_the_tests_of_the_docs_pass(quiet, tmp_path):
    path = tmp_path / "test_quiet.py"
    path.write_text(blocks("python")[1])
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", tmp_path, path]
    done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "36 passed" in done.stdout
