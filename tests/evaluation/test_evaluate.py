"""One score without a sweep: what a trial measures, with its uncertainty, in a typed file."""

import json
import math
import re

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from seqeval.metrics import f1_score

from nvreg.evaluation import measure
from nvreg.evaluation.presentation import examples_files, page
from nvreg.evaluation.result import Difference, DomainResult, MeasuredModel, Result, Score
from nvreg.experiment import load_experiment
from nvreg.metrics import METRICS
from nvreg.metrics.resampling import resample_counts
from nvreg.results import BatchSize, read_trials
from nvreg.sweep.runner import run_sweep
from nvreg.tasks import TASKS
from tests.cli.running import run
from tests.models.architectures import ARCHITECTURES
from tests.tasks import test_token_classification
from tests.tiny import tiny_marian, tiny_model, word_tokenizer

COLUMNS = ("--column", "en", "--target-column", "de")
GENERATION = ("--set", "evaluation.generation={num_beams: 1, max_new_tokens: 8}")
SETTING = ("--tau-alpha", "cross=-1,encoder=1", "--tau-sigma", "encoder=0.2")


@pytest.fixture(scope="module")
def schema():
    described = json.loads(run("schema", "--kind", "evaluation").stdout)
    Draft202012Validator.check_schema(described)
    return Draft202012Validator(described)


@pytest.fixture
def evaluate(tiny_experiment, tmp_path, schema):
    """Evaluate the tiny translation model on both test sets; the result is checked against its schema."""
    data = [tiny_experiment.parent / domain / "test.jsonl" for domain in ("home", "away")]

    def evaluated(*arguments, model=tiny_experiment.parent / "model", task="translation", columns=COLUMNS):
        files = [each for path in data for each in ("--data", path)]
        out = tmp_path / "result.json"
        result = run("evaluate", model, "--task", task, *files, *columns, "--output", out, *arguments)
        assert result.exit_code == 0, result.output
        written = json.loads(out.read_text())
        schema.validate(written)
        assert Result.model_validate(written).model_dump(mode="json") == written
        return {domain["name"]: domain for domain in written["domains"]}, written

    return evaluated


def test_it_is_what_a_trial_of_a_sweep_measures(tiny_experiment, tmp_path, evaluate):
    """The same prior, setting and numbers as those of the pretrained model and of a calibrated setting."""
    output = tmp_path / "run"
    enqueued = "{prior_weight: {cross: 0.1}, tau_sigma: {encoder: 0.2}}"
    overrides = (
        f"output={output}",
        "sweep.trials=1",
        "sweep.space={prior_weight: [0.1, 0.2], tau_sigma: 0.1}",
    )
    run_sweep(load_experiment(tiny_experiment, [*overrides, f"sweep.enqueue=[{enqueued}]"]), quiet=True)
    plain, trial = read_trials(output / "trials.jsonl")
    metrics = ("--metric", "perplexity", "--metric", "bleu", *GENERATION)
    train = ("--prior-data", tiny_experiment.parent / "home/train.jsonl")
    domains, written = evaluate(*metrics, *train, "--prior-weight", "cross=0.1", "--tau-sigma", "encoder=0.2")
    assert written["model"]["space"] == "inputs"
    assert written["model"]["resolved"] == trial.resolved
    for expected, measured in ((trial, domains), (plain, evaluate(*metrics)[0])):
        for name, domain in measured.items():
            assert {
                metric: score["value"] for metric, score in domain["metrics"].items()
            } == expected.metrics[name]["test"]


def test_differences_are_paired_and_intervals_are_those_of_a_report(evaluate, tiny_experiment, tmp_path):
    prior = ("--prior-data", tiny_experiment.parent / "home/train.jsonl")
    domains, written = evaluate(
        "--metric", "nll", *prior, *SETTING, "--against", "pretrained", "--log-examples"
    )
    plain, _ = evaluate("--metric", "nll", "--force")
    assert (written["against"]["space"], written["model"]["space"]) == (None, "inputs")
    for name, domain in domains.items():
        score, difference = domain["metrics"]["nll"], domain["against"]["nll"]
        assert difference["other"] == plain[name]["metrics"]["nll"]["value"]
        assert difference["difference"] == pytest.approx(score["value"] - difference["other"])
        lines = (tmp_path / f"result.{name}.jsonl").read_text().splitlines()
        examples = [json.loads(line) for line in lines]
        assert [each["id"] for each in examples] == list(range(domain["examples"]))
        assert set(examples[0]["record"]) == {"source", "target"}
        rows = np.array([each["statistics"]["likelihood"] for each in examples])
        assert METRICS["nll"].score(rows) == score["value"]
        assert examples[0]["scores"]["nll"] == pytest.approx(rows[0, 0] / rows[0, 1])
        if domain["examples"] < 10:
            assert score["standard_error"] is score["low"] is difference["p"] is None
            continue
        drawn = METRICS["nll"].score(rows, resample_counts(f"{name}.test", len(rows)))
        assert score["standard_error"] == pytest.approx(np.std(drawn, ddof=1))
        assert score["low"] < score["value"] < score["high"]
        assert 0 < difference["p"] <= difference["p_holm"] <= 1


