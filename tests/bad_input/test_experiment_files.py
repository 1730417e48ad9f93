"""Experiment and fine-tuning files with every key wrong in many ways: refused by file and key, or taken."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvreg.config.yaml import read_yaml, write_yaml
from nvreg.errors import UserError
from nvreg.experiment import load_experiment
from nvreg.finetune.schema import load_finetuning
from tests.bad_input.checking import check_line, check_refused, in_time, mistake_of, one_in

EXPERIMENT = """
name: x
task: translation
model: {path: ./model, revision: main, dtype: float32, device: cpu, trust_remote_code: false}
data:
  columns: {source: en, target: de}
  max_length: 100
  source_prefix: "x "
  source_language: en
  target_language: de
  labels: null
  in_domain:
    name: home
    train: {files: home/train.jsonl, limit: 10, seed: 1}
    validation: {source_file: a.en, target_file: a.de}
    test: {hub: some/data, config: c, revision: main, split: test}
  out_of_domain:
    - name: away
      validation: {files: away/validation.jsonl, columns: {source: e}}
      test: {files: away/test.jsonl}
prior: {kind: empirical, max_tokens: 1000}
sweep:
  sampler: random
  trials: 3
  seeds: [1, 2]
  racing: {after: 5}
  methods:
    nv:
      space: {tau_alpha: {cross: [-5, 5]}, tau_sigma: {encoder: {values: [0, 0.5]}}, tau_mu: 0.5}
      enqueue: [{tau_sigma: {cross: 0.3}}]
    temperature: {space: {temperature: [0.7, 1.5]}}
evaluation:
  metrics: [perplexity, bleu]
  batch_tokens: 100
  generation: {num_beams: 1, max_new_tokens: 8}
  bleu_tokenize: 13a
  rouge_tokenize: words
  temperatures: [0.9, 1.1]
selection: {metric: perplexity, protocols: [in-domain, oracle]}
output: results/tiny
"""

FINETUNING = """
name: x
task: classification
model: {path: ./model, dtype: float32, device: cpu}
data:
  columns: {text: t}
  max_length: 10
  labels: {a: b}
  in_domain:
    name: home
    train: {files: home/train.jsonl}
    validation: {files: home/validation.jsonl, limit: 4}
method: mvcr
regulariser: {widths: [4, 8], layers: [0, 1], noise: 0.1}
training:
  epochs: 1
  batch_size: 2
  learning_rate: 1.0e-3
  weight_decay: 0.1
  warmup: 0.1
  early_stopping: {metric: accuracy, patience: 2}
  precision: float32
  seeds: [1, 2]
