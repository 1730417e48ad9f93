import json
import math
import re
import subprocess
import sys

import pytest
import yaml

import nvreg
from nvreg.cli import COMMANDS, described
from nvreg.experiment import load_experiment
from nvreg.models.conversion import conversion_of
from nvreg.models.convert import current_settings
from nvreg.progress import Progress
from nvreg.results import read_trials
from nvreg.sweep.workbench import open_workbench, prior_of
from tests.cli.running import run
from tests.sweep.running import rewrite_trials


def test_help_and_version_need_none_of_the_heavy_libraries():
    script = (
        "import sys\n"
        "from nvreg.cli import main\n"
        "try:\n    main()\nexcept SystemExit as exit:\n    assert not exit.code\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'matplotlib', 'scipy', 'pyarrow'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    for arguments in (["--help"], ["--version"], ["sweep", "--help"], ["convert", "--help"]):
        subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True)


def test_warnings_are_nvreg_s_own_alone_a_line_each():
    script = (
        "import warnings\n"
        "import nvreg.cli\n"
        "from nvreg.errors import NvregWarning\n"
        "def command():\n"
        "    warnings.warn('a library is to change')\n"
        "    warnings.warn('texts are\\nlonger', NvregWarning)\n"
        "nvreg.cli.app = command\n"
        "nvreg.cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "nvreg: texts are longer\n")


def test_a_new_command_is_a_file_and_a_line(monkeypatch):
    monkeypatch.setitem(COMMANDS, "greet", "tests.cli.greet:greet")
    assert "Say hello." in run("--help").output
    assert run("greet", "Ada").output == "Hello, Ada.\n"
    assert run("greet", "nobody").exit_code == 2


def test_paragraphs_of_help_fill_lines_of_any_width():
    for name, command in COMMANDS.items():
        text, examples = described(command)
        assert "\n" not in text.replace("\n\n", ""), name
        assert examples, name


@pytest.mark.parametrize("arguments", [["--help"], ["schema"], ["architectures"]])
def test_a_pipe_that_is_closed_ends_a_command_quietly(arguments):
    command = [sys.executable, "-c", "from nvreg.cli import main; main()", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert arguments == ["--help"] or process.returncode == 0  # help is Rich's, which says 1


def test_the_list_of_architectures_goes_on_working_and_says_its_new_name():
    listed = run("convert", "--list")
    assert listed.exit_code == 0
    assert listed.stdout == run("architectures").stdout
    assert listed.stderr == "nvreg: nvreg convert --list is now nvreg architectures\n"


def test_version_names_the_commit_where_it_is_known(monkeypatch):
    monkeypatch.setattr("nvreg.cli.commit", lambda: "0123456789abcdef0123")
    assert run("--version").output == f"nvreg {nvreg.__version__} (commit 0123456789ab)\n"
    monkeypatch.setattr("nvreg.cli.commit", lambda: None)
    assert run("--version").output == f"nvreg {nvreg.__version__}\n"


@pytest.mark.parametrize("source", ["file", "text"])
def test_convert_saves_a_checkpoint_that_loads_converted(directory, prior, tmp_path, source):
    given = {
        "file": ["--prior", prior],
        "text": ["--prior-data", directory / "home/train.jsonl", "--column", "en", "--target-column", "de"],
    }
    out = tmp_path / "converted"
    result = run(
        "convert",
        directory / "model",
        out,
        *given[source],
        "--tau-alpha",
        "encoder=-3,cross=inf",
        "--tau-sigma",
        "0.1",
        "--tau-mu",
        "decoder=0.9",
    )
    assert result.exit_code == 0, result.output
    saved = current_settings(nvreg.from_pretrained(out))
    for role in ("encoder", "cross", "decoder"):
        site = saved.at(role, 0)
        assert site.tau_alpha == (-3 if role == "encoder" else math.inf)
        assert site.tau_sigma == 0.1
        assert site.tau_mu == (0.9 if role == "decoder" else 1)


def test_convert_without_a_setting_says_that_nothing_changes(directory, prior, tmp_path):
    result = run("convert", directory / "model", tmp_path / "converted", "--prior", prior)
    assert result.exit_code == 0, result.output
    said, opened = result.stdout.splitlines()[-2:]
    assert said.endswith(f"with identity (space: inputs) written to {tmp_path / 'converted'}")
    assert opened.startswith("it opens regularised by nvreg.from_pretrained, nvreg evaluate and ")
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("nvreg: ")]
    assert line.startswith("nvreg: no setting is given, so attention stays as pretrained; --prior-weight, ")


TEXT = ("--column", "en", "--target-column", "de")


def test_the_prior_of_a_space_converts_to_it_and_every_output_names_it(directory, tmp_path):
    model, train, test = directory / "model", directory / "home/train.jsonl", directory / "home/test.jsonl"
    prior, out = tmp_path / "heads.safetensors", tmp_path / "converted"
    estimated = run("prior", model, prior, "--data", train, *TEXT, "--space", "heads")
    assert estimated.exit_code == 0, estimated.output
    assert "estimating the prior (space: heads)" in estimated.stderr
    assert f"(space: heads) written to {prior}" in estimated.stdout
    assert nvreg.Prior.load(prior).space == "heads"

    converted = run("convert", model, out, "--prior", prior, "--tau-sigma", "0.1")
    assert converted.exit_code == 0, converted.output
    assert "tau_sigma 0.1 (space: heads) written" in converted.stdout
    written = json.loads((out / "nvreg.json").read_text())
    assert written["space"] == conversion_of(nvreg.from_pretrained(out)).space == "heads"
    assert "# " + str(out) + " with tau_sigma " in (
        shown := run("inspect", out, "--data", test, *TEXT).stdout
    )
    assert "(space: heads)" in shown

    mixed = run("convert", model, tmp_path / "mixed", "--prior", prior, "--space", "inputs")
    assert mixed.exit_code == 2
    assert "expected a prior of 'inputs' space" in mixed.stderr


def test_convert_estimates_the_prior_of_a_space_and_solves_in_it(directory, tmp_path):
    out = tmp_path / "converted"
    text = ("--prior-data", directory / "home/train.jsonl", *TEXT)
    wanted = ("--space", "heads", "--prior-weight", "cross=0.1", "--noise-share", "0.2")
    result = run("convert", directory / "model", out, *text, *wanted)
    assert result.exit_code == 0, result.output
    assert "estimating the prior (space: heads)" in result.stderr
    model = nvreg.from_pretrained(out)
    assert conversion_of(model).space == "heads"
    saved = current_settings(model)
    assert math.isfinite(saved.at("cross", 1).tau_alpha)
    assert saved.at("encoder", 0).tau_sigma > 0


@pytest.mark.usefixtures("undrawn")
def test_nv_in_both_spaces_is_swept_reported_and_exported(directory, tmp_path):
    """A sweep, its report, its exports, what loads them, and a sweep of one, which says what it measures."""
    output, space = tmp_path / "output", "{prior_weight: [0.1, 0.3], noise_share: [0.1, 0.3]}"
    methods = ", ".join(f"{name}: {{space: {space}}}" for name in ("nv", "nv-heads"))
    methods = f"{methods}, temperature: {{space: {{temperature: [0.9, 0.99]}}}}"
    arguments = ("sweep", "--config", directory / "tiny.yaml", "--output", output)
    swept = run(*arguments, "--set", f"sweep={{sampler: random, trials: 1, methods: {{{methods}}}}}")
    assert swept.exit_code == 0, swept.output
    assert {"estimating the prior (space: inputs)", "estimating the prior (space: heads)"} <= {
        *swept.stderr.splitlines()
    }
    assert "(temperature 0.9" in swept.stderr  # the name of method and parameter is said once

    for line in (output / "trials.jsonl").read_text().splitlines():
        trial = json.loads(line)
        if "noise_share" in trial["settings"]:
            assert min(trial["resolved"]["tau_sigma"]["encoder"]) > 0

    reported = run("report", output, "--protocol", "in-domain-tolerance", "--protocol", "oracle")
    assert reported.exit_code == 0, reported.output
    for method in ("nv", "nv-heads"):
        assert re.search(rf"\| in-domain-tolerance *\| {method} ", reported.stdout)

    for method, chosen in {"nv": "inputs", "nv-heads": "heads"}.items():
        out = tmp_path / method
        line = re.sub(r"\s+", " ", exported_as(output, out, method))
        assert f"chooses trial {1 + (method != 'nv')}, {method} prior_weight 0." in line
        assert "it opens regularised by nvreg.from_pretrained" in line
        model = nvreg.from_pretrained(out)
        assert conversion_of(model).space == chosen == json.loads((out / "nvreg.json").read_text())["space"]
        assert not current_settings(model).is_identity

    again = (*arguments[:3], "--set", f"model.path={tmp_path / 'nv-heads'}", "--output", tmp_path / "again")
    assert "nv-heads is regularised already; its pretrained weights are what is measured" in (
        run(*again, "--trials", 1).stderr
    )


def exported_as(run_directory, out, method) -> str:
    """Export the strongest setting of a method, whatever it scores, and return what is said."""
    pretrained = next(read_trials(run_directory / "trials.jsonl")).metrics
    rewrite_trials(run_directory, lambda line: line.update(metrics=pretrained))
    result = run("export", run_directory, out, "--protocol", "in-domain-tolerance", "--method", method)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.usefixtures("undrawn")
def test_a_method_that_is_not_measured_yet_is_not_exported(tiny_experiment, tmp_path):
    methods = "{nv: {space: {tau_mu: 0.9}}, nv-heads: {space: {tau_mu: 0.9}}}"
    arguments = ("sweep", "--config", tiny_experiment, "--output", tmp_path / "output")
    run(*arguments, "--set", f"sweep={{sampler: grid, methods: {methods}}}", "--method", "nv")
    kept = yaml.safe_load((tmp_path / "output/experiment.yaml").read_text())
    kept["sweep"]["methods"]["nv-heads"] = {"space": {"tau_mu": 0.9}}  # as in a sweep that goes on
    (tmp_path / "output/experiment.yaml").write_text(yaml.safe_dump(kept))
    assert "Not measured yet: nv-heads." in run("report", tmp_path / "output").stdout
    choice = ("--protocol", "in-domain", "--method", "nv-heads")
    for command in (
        ("export", tmp_path / "output", tmp_path / "out", *choice),
        ("convert", tmp_path / "out", "--from-results", tmp_path / "output", *choice),
    ):
        refused = run(*command)
        assert refused.exit_code == 2
        assert "nvreg: expected a method with settings that are measured, got nv-heads" in refused.stderr
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("prior_given", [True, False])
def test_convert_solves_for_tau_alpha(directory, prior, tmp_path, prior_given):
    out = tmp_path / "converted"
    text = ["--prior-data", directory / "home/train.jsonl", "--column", "en", "--target-column", "de"]
    given = ["--prior", prior] if prior_given else []
    wanted = ["--prior-weight", "cross=0.1,decoder=0", "--tau-sigma", "0.2"]
    result = run("convert", directory / "model", out, *given, *text, *wanted)
    assert result.exit_code == 0, result.output
    assert "tau_alpha cross=[" in result.stdout
    saved = current_settings(nvreg.from_pretrained(out))
    assert all(math.isfinite(saved.at("cross", layer).tau_alpha) for layer in (0, 1))
    assert saved.at("cross", 0).tau_alpha != saved.at("cross", 1).tau_alpha
    assert saved.at("decoder", 0).tau_alpha == math.inf
    assert saved.at("encoder", 0).tau_sigma == 0.2


def test_a_prefix_is_read_as_in_a_sweep(directory, prior, tmp_path):
    train, test = directory / "home/train.jsonl", directory / "home/test.jsonl"
    columns, prefix = ("--column", "en", "--target-column", "de"), ("--source-prefix", "a ")
    workbench = open_workbench(load_experiment(directory / "tiny.yaml", ["data.source_prefix='a '"]))
    expected = prior_of(workbench, "inputs", tmp_path / "kept", Progress(quiet=True)).fingerprint
    assert expected != nvreg.Prior.load(prior).fingerprint
    estimated, converted = tmp_path / "prior", tmp_path / "converted"
    assert run("prior", directory / "model", estimated, "--data", train, *columns, *prefix).exit_code == 0
    assert (
        run("convert", directory / "model", converted, "--prior-data", train, *columns, *prefix).exit_code
        == 0
    )
    for path in (estimated, converted / "nvreg_prior.safetensors"):
        assert nvreg.Prior.load(path).fingerprint == expected
    plain, prefixed = (
        run("inspect", directory / "model", "--data", test, *columns, *more) for more in ((), prefix)
    )
    assert prefixed.exit_code == 0
    assert prefixed.stdout != plain.stdout


def test_sweep_and_report_run_from_file_to_table(tiny_experiment, tmp_path):
    output = tmp_path / "output"
    swept = run("sweep", "--config", tiny_experiment, "--output", output, "--trials", 2)
    assert swept.exit_code == 0, swept.output
    assert "3 of 3 trials completed, 0 failed" in swept.stderr
    again = run("sweep", "--config", tiny_experiment, "--output", output, "--trials", 2, "--quiet")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "trials" not in again.stderr
    reported = run("report", output)
    assert reported.exit_code == 0, reported.output
    assert "pretrained" in reported.stdout


def test_a_sweep_may_try_some_methods_of_its_file(tiny_experiment, tmp_path):
    methods = (
        "sweep={sampler: random, methods: {sink: {space: {sink_logit: 0}}, low-rank: {space: {keep: 0.5}}}}"
    )
    arguments = ["sweep", "--config", tiny_experiment, "--set", methods, "--output", tmp_path, "--trials", 1]
    swept = run(*arguments, "--method", "low-rank")
    assert swept.exit_code == 0, swept.output
    assert "2 of 2 trials completed" in swept.stderr
    assert list(yaml.safe_load((tmp_path / "experiment.yaml").read_text())["sweep"]["methods"]) == [
        "low-rank"
    ]
    refused = run(*arguments, "--method", "nv", "--method", "sink")
    assert refused.exit_code == 2
    assert "--method: expected one of the file, sink, low-rank, got 'nv'" in refused.stderr

    assert run(*arguments, "--method", "sink").exit_code == 0
    choice = ["--method", "low-rank", "--protocol", "in-domain"]
    exported = run("export", tmp_path, tmp_path / "exported", *choice)
    assert exported.exit_code == 0, exported.output
    mistyped = run("export", tmp_path, tmp_path / "other", *choice, "--domain", "nowhere")
    assert mistyped.exit_code == 2
    assert "--domain: expected one of home, away, got 'nowhere'" in mistyped.stderr


def test_a_dry_run_prints_the_plan(tiny_experiment, tmp_path):
    result = run("sweep", "--config", tiny_experiment, "--dry-run", "--output", tmp_path / "output")
    assert result.exit_code == 0, result.output
    assert "trials      4," in result.stdout
    assert not (tmp_path / "output").exists()


def test_failed_trials_give_exit_code_1(tiny_experiment, tmp_path, monkeypatch):
    from nvreg.sweep.worker import Worker

    measured = Worker._measured

    def failing(self, job, step):
        if job.setting is None:
            return measured(self, job, step)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Worker, "_measured", failing)
    result = run("sweep", "--config", tiny_experiment, "--output", tmp_path / "output", "--trials", 1)
    assert result.exit_code == 1
    assert "1 of 2 trials completed, 1 failed" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 130), (RuntimeError("two\nlines"), 1), (nvreg.UserError("mend"), 2)],
)
def test_whatever_a_command_raises_is_one_line_and_an_exit_code(tiny_experiment, monkeypatch, error, code):
    from nvreg.sweep import runner

    def failing(*_):
        raise error

    monkeypatch.setattr(runner, "open_workbench", failing)
    arguments = ["sweep", "--config", tiny_experiment, "--quiet"]
    result = run(*arguments)
    assert result.exit_code == code
    assert "Traceback" not in result.output
    assert len(result.stderr.splitlines()) == (0 if code == 130 else 1)
    if code != 130:
        assert run("--debug", *arguments).exception is error