def test_domains_of_like_names_have_files_of_their_own(tmp_path):
    files = examples_files(tmp_path / "result.json", ["a b", "a-b", "a-b-2", "a/b"])
    assert [path.name for path in files.values()] == [
        "result.a-b.jsonl", "result.a-b-2.jsonl", "result.a-b-2-2.jsonl", "result.a-b-3.jsonl",
    ]  # fmt: skip


def test_numbers_of_the_table_end_at_the_second_digit_of_their_half_widths():
    scores = {
        "nll": Score(value=2.345678, standard_error=0.04567, low=2.2512, high=2.4389),
        "accuracy": Score(value=0.876543, standard_error=None, low=None, high=None),
        "perplexity": Score(value=math.inf, standard_error=None, low=None, high=None),
    }
    difference = Difference(
        other=2.3, difference=0.045678, standard_error=0.01, low=0.0251, high=0.0659, p=0.001, p_holm=0.0012
    )
    domain = DomainResult(
        name="home",
        data="home.jsonl",
        fingerprint="0",
        examples=40,
        truncated=3,
        metrics=scores,
        against={"nll": difference},
    )
    settings = {"prior_weight": 0.1, "noise_share": {"encoder": 0.012345678}}
    model = MeasuredModel.model_construct(path="model", space="heads", settings=settings)
    itself = MeasuredModel.model_construct(path="model", space=None)
    shown = page(
        Result.model_construct(model=model, against=itself, domains=[domain], signatures={}, notes=[])
    )
    assert shown.startswith("# model with prior_weight 0.1; noise_share encoder=0.01235 (space: heads)\n")
    assert "| difference from itself as pretrained |" in shown
    assert "| 2.346 ± 0.046 | [2.251, 2.439] | +0.046 [+0.025, +0.066] | 0.0012 |" in shown
    assert "| accuracy | 0.8765 |  | measured otherwise |" in shown
    assert "| perplexity | inf |  |" in shown
    assert "\n- examples: home 40 (3 cut to fit)" in shown


def test_a_converted_directory_is_measured_as_it_was_saved_and_compares_with_another(
    tiny_experiment, tmp_path, evaluate
):
    out, train = tmp_path / "converted", tiny_experiment.parent / "home/train.jsonl"
    model = tiny_experiment.parent / "model"
    assert run("convert", model, out, "--prior-data", train, *COLUMNS, *SETTING).exit_code == 0
    saved, written = evaluate("--metric", "nll", "--against", model, model=out)
    given, _ = evaluate("--metric", "nll", "--prior", out / "nvreg_prior.safetensors", *SETTING)
    assert written["model"]["settings"]["tau_sigma"] == {"encoder": 0.2}
    assert written["against"]["path"] == str(model)
    for name, domain in saved.items():
        assert domain["metrics"] == given[name]["metrics"]
        assert domain["against"]["nll"]["difference"] != 0
    other, written = evaluate("--metric", "nll", "--tau-mu", "0.5", model=out)
    assert written["model"]["settings"] == {"tau_mu": 0.5}
    assert other["home"]["metrics"]["nll"]["value"] != saved["home"]["metrics"]["nll"]["value"]