output: results/tuned
"""

KINDS = {"experiment": (EXPERIMENT, load_experiment), "finetuning": (FINETUNING, load_finetuning)}

WRONG: dict[str, Any] = {
    "null": None,
    "true": True,
    "a number in quotes": "3",
    "minutes": "1:30",
    "text": "no such thing",
    "no text": "",
    "control": "a\x1b[2J\x07b",
    "not a text": "\u202e\u2028",
    "long text": "x" * 5000,
    "-1": -1,
    "0": 0,
    "a fraction": 0.3,
    "inf": float("inf"),
    "-inf": float("-inf"),
    "nan": float("nan"),
    "1e300": 1e300,
    "400 digits": "!digits",
    "60 digits": 10**60,
    "empty list": [],
    "list of nothing": [None],
    "list of lists": [[[]]],
    "list of text": ["a", "a"],
    "range that falls": [5, -5],
    "empty keys": {},
    "unknown key": {"no such key": 1},
    "null key": {None: [0, 1]},
    "key of a number": {7: {"values": []}},
    "true key": {True: False},
}


def paths_in(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the place of every value in a document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in inside for place in ((*before, key), *paths_in(each, (*before, key)))]


def written(kind: str, place: tuple[Any, ...], wrong: str) -> str:
    document = read_yaml(KINDS[kind][0])
    target = document
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = copy.deepcopy(WRONG[wrong])
    text = write_yaml(document)
    return text.replace("'!digits'", "9" * 400)


CASES = [
    (kind, place, wrong) for kind in KINDS for place in paths_in(read_yaml(KINDS[kind][0])) for wrong in WRONG
]


def test_there_are_more_than_a_thousand_files():
    assert len(CASES) > 2000


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_that_mistakes_are_made_in_has_none(kind, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(KINDS[kind][0])
    KINDS[kind][1](path)


@pytest.mark.parametrize(
    "case",
    one_in(30, CASES, [f"{kind}-{'.'.join(map(str, place))}-{wrong}" for kind, place, wrong in CASES]),
)
def test_a_wrong_value_is_refused_by_file_and_key_or_taken(case, tmp_path):
    kind, place, _ = case
    path = tmp_path / "a.yaml"
    path.write_text(written(*case))
    message = mistake_of(KINDS[kind][1], path)
    if message is not None:
        check_line(message, str(path))
        key = next(str(part) for part in reversed(place) if not isinstance(part, int))
        assert key in message or any(str(part) in message for part in place), message


MANY = f"{{values: {[number / 1000 for number in range(1000)]}}}"

REFUSED = {
    # numbers are numbers
    "sweep.trials=true": "sweep.trials: expected a whole number, got True",
    "sweep.trials='3'": "sweep.trials: expected a whole number, got '3'",
    "sweep.trials=1:30": "sweep.trials: expected a whole number, got '1:30'",
    "sweep.trials=2.5": "sweep.trials: expected a whole number, got 2.5",
    "sweep.trials=1000000000": "sweep.trials: expected a number less than or equal to 100000",
    "sweep.seeds=[1, true]": "sweep.seeds.1: expected a whole number, got True",
    f"sweep.seeds=[{10**30}]": "sweep.seeds.0: expected a number less than 9223372036854775808",
    "sweep.seed='1'": "sweep.seed",
    "evaluation.window='5'": "evaluation.window: expected a whole number, got '5'",
    "evaluation.temperatures=[true]": "evaluation.temperatures.0: expected a number, got True",
    "evaluation.temperatures=['2']": "evaluation.temperatures.0: expected a number, got '2'",
    "data.max_length=true": "data.max_length: expected a whole number, got True",
    "data.in_domain.train.limit=1e400": "data.in_domain.train.limit: expected a whole number, got inf",
    f"sweep.trials={'9' * 400}": "expected a number of at most 100 digits, got one of 400",
    f"sweep.space.tau_mu={'9' * 90}": "tau_mu: expected a number from 0 to 1, got 999",
    # text is text
    "name=3": "name: expected text, got 3",
    "name=[a]": "name: expected text, got ['a']",
    "output=true": "output: expected text, got True",
    "model.path=null": "model.path: expected text, got nothing",
    # keys are known, and said once
    "sweep={sampler: grid, sampler: random, trials: 1}": "sampler: expected the key once",
    "data.labels={a: b, a: c}": "a: expected the key once",
    "evaluation.generation={[1]: 2}": "expected a key that is text or a number",
    "sweep.space={tau_mu: {null: 0.5}}": "tau_mu: expected one of encoder, cross, decoder, got nothing",
    "sweep.space={tau_mu: {}}": "tau_mu: expected [low, high]",
    "sweep.space={tau_mu: {cross: null}}": "tau_mu.cross: expected [low, high]",
    "sweep.enqueue=[{tau_mu: {null: 0.5}}]": "tau_mu: expected one of encoder, cross, decoder, got nothing",
    # a document does not grow
    "name=&a [*a]": "expected a value, got an alias of what it is a part of",
    f"name={'[' * 200}": "expected at most 50 levels",
    f"name={'{a: ' * 200}": "expected at most 50 levels",
    # keys that the task has no use for
    "data.labels={a: b}": "data.labels: expected none with task translation, which has no use for it",
    "evaluation.window=64": "evaluation.window: expected none with task translation",
    "evaluation.stride=64": "evaluation.stride: expected none with task translation",
    # splits differ
    "data.in_domain.test.files=home/train.jsonl": (
        "data.in_domain.test: expected other examples than those of data.in_domain.train, got the same"
    ),
    "data.in_domain.validation={files: home/train.jsonl, limit: 3}": (
        "data.in_domain.validation: expected other examples than those of data.in_domain.train"
    ),
    "data.out_of_domain.0.validation.files=away/test.jsonl": (
        "data.out_of_domain.0.test: expected other examples than those of data.out_of_domain.0.validation"
    ),
    "data.out_of_domain.0.test.files=./home/../home/test.jsonl": (
        "data.out_of_domain.0.test: expected other examples than those of data.in_domain.test"
    ),
    # spaces that cannot run
    "sweep.space={prior_weight: [0.1, 0.2], tau_alpha: {cross: [0, 1]}}": (
        "sweep.space: expected prior_weight or tau_alpha, got both"
    ),
    "sweep.space={prior_weight: {cross: 0.1}, tau_alpha: {cross: {values: [inf, 3]}}}": (
        "sweep.space: expected prior_weight or tau_alpha, got both"
    ),
    "sweep.space={noise_share: [0.1, 0.2], tau_sigma: {encoder: {each_layer: [0, 1]}}}": (
        "sweep.space: expected noise_share or tau_sigma, got both"
    ),
    "sweep.enqueue=[{prior_weight: 0.1, tau_alpha: 3}]": "expected prior_weight or tau_alpha, got both",
    "sweep.space={tau_sigma: [0, 1e160]}": "tau_sigma: expected a number from 0 to 1e15, got 1e+160",
    "sweep.space={tau_alpha: {cross: -1e160}}": "tau_alpha.cross: expected a number from -1e30",
    "sweep.space={tau_alpha: .nan}": "tau_alpha: expected a number from -1e30 to 1e30, or inf, got nan",
    "sweep={method: weight-noise, sampler: random, trials: 2, space: {seed: [0, 1e12]}}": (
        "seed: expected a range of at most 100000 whole numbers"
    ),
    f"sweep={{sampler: grid, space: {{tau_sigma: {MANY}, tau_mu: {MANY}}}}}": "100000 settings, got 1e+06",
}


@pytest.mark.parametrize("override", REFUSED, ids=lambda text: text[:60])
def test_what_cannot_be_meant_is_refused_by_key(override, tiny_experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["sweep", "--config", tiny_experiment, "--set", override]
    check_refused(tmp_path, arguments, REFUSED[override])


USELESS = {
    "classification": ["target_language: de", "source_language: en", "source_prefix: x"],
    "token-classification": ["target_language: de"],
    "language-modelling": ["labels: {a: b}", "target_language: de"],
    "summarisation": ["labels: {a: b}"],
}


@pytest.mark.parametrize("task", USELESS)
def test_keys_of_no_use_are_refused_in_fine_tuning_files_too(task, tmp_path):
    path = tmp_path / "a.yaml"
    document = read_yaml(FINETUNING) | {"task": task, "method": "plain", "training": {}, "regulariser": {}}
    for written in USELESS[task]:
        key = written.partition(":")[0]
        data = {"in_domain": document["data"]["in_domain"], **read_yaml(written)}
        path.write_text(write_yaml(document | {"data": data}))
        with pytest.raises(UserError, match=f"data.{key}: expected none with task {task}"):
            load_finetuning(path)


def test_a_fine_tuning_is_not_validated_on_what_it_is_trained_on(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(FINETUNING)
    with pytest.raises(UserError, match=r"data\.in_domain\.validation: expected other examples"):
        load_finetuning(path, ["data.in_domain.validation.files=home/train.jsonl"])


def nested(first: str, opening: str, item: str, closing: str) -> str:
    """Return 11 levels of nine aliases each: 31 thousand million values."""
    lines = [f"a0: &a0 {first}"]
    for level in range(1, 12):
        items = ", ".join(item.format(number=number, level=level - 1) for number in range(9))
        lines.append(f"a{level}: &a{level} {opening}{items}{closing}")
    return "\n".join(lines)


FILES = {
    "bomb": nested("[x]", "[", "*a{level}", "]"),
    "bomb of keys": nested("{x: 1}", "{", "k{number}: *a{level}", "}"),
    "bomb of merged keys": nested("{x: 1}", "{<<: [", "*a{level}", "]}"),
    "chain of aliases": "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 3000)),
    "deep list": "[" * 100_000,
    "deep keys": "a: " + "{a: " * 100_000,
    "deep by indentation": "".join(f"{' ' * n}a:\n" for n in range(1000)),
    "deep by dashes": "- " * 20_000 + "x",
    "long": "a: " + "x" * 3_000_000,
    "many keys": "".join(f"k{n}: {n}\n" for n in range(20_000)),
    "duplicate": EXPERIMENT + "name: y\n",
    "two documents": EXPERIMENT + "---\n" + EXPERIMENT,
    "no YAML": "a: b: c: [",
    "tab": "\ta: 1",
    "nothing": "",
    "a list": "[1, 2]",
    "a text": "name",
    "python": "name: !!python/object/apply:os.system ['touch owned']",
    "python name": "!!python/name:os.system ''",
    "unknown tag": "name: !mine x",
    "undefined alias": "name: *x",
    "binary": "name: !!binary aGVsbG8=",
    "set": "name: !!set {a, b}",
    "omap": "name: !!omap [a: 1, a: 2]",
    "date": "name: !!timestamp 2024-99-99",
    "float of minutes": EXPERIMENT.replace("trials: 3", "trials: !!float '1:30.0'"),
    "int of minutes": EXPERIMENT.replace("trials: 3", "trials: !!int '1:30'"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_experiment_is_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.yaml"
    path.write_text(FILES[name])
    for command in ("sweep", "finetune"):
        check_refused(tmp_path, [command, "--config", path], str(path))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"name: \xe9", b"a: \x00", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_text_is_one_line(content, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    check_refused(tmp_path, ["sweep", "--config", path], str(path))


def test_a_change_of_what_an_alias_repeats_changes_no_other(tmp_path):
    path = tmp_path / "a.yaml"
    text = EXPERIMENT.replace("columns: {source: e}}", "columns: &c {source: e}}")
    path.write_text(
        text.replace("test: {files: away/test.jsonl}", "test: {files: away/test.jsonl, columns: *c}")
    )
    domain = load_experiment(path, ["data.out_of_domain.0.validation.columns.source=f"]).data.out_of_domain[0]
    assert (domain.validation.columns, domain.test.columns) == ({"source": "f"}, {"source": "e"})


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates()
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.data())
@settings(max_examples=60)
def test_anything_in_the_place_of_anything_is_one_line(tmp_path_factory, data):
    kind = data.draw(st.sampled_from(list(KINDS)))
    document = read_yaml(KINDS[kind][0])
    place = data.draw(st.sampled_from(paths_in(document)))
    target = document
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = data.draw(documents)
    path = tmp_path_factory.mktemp("any") / "a.yaml"
    path.write_text(write_yaml(document), encoding="utf-8")
    if message := mistake_of(KINDS[kind][1], path):
        check_line(message, str(path))


@given(st.text(alphabet="ab:-[]{},&*!|>'\"#% \n\t01.e", max_size=40))
@settings(max_examples=150)
def test_any_text_is_read_or_is_one_line(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("text") / "a.yaml"
    path.write_text(text, encoding="utf-8")
    with in_time():
        message = mistake_of(load_experiment, path)
    assert message is not None
    check_line(message, str(path))
