"""``nvreg inspect``, from files to a table, a csv and a picture."""

import pandas as pd
import pytest
import torch
from transformers import MBart50Tokenizer
from typer.testing import CliRunner

import nvreg
from nvreg.cli import app
from nvreg.config import Reading
from nvreg.data import model_inputs
from nvreg.diagnostics import measure_heads
from nvreg.inspection.measure import domain_names
from nvreg.models.loading import load_model, load_tokenizer
from nvreg.tasks.sampling import batches_of_file
from tests.models.architectures import ARCHITECTURES
from tests.tiny import tiny_marian, write_corpus

SETTINGS = nvreg.Settings(tau_alpha={"cross": 1.0}, tau_sigma=0.3)
OPTIONS = ("--tau-alpha", "cross=1", "--tau-sigma", "0.3")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A corpus; a checkpoint, its prior and its converted form; a decoder-only checkpoint and its prior."""
    directory = write_corpus(tmp_path_factory.mktemp("inspect"))
    model, tokenizer = tiny_marian()
    gpt2 = next(each for each in ARCHITECTURES if each.name == "gpt2").build().float()
    for name, each in (("model", model), ("gpt2", gpt2)):
        each.save_pretrained(directory / name)
        tokenizer.save_pretrained(directory / name)
    text = directory / "home/train.jsonl"
    prior = nvreg.estimate_prior(model, batches_of_file(model, tokenizer, text, "en", "de", 12))
    prior.save(directory / "model.safetensors")
    ids = tokenizer(["a cat .", "a dog ."]).input_ids
    nvreg.estimate_prior(gpt2, [model_inputs(ids, 0)]).save(directory / "gpt2.safetensors")
    nvreg.save_pretrained(nvreg.convert_(model, prior, SETTINGS), directory / "converted")
    tokenizer.save_pretrained(directory / "converted")
    return directory


@pytest.fixture
def inspect(directory, monkeypatch):
    monkeypatch.chdir(directory)

    def run(model, *options, data=("home/test.jsonl",), target="de"):
        files = [part for path in data for part in ("--data", path)]
        columns = ["--column", "en", *(("--target-column", target) if target else ())]
        return CliRunner().invoke(app, ["inspect", model, *files, *columns, *map(str, options)])

    return run


def test_it_measures_every_domain_and_writes_what_it_measured(directory, inspect, tmp_path):
    output = tmp_path / "new" / "output"
    data = ("home/test.jsonl", "away/test.jsonl")
    result = inspect(
        "model", "--prior", "model.safetensors", *OPTIONS, "--limit", 5, "--output", output, data=data
    )
    assert result.exit_code == 0, result.output
    written = pd.read_csv(output / "inspect.csv")
    model, tokenizer = load_model("model"), load_tokenizer("model")
    nvreg.convert_(model, nvreg.Prior.load("model.safetensors"), SETTINGS)
    for domain in ("home", "away"):
        batches = batches_of_file(model, tokenizer, directory / domain / "test.jsonl", "en", "de", 5)
        rows = written[written["domain"] == domain].drop(columns="domain").reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, measure_heads(model, batches), atol=1e-6)
        assert f"## {domain} (5 examples)" in result.stdout
    assert "# model with tau_alpha cross=1; tau_sigma encoder=0.3 cross=0.3 decoder=0.3" in result.stdout
    assert (output / "inspect.png").read_bytes().startswith(b"\x89PNG")


def test_a_converted_model_has_its_own_prior_and_setting(inspect):
    by_hand = inspect("model", "--prior", "model.safetensors", *OPTIONS)
    assert by_hand.exit_code == 0, by_hand.output
    converted = inspect("converted")
    assert converted.stdout == by_hand.stdout.replace("# model with", "# converted with")


def test_without_a_setting_it_shows_the_pretrained_attention(inspect):
    result = inspect("model")
    assert result.exit_code == 0, result.output
    assert "# model as pretrained" in result.stdout
    assert "| 0.0000       | 0.0000          |" in result.stdout


def test_a_model_of_one_text_is_measured_on_one_column(inspect):
    result = inspect("gpt2", "--prior", "gpt2.safetensors", "--tau-alpha", "0", target=None)
    assert result.exit_code == 0, result.output
    assert "| decoder | 3     |" in result.stdout
    assert "encoder" not in result.stdout


LANGUAGES = ("--source-language", "en_XX", "--target-language", "de_DE")


def test_a_model_of_many_languages_is_told_which(directory, inspect, tmp_path):
    tokenizer = MBart50Tokenizer(vocab=[(word, -1.0) for word in ("<s>", "<pad>", "</s>", "<unk>", "▁a")])
    mbart = next(each for each in ARCHITECTURES if each.name == "mbart").build().float()
    mbart.resize_token_embeddings(len(tokenizer))
    for part in (mbart, tokenizer):
        part.save_pretrained(tmp_path / "mbart")
    refused = inspect(str(tmp_path / "mbart"))
    assert refused.exit_code == 2
    assert "expected a language, as the model has many" in refused.stderr
    result = inspect(str(tmp_path / "mbart"), *LANGUAGES, "--output", tmp_path / "output")
    assert result.exit_code == 0, result.output
    model, tokenizer = (load(str(tmp_path / "mbart")) for load in (load_model, load_tokenizer))
    read = (model, tokenizer, directory / "home/test.jsonl", "en", "de")
    reading = Reading(source_language="en_XX", target_language="de_DE")
    batches = batches_of_file(*read, reading=reading)
    written = pd.read_csv(tmp_path / "output" / "inspect.csv").drop(columns="domain")
    pd.testing.assert_frame_equal(written, measure_heads(model, batches), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("model", *OPTIONS), "expected --prior FILE with tau_alpha cross=1"),
        (("converted", *OPTIONS), "expected neither --prior nor settings with converted"),
        (("converted", "--prior", "model.safetensors"), "expected neither --prior nor settings"),
        (("model", "--prior", "gpt2.safetensors"), "expected a prior of this model"),
        (("model", "--prior", "missing.safetensors"), "missing.safetensors"),
        (("gpt2", "--prior", "gpt2.safetensors", "--tau-alpha", "cross=1"), "decoder"),
        (("./missing",), "expected a model directory"),
        (("model", "--tau-mu", "2"), "tau_mu"),
        (("gpt2",), "expected --column alone with gpt2"),
        (("model", "--data", "missing.jsonl"), "missing.jsonl: expected a file, there is none"),
        (("model", "--data", "home/test.jsonl"), "expected every data file once"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(inspect, tmp_path, arguments, message):
    result = inspect(*arguments, "--output", tmp_path / "output")
    assert result.exit_code == 2, result.output
    assert message in result.stderr.splitlines()[-1]
    assert result.stderr.count("nvreg:") == 1
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["data/news.jsonl.gz", "data/talks.csv"], ["news", "talks"]),
        (["data/news/test.jsonl", "data/talks/test.jsonl"], ["news", "talks"]),
        (["data/news/test.jsonl"], ["news"]),
        (["news/Test.en.jsonl", "talks.csv"], ["news", "talks"]),
        (["news/reviews.csv", "talks/reviews.csv"], ["news", "talks"]),
        (["news/test.jsonl", "news/dev.jsonl"], ["test", "dev"]),
        (["test.jsonl"], ["test"]),
        (["test.jsonl", "news/test.jsonl"], ["test", "news"]),
        (["a.jsonl", "news/a.jsonl"], ["a.jsonl", "news/a.jsonl"]),
        (["a/news/test.jsonl", "b/news/test.jsonl"], ["a/news/test.jsonl", "b/news/test.jsonl"]),
        (["hf://datasets/a/news/test.parquet", "s3://talks/test.jsonl"], ["news", "talks"]),
        (["hub:a/news", "hub:a/talks:en", "{hub: a/books, split: train}"], ["news", "talks-en", "books"]),
        (
            ["{hub: a, split: test}", "{hub: a, split: train}"],
            ["{hub: a, split: test}", "{hub: a, split: train}"],
        ),
    ],
)
def test_a_domain_has_the_shortest_name_that_is_its_own(files, names):
    assert domain_names(files) == names


def test_a_file_given_twice_is_a_mistake():
    with pytest.raises(nvreg.UserError, match="every data file once"):
        domain_names(["news.jsonl"] * 2)


def test_a_prior_weight_is_solved_for_on_training_text(directory, inspect, tmp_path):
    options = ("--prior-weight", "cross=0.2", "--noise-share", "0.1", "--output", tmp_path / "output")
    result = inspect("model", "--prior", "model.safetensors", *options, "--prior-data", "home/train.jsonl")
    assert result.exit_code == 0, result.output
    assert "(space: inputs)" in result.stdout
    rows = pd.read_csv(tmp_path / "output" / "inspect.csv")
    weights = rows[rows["quantity"] == "prior_weight"].groupby("role")["value"].mean()
    assert weights["cross"] == pytest.approx(0.2, abs=0.05)
    assert weights["encoder"] == 0
    for missing in (options[:4], ("--prior-data", "home/train.jsonl")):
        refused = inspect("model", "--prior", "model.safetensors", *missing)
        assert refused.exit_code == 2
        assert "expected --prior-weight with --prior-data FILE" in refused.stderr


def test_the_help_names_the_argument_and_every_setting():
    shown = CliRunner().invoke(app, ["inspect", "--help"]).stdout
    assert "MODEL" in shown
    assert "{model}" not in shown
    assert {"--prior-weight", "--noise-share", "--tau-alpha", "--tau-sigma", "--tau-mu"} <= set(shown.split())


def test_what_is_not_finite_is_no_measurement(directory, inspect, tmp_path):
    model, tokenizer = tiny_marian()
    with torch.no_grad():
        model.get_encoder().layers[0].fc1.weight[0] = torch.nan
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "broken")
    refused = inspect(str(tmp_path / "broken"), "--output", tmp_path / "output")
    assert refused.exit_code == 2
    assert "nvreg: home: expected a finite entropy, got nan in the encoder, layer 1; " in refused.stderr
    assert not (tmp_path / "output").exists()


def test_a_directory_of_other_files_is_written_to_by_force_alone(directory, inspect, tmp_path):
    (tmp_path / "thesis.tex").touch()
    arguments = ("model", "--limit", 2, "--output", tmp_path)
    refused = inspect(*arguments)
    assert refused.exit_code == 2
    assert "expected a new or empty directory, or one that nvreg wrote" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert inspect(*arguments, "--force").exit_code == 0
    assert inspect(*arguments).exit_code == 0