def test_multiple_choice_is_shown_by_every_normalisation(tmp_path, schema):
    (architecture,) = (each for each in ARCHITECTURES if each.name == "llama")
    architecture.build().save_pretrained(tmp_path / "model")
    word_tokenizer("<s> $A").save_pretrained(tmp_path / "model")
    records = [
        {"context": "a cat sees", "choices": ["a dog", "the big red tree .", "Bäume"], "label": number % 3}
        for number in range(12)
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    result = run(
        "evaluate",
        tmp_path / "model",
        *("--task", "multiple-choice", "--data", tmp_path / "data.jsonl", "--output", "-", "--quiet"),
        *("--set", "evaluation.normalisation=bytes"),
    )
    assert result.exit_code == 0, result.output
    written = json.loads(result.stdout)
    schema.validate(written)
    (domain,) = written["domains"]
    by = domain["normalisations"]
    assert list(by) == ["tokens", "characters", "bytes", "none"]
    assert by["bytes"] == domain["metrics"]
    assert len({scores["nll"]["value"] for scores in by.values()}) == 4
    assert "|by:bytes|" in written["signatures"]["accuracy"]


RECORDS = {
    "summarisation": {"document": "a cat sees a dog .", "summary": "ein Kater ."},
    "language-modelling": {"text": "a cat sees a dog ."},
    "classification": {"text": "a cat sees a dog .", "label": "good"},
    "token-classification": {"tokens": ["a", "cat"], "tags": ["O", "B-pet"]},
}


@pytest.mark.slow
@pytest.mark.parametrize("task", RECORDS)
def test_every_other_task_is_scored_regularised_and_compared(tmp_path, schema, task):
    """With every metric of the task, translation and multiple choice being those of the tests above."""
    if task == "summarisation":
        model, tokenizer = tiny_marian()
    else:
        tokenizer = word_tokenizer("<s> $A")
        model = tiny_model(task, len(tokenizer))
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    file = tmp_path / "data.jsonl"
    file.write_text(12 * (json.dumps(RECORDS[task]) + "\n"))
    setting = ("--prior-data", file, "--prior-weight", "0.1", "--noise-share", "0.1")
    generation = GENERATION if task == "summarisation" else ()
    result = run(
        *("evaluate", tmp_path / "model", "--task", task, "--data", file, *setting),
        *("--against", "pretrained", *generation, "--output", "-", "--quiet"),
    )
    assert result.exit_code == 0, result.output
    written = json.loads(result.stdout)
    schema.validate(written)
    (domain,) = written["domains"]
    assert set(domain["metrics"]) >= set(TASKS[task].metrics()) - {"overlap"}
    assert domain["against"]["nll"]["difference"] != 0
    assert set(written["model"]["resolved"]) == {"tau_alpha", "tau_sigma"}


def test_a_note_counts_each_example_of_the_data_once(tmp_path):
    """Neither the model that is compared with nor the prior's text adds to what is said of the data."""
    (architecture,) = (each for each in ARCHITECTURES if each.name == "llama")
    architecture.build().save_pretrained(tmp_path / "model")
    word_tokenizer("$A").save_pretrained(tmp_path / "model")
    record = {"context": "", "choices": ["a dog", "the big red tree ."], "label": 0}
    (tmp_path / "data.jsonl").write_text(3 * (json.dumps(record) + "\n"))
    data = ("--data", tmp_path / "data.jsonl", "--prior-data", tmp_path / "data.jsonl", "--tau-sigma", "0.1")
    result = run(
        *("evaluate", tmp_path / "model", "--task", "multiple-choice", *data),
        *("--against", "pretrained", "--output", "-", "--quiet"),
    )
    assert result.exit_code == 0, result.output
    (note,) = json.loads(result.stdout)["notes"]
    assert "is not scored in 3 examples" in note


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tau-sigma", "0.1"), "expected --prior FILE or --prior-data FILE with a setting"),
        (("--prior-weight", "0.1"), "expected --prior-data FILE, the text on which --prior-weight is solved"),
        (("--metric", "overlap"), "expected --against MODEL with overlap"),
        (("--metric", "blue"), "evaluation.metrics"),
        (("--label-column", "x"), "--label-column: expected a task that has such a column, got translation"),
        (("--set", "evaluation.window=3"), "nvreg evaluate: evaluation.window: expected none with task"),
        (("--set", "evaluation.windw=3"), "unknown key.*did you mean 'window'"),
        (("--set", "model.trust_remote_code=true"), "trust_remote_code in the file alone"),
        (("--log-examples",), "expected --output FILE with --log-examples"),
    ],
)
def test_mistakes_are_one_line(tiny_experiment, arguments, message):
    directory = tiny_experiment.parent
    data = ("--data", directory / "home/test.jsonl")
    result = run("evaluate", directory / "model", "--task", "translation", *data, *COLUMNS, *arguments)
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("nvreg: ")]
    assert re.search(message, line)


def tagger(directory):
    """Save a tiny tagger, and return it with what it is to be told of words and tags."""
    model, data = test_token_classification.build("bert"), test_token_classification.examples()
    for each in (model, test_token_classification.tokenizer_of("bert")):
        each.save_pretrained(directory / "model")
    write_words(directory / "test.jsonl", data.records)
    return model, data.records


def write_words(path, records):
    lines = [json.dumps({"words": list(each["tokens"]), "pos": list(each["tags"])}) for each in records]
    path.write_text("\n".join(lines))


WORDS = ("--task", "token-classification", "--column", "words", "--tag-column", "pos")


def test_f1_of_tagged_words_is_seqevals(tmp_path, schema):
    _, records = tagger(tmp_path)
    out = tmp_path / "result.json"
    data, train = ("--data", tmp_path / "test.jsonl"), ("--prior-data", tmp_path / "test.jsonl")
    arguments = (*WORDS, *data, *train, "--prior-weight", "0.2", "--against", "pretrained")
    result = run("evaluate", tmp_path / "model", *arguments, "--log-examples", "--output", out)
    assert result.exit_code == 0, result.output
    written = json.loads(out.read_text())
    schema.validate(written)
    ((domain,),) = [written["domains"]]
    log = examples_files(out, [domain["name"]])[domain["name"]]
    predicted = [json.loads(line)["prediction"].split() for line in log.read_text().splitlines()]
    expected = f1_score([list(each["tags"]) for each in records], predicted)
    assert domain["metrics"]["f1"]["value"] == pytest.approx(expected)
    assert set(domain["metrics"]) == set(test_token_classification.EVERYTHING)


def test_a_tagger_is_converted_and_inspected_by_its_own_data(tmp_path):
    tagger(tmp_path)
    model, prior, out = tmp_path / "model", tmp_path / "prior.safetensors", tmp_path / "out"
    data = ("--data", tmp_path / "test.jsonl", "--column", "words")
    assert run("prior", model, prior, *data).exit_code == 0
    text = ("--prior-data", tmp_path / "test.jsonl", "--column", "words", "--prior-weight", "0.1")
    assert run("convert", model, out, *text).exit_code == 0
    assert "prior weight" in run("inspect", out, *data).stdout


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (["B-z"], "words, record 1: expected the label O, .*got B-z"),
        (["O", "O"], "a tag for every token, got 1"),
    ],
)
def test_tags_that_do_not_fit_are_one_line(tmp_path, tags, message):
    tagger(tmp_path)
    write_words(tmp_path / "words.jsonl", [{"tokens": ["cat"], "tags": tags}])
    result = run("evaluate", tmp_path / "model", *WORDS, "--data", tmp_path / "words.jsonl", "--quiet")
    assert result.exit_code == 2
    (line,) = (line for line in result.stderr.splitlines() if not line.startswith("Loading weights") and line)
    assert re.match(f"nvreg: .*{message}", line)


def test_the_size_of_batches_is_found_and_written_for_both_models(evaluate, tiny_experiment, monkeypatch):
    found, used, scored = [], [], measure.score_set

    def find(*arguments):
        found.append(arguments[-1])
        return BatchSize(tokens=16, found="it was tried")

    def score(task, *arguments):
        used.append(task.batch_tokens)
        return scored(task, *arguments)

    _, plain = evaluate("--metric", "nll")
    assert plain["batch_tokens"] == {"tokens": 2048, "found": "too little is scored for another size to pay"}
    monkeypatch.setattr(measure, "find_batch_size", find)
    monkeypatch.setattr(measure, "score_set", score)
    _, written = evaluate("--metric", "nll", "--against", tiny_experiment.parent / "model", "--force")
    assert written["batch_tokens"] == {"tokens": 16, "found": "it was tried"}
    evaluate("--metric", "nll", "--against", "pretrained", "--force")
    assert (found, set(used)) == ([1, 2], {16})
    _, given = evaluate("--metric", "nll", "--set", "evaluation.batch_tokens=64", "--force")
    assert given["batch_tokens"] == {"tokens": 64, "found": None}
    assert len(found) == 2
